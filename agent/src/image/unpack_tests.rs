use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tar::{Builder, Header};

use super::*;

/// Names exactly as given, also such that the tar crate itself would refuse to write.
fn header(name: &str, kind: EntryType, link: &str, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn with(mut self, name: &str, kind: EntryType, link: &str, content: &str) -> Self {
        let header = header(name, kind, link, content.len());
        self.0.append(&header, content.as_bytes()).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.with(name, EntryType::Regular, "", content)
    }

    fn folder(self, name: &str) -> Self {
        self.with(name, EntryType::Directory, "", "")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.with(name, EntryType::Symlink, target, "")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.with(name, EntryType::Link, target, "")
    }

    fn pax(mut self, records: &str) -> Self {
        let header = header("pax", EntryType::XHeader, "", records.len());
        self.0.append(&header, records.as_bytes()).unwrap();
        self
    }

    fn unpack(self, root: &Path) -> io::Result<()> {
        let bytes = self.0.into_inner().unwrap();
        unpack(bytes.as_slice(), tree::open_root(root).unwrap())
    }
}

/// A layer's folder beside a folder that nothing may touch.
struct Place {
    _outer: tempfile::TempDir,
    layer: std::path::PathBuf,
    outside: std::path::PathBuf,
}

fn place() -> Place {
    let outer = tempfile::tempdir().unwrap();
    let (layer, outside) = (outer.path().join("layer"), outer.path().join("outside"));
    fs::create_dir(&layer).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "secret").unwrap();
    Place { _outer: outer, layer, outside }
}

impl Place {
    fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.outside).unwrap().collect();
        assert_eq!(names.len(), 1, "something was made outside");
        assert_eq!(fs::read_to_string(self.outside.join("kept")).unwrap(), "secret");
        assert_eq!(fs::metadata(self.outside.join("kept")).unwrap().nlink(), 1);
        let beside = fs::read_dir(self.outside.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 2, "something was made beside the layer");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.layer.join(name)).unwrap()
    }
}

fn opaque(path: &Path) -> bool {
    let folder = tree::open_root(path).unwrap();
    rustix::fs::fgetxattr_query(&folder, OPAQUE_XATTR).is_ok()
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn files_keep_what_they_are() {
    let place = place();
    let mut archive = Archive::new().folder("./").folder("bin/").file("bin/tool", "body");
    let mut special = header("bin/su", EntryType::Regular, "", 1);
    special.set_mode(0o4755);
    special.set_uid(7);
    special.set_gid(8);
    special.set_cksum();
    archive.0.append(&special, b"x".as_slice()).unwrap();
    archive
        .hard_link("bin/again", "bin/tool")
        .symlink("sh", "bin/tool")
        .with("pipe", EntryType::Fifo, "", "")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read("sh"), "body");
    let su = fs::metadata(place.layer.join("bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o4755, 7, 8));
    assert_eq!(su.mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(place.layer.join("bin")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(place.layer.join("bin/again")).unwrap().nlink(), 2);
    assert!(fs::metadata(place.layer.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_link(place.layer.join("sh")).unwrap(), Path::new("bin/tool"));
}

#[test]
fn names_that_lead_upwards_are_refused() {
    for name in ["../outside/new", "a/../../outside/new", "..", "a/..", ".wh...", ".wh.."] {
        let place = place();
        let result = Archive::new().file(name, "x").unpack(&place.layer);
        assert!(result.is_err(), "`{name}` was taken");
        place.assert_untouched();
    }
}

#[test]
fn absolute_names_stay_inside() {
    let place = place();
    let outside = place.outside.join("new");
    let name = outside.to_str().unwrap();
    Archive::new().file(name, "x").file("//top", "y").unpack(&place.layer).unwrap();
    assert_eq!(place.read(name.trim_start_matches('/')), "x");
    assert_eq!(place.read("top"), "y");
    place.assert_untouched();
}

#[test]
fn symlinks_do_not_lead_outside() {
    let place = place();
    let outside = place.outside.to_str().unwrap();
    // Absolute, and relative upwards: both end inside of the layer, where there is no such folder.
    for target in [outside, "../outside", "../../../../../../../../tmp"] {
        let result =
            Archive::new().symlink("door", target).file("door/new", "x").unpack(&place.layer);
        assert!(result.is_err(), "wrote through a link to {target}");
        place.assert_untouched();
    }
    // Over a symlink, a file replaces the link itself.
    Archive::new()
        .symlink("kept", &format!("{outside}/kept"))
        .file("kept", "mine")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read("kept"), "mine");
    place.assert_untouched();
    // A link inside of the layer is followed as the container would.
    Archive::new()
        .folder("real")
        .symlink("alias", "/real")
        .file("alias/file", "in")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read("real/file"), "in");
}

#[test]
fn a_folder_over_a_symlink_replaces_it() {
    let place = place();
    let outside = place.outside.to_str().unwrap();
    Archive::new()
        .symlink("door", outside)
        .folder("door")
        .file("door/new", "x")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read("door/new"), "x");
    assert!(!fs::symlink_metadata(place.layer.join("door")).unwrap().is_symlink());
    place.assert_untouched();
}

#[test]
fn hard_links_do_not_lead_outside() {
    let outside = place();
    let absolute = outside.outside.join("kept");
    for target in ["../outside/kept", absolute.to_str().unwrap(), "missing", "/", ""] {
        let place = place();
        let result = Archive::new().hard_link("stolen", target).unpack(&place.layer);
        assert!(result.is_err(), "linked to `{target}`");
        place.assert_untouched();
    }
    let place = place();
    let kept = place.outside.join("kept");
    symlink(kept.parent().unwrap(), place.layer.join("door")).unwrap();
    let result = Archive::new().hard_link("stolen", "door/kept").unpack(&place.layer);
    assert!(result.is_err());
    place.assert_untouched();
    // To a symlink: the link itself gets a second name, what it points at is not touched.
    Archive::new()
        .symlink("pointer", kept.to_str().unwrap())
        .hard_link("second", "pointer")
        .unpack(&place.layer)
        .unwrap();
    assert!(fs::symlink_metadata(place.layer.join("second")).unwrap().is_symlink());
    place.assert_untouched();
}

#[test]
fn devices_are_left_out() {
    let place = place();
    Archive::new()
        .with("null", EntryType::Char, "", "")
        .with("disk", EntryType::Block, "", "")
        .file("after", "x")
        .unpack(&place.layer)
        .unwrap();
    assert!(!place.layer.join("null").exists());
    assert!(!place.layer.join("disk").exists());
    assert_eq!(place.read("after"), "x");
}

#[test]
fn whiteouts_become_overlay_whiteouts() {
    let place = place();
    Archive::new()
        .file("etc/.wh.gone", "")
        .file(".wh..wh.plnk", "")
        .folder("data")
        .file("data/.wh.x", "")
        .file("data/.wh..wh..opq", "")
        .file("data/.wh.y", "")
        .file("data/z", "new")
        .unpack(&place.layer)
        .unwrap();
    assert!(is_whiteout(&place.layer.join("etc/gone")));
    assert!(opaque(&place.layer.join("data")));
    // The kernel lists whiteouts inside of an opaque folder, so there must be none.
    let names: Vec<_> = fs::read_dir(place.layer.join("data")).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(place.read("data/z"), "new");
    assert_eq!(fs::read_dir(&place.layer).unwrap().count(), 2);
}

#[test]
fn a_whiteout_speaks_of_the_layers_below_only() {
    let place = place();
    Archive::new()
        .folder("before")
        .file("before/kept", "1")
        .file(".wh.before", "")
        .file(".wh.after", "")
        .folder("after")
        .file("after/kept", "2")
        .file("file", "3")
        .file(".wh.file", "")
        .unpack(&place.layer)
        .unwrap();
    assert!(opaque(&place.layer.join("before")));
    assert!(opaque(&place.layer.join("after")));
    assert_eq!(place.read("before/kept") + &place.read("after/kept") + &place.read("file"), "123");
}

#[test]
fn pax_records_describe_the_next_entry() {
    let place = place();
    let long = "d/".repeat(80) + "file";
    let path = format!("path={long}\n");
    let path = format!("{} {path}", path.len() + 4);
    Archive::new()
        .pax(&format!("{path}30 SCHILY.xattr.user.note=a\nb\n31 SCHILY.xattr.trusted.x=evil\n"))
        .file("short", "x")
        .file("next", "y")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read(&long), "x");
    assert_eq!(place.read("next"), "y");
    let file = fs::File::open(place.layer.join(&long)).unwrap();
    let mut value = [0_u8; 8];
    let length = rustix::fs::fgetxattr(&file, "user.note", value.as_mut_slice()).unwrap();
    assert_eq!(&value[..length], b"a\nb");
    assert!(rustix::fs::fgetxattr_query(&file, "trusted.x").is_err());
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let place = place();
    Archive::new()
        .folder("a")
        .file("a/old", "1")
        .file("a", "now a file")
        .file("b", "1")
        .folder("b")
        .file("b/new", "2")
        .unpack(&place.layer)
        .unwrap();
    assert_eq!(place.read("a"), "now a file");
    assert_eq!(place.read("b/new"), "2");
}

#[test]
fn broken_archives_end_with_an_error() {
    let whole = Archive::new().file("a", &"x".repeat(2000)).0.into_inner().unwrap();
    for length in [100, 600, 1500] {
        let place = place();
        let root = tree::open_root(&place.layer).unwrap();
        assert!(unpack(&whole[..length], root).is_err(), "took {length} bytes");
    }
    let place = place();
    let odd = Archive::new().with("odd", EntryType::GNUSparse, "", "");
    assert!(odd.unpack(&place.layer).is_err());
    let permissions = fs::metadata(&place.layer).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o755);
}

#[test]
fn whiteouts_do_not_lead_outside() {
    for (link, mark) in [
        ("../outside", "door/.wh.kept"),
        ("../outside", "door/.wh..wh..opq"),
        ("/", "door/outside/.wh.kept"),
        ("/proc/self/root", "door/.wh.tmp"),
        (".", "door/../.wh.outside"),
        ("a", "door/.wh..."),
    ] {
        let place = place();
        let outside = place.outside.to_str().unwrap().to_owned();
        // It may be refused, or hide a name inside of the layer: never anything else.
        let absolute = Archive::new().symlink("door", &outside).file(mark, "").unpack(&place.layer);
        place.assert_untouched();
        let other = self::place();
        let relative = Archive::new().symlink("door", link).file(mark, "").unpack(&other.layer);
        other.assert_untouched();
        let upwards = mark.contains("../") || mark.ends_with(".wh...");
        assert!(!upwards || (absolute.is_err() && relative.is_err()), "{mark} was taken");
    }
}

#[test]
fn hard_links_through_symlinks_stay_inside() {
    for target in ["../outside", "/proc/self/cwd", "/proc/self/root/tmp"] {
        let place = place();
        let outside = place.outside.to_str().unwrap().to_owned();
        for link in [target, outside.as_str()] {
            // The file that is linked to lies behind a symlink; then the name that it gets does.
            let from = Archive::new().symlink("door", link).hard_link("stolen", "door/kept");
            assert!(from.unpack(&place.layer).is_err(), "through a link to {link}");
            place.assert_untouched();
            let to = Archive::new().file("mine", "x").symlink("way", link);
            assert!(to.hard_link("way/mine", "mine").unpack(&place.layer).is_err());
            place.assert_untouched();
        }
    }
    // A second name of a symlink leads no further than the first.
    let place = place();
    let link = Archive::new().symlink("door", "../outside").hard_link("other", "door");
    assert!(link.file("other/new", "x").unpack(&place.layer).is_err());
    place.assert_untouched();
}

#[test]
fn links_that_lead_to_themselves_end_with_an_error() {
    let place = place();
    let archive = Archive::new().symlink("a", "b").symlink("b", "a").file("a/file", "x");
    assert!(archive.unpack(&place.layer).is_err());
    place.assert_untouched();
}

#[test]
fn devices_have_no_second_names() {
    for kind in [EntryType::Char, EntryType::Block] {
        let place = place();
        let archive = Archive::new().with("disk", kind, "", "").hard_link("again", "disk");
        assert!(archive.unpack(&place.layer).is_err());
        assert!(!place.layer.join("again").exists());
    }
    // Neither has what a whiteout becomes: it would hide another name than the layer says.
    let place = place();
    let archive = Archive::new().file(".wh.gone", "").hard_link("again", "gone");
    assert!(archive.unpack(&place.layer).is_err());
}

#[test]
fn only_plain_attributes_are_kept() {
    let place = place();
    let mut records = String::new();
    let names = ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.opaque"];
    for name in [&names[..], &["system.posix_acl_access", "security.selinux"]].concat() {
        let record = format!("SCHILY.xattr.{name}=/\n");
        write!(records, "{} {record}", record.len() + 3).unwrap();
    }
    Archive::new().pax(&records).file("file", "x").unpack(&place.layer).unwrap();
    let file = fs::File::open(place.layer.join("file")).unwrap();
    for name in names {
        assert!(rustix::fs::fgetxattr_query(&file, name).is_err(), "{name} was set");
    }
}

#[test]
fn sizes_and_owners_out_of_range_are_refused() {
    // More than follows, and more than there is.
    for size in [1 << 20, 1 << 40, u64::MAX >> 1] {
        let place = place();
        let mut large = header("large", EntryType::Regular, "", 0);
        large.set_size(size);
        large.set_cksum();
        let bytes = [large.as_bytes().as_slice(), &[0; 2048]].concat();
        let root = tree::open_root(&place.layer).unwrap();
        assert!(unpack(bytes.as_slice(), root).is_err(), "took {size}");
    }
    for owner in [u64::from(u32::MAX), 1 << 40] {
        let place = place();
        let mut foreign = header("file", EntryType::Regular, "", 0);
        foreign.set_uid(owner);
        foreign.set_cksum();
        let mut archive = Archive::new();
        archive.0.append(&foreign, io::empty()).unwrap();
        assert!(archive.unpack(&place.layer).is_err(), "took owner {owner}");
    }
}

#[test]
fn very_long_and_deep_names_are_refused() {
    for (name, reason) in [("d/".repeat(5000), "long"), ("x".repeat(300), "long")] {
        let place = place();
        let record = format!("path={name}file\n");
        let mut length = record.len() + 2;
        while format!("{length} {record}").len() != length {
            length += 1;
        }
        let archive = Archive::new().pax(&format!("{length} {record}")).file("short", "x");
        let error = archive.unpack(&place.layer).unwrap_err().to_string();
        assert!(error.to_lowercase().contains(reason), "{error}");
        place.assert_untouched();
    }
}

/// The same header, over and over, and nothing else.
struct Endless {
    header: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (&self.header[self.at..]).read(buffer)?;
        self.at = (self.at + length) % self.header.len();
        Ok(length)
    }
}

#[test]
fn entries_without_end_are_given_up() {
    let place = place();
    let mark = header(".wh..wh.plnk", EntryType::Regular, "", 0);
    let stream = Endless { header: mark.as_bytes().to_vec(), at: 0 };
    let error = unpack(stream, tree::open_root(&place.layer).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "it has more than 2000000 entries");
}
