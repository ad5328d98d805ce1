//! Roots, copies and layers, on real overlays.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::copy::{Rules, Target};
use super::snapshot::Snapshot;
use super::walk::{self, Found};
use super::{layer, path};
use crate::tree;

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Makes a folder with files in it: what ends with a slash is a folder, what begins with `->` a link.
    fn folder(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        for (path, content) in files {
            let at = folder.join(path.trim_end_matches('/'));
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            if path.ends_with('/') {
                fs::create_dir_all(&at).unwrap();
            } else if let Some(target) = content.strip_prefix("->") {
                symlink(target, &at).unwrap();
            } else {
                fs::write(&at, content).unwrap();
            }
        }
        folder
    }

    fn snapshot(&self, name: &str, layers: &[PathBuf]) -> Snapshot {
        Snapshot::make(&self.folder.path().join(name), layers).unwrap()
    }
}

/// A path below a root that is attached nowhere.
fn at(root: &OwnedFd, path: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(root.as_raw_fd().to_string()).join(path)
}

/// Everything in an archive: kind, mode, owner, time, link or content, by its name.
fn listed(archive: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (header, name) = (entry.header().clone(), entry.path_bytes().into_owned());
        let link = entry.link_name_bytes().map(|link| path::shown(&link)).unwrap_or_default();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        lines.push(format!(
            "{} {} {:o} {}:{} {link}{content}",
            path::shown(&name),
            header.entry_type().as_byte() as char,
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
        ));
    }
    lines
}

fn packed(snapshot: &Snapshot, latest: Option<u64>) -> Vec<u8> {
    let upper = tree::open_root(&snapshot.changes()).unwrap();
    let mut archive = Vec::new();
    layer::write(&upper, &snapshot.before().unwrap(), latest, &mut archive).unwrap();
    archive
}

#[test]
fn a_layer_holds_what_changed_and_no_more() {
    let lab = Lab::new();
    let base = lab.folder(
        "base",
        &[("kept/a", "a"), ("looked/x", "x"), ("gone", "g"), ("swept/old", "o"), ("mode/m", "m")],
    );
    let snapshot = lab.snapshot("s", std::slice::from_ref(&base));
    let root = snapshot.root().unwrap();
    fs::remove_file(at(&root, "gone")).unwrap();
    fs::remove_dir_all(at(&root, "swept")).unwrap();
    fs::create_dir(at(&root, "swept")).unwrap();
    fs::write(at(&root, "swept/new"), "n").unwrap();
    fs::write(at(&root, "kept/b"), "b").unwrap();
    fs::hard_link(at(&root, "kept/b"), at(&root, "kept/c")).unwrap();
    symlink("/kept", at(&root, "link")).unwrap();
    // Looked into, and left as it was.
    fs::write(at(&root, "looked/y"), "").unwrap();
    fs::remove_file(at(&root, "looked/y")).unwrap();
    fs::set_permissions(at(&root, "mode"), fs::Permissions::from_mode(0o700)).unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    fs::create_dir(at(&root, &"d".repeat(120))).unwrap();
    fs::write(at(&root, &long), "long").unwrap();
    drop(root);
    let archive = packed(&snapshot, Some(1_000_000_000));
    let mut lines = listed(&archive);
    assert!(lines.remove(1).contains(&long), "{lines:?}");
    assert!(lines.remove(0).starts_with("dddd"));
    let expected = [
        "gone",
        "kept/ 5 755 0:0 ",
        "kept/b 0 644 0:0 b",
        "kept/c 1 644 0:0 kept/b",
        "link 2 777 0:0 /kept",
        "mode/ 5 700 0:0 ",
        "swept/ 5 755 0:0 ",
        "swept/.wh..wh..opq 0 0 0:0 ",
        "swept/new 0 644 0:0 n",
    ];
    assert_eq!(lines[0], ".wh.gone 0 0 0:0 ");
    assert_eq!(lines[1..], expected[1..]);
    assert_eq!(archive, packed(&snapshot, Some(1_000_000_000)), "the same bytes again");
}

#[test]
fn devices_are_refused_by_name() {
    let lab = Lab::new();
    let snapshot = lab.snapshot("s", &[]);
    let root = snapshot.root().unwrap();
    let device = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(&root, "null", kind, rustix::fs::Mode::from_raw_mode(0o666), device)
        .unwrap();
    drop(root);
    let upper = tree::open_root(&snapshot.changes()).unwrap();
    let before = snapshot.before().unwrap();
    let error = layer::write(&upper, &before, None, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("`/null`: an image cannot have a device"), "{error}");
}

/// Copies `source` of a context to `target`, and tells what is in the root then.
fn copied(
    context: &[(&str, &str)],
    base: &[(&str, &str)],
    (source, target, into): (&str, &str, bool),
) -> Result<BTreeMap<String, String>, String> {
    let lab = Lab::new();
    let context = lab.folder("context", context);
    let base = lab.folder("base", base);
    let source_root = tree::open_root(&context).unwrap();
    let snapshot = lab.snapshot("s", &[base]);
    let root = snapshot.root().unwrap();
    let mut to = Target::new(&root, Rules { owner: Some((7, 8)), mode: None });
    for found in walk::find(&source_root, source).map_err(|error| error.to_string())? {
        let nodes = walk::nodes(&source_root, &found, None).unwrap();
        to.put(&source_root, &found, &nodes, target.as_bytes(), into)
            .map_err(|error| error.to_string())?;
    }
    to.finish().unwrap();
    let everything = Found { named: Vec::new(), real: Vec::new() };
    let nodes = walk::nodes(&root, &everything, None).unwrap();
    let told = nodes.iter().skip(1).map(|node| {
        let name = path::shown(&node.below);
        let meta = fs::symlink_metadata(at(&root, &name)).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => {
                format!("->{}", fs::read_link(at(&root, &name)).unwrap().display())
            }
            kind if kind.is_dir() => "/".to_owned(),
            _ => fs::read_to_string(at(&root, &name)).unwrap(),
        };
        (name, format!("{content} {}:{}", meta.uid(), meta.gid()))
    });
    Ok(told.collect())
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn copies_go_where_buildkit_puts_them() {
    let file = [("f", "F")];
    let tree = [("d/a", "A"), ("d/sub/b", "B"), ("d/l", "->/etc/passwd")];
    // A file to a name, to a folder to be, into one that is there.
    assert_eq!(
        copied(&file, &[], ("f", "/x/y", false)),
        Ok(map(&[("x", "/ 7:8"), ("x/y", "F 7:8")]))
    );
    assert_eq!(copied(&file, &[], ("f", "/x", true)), Ok(map(&[("x", "/ 7:8"), ("x/f", "F 7:8")])));
    assert_eq!(
        copied(&file, &[("x/", "")], ("f", "/x", false)),
        Ok(map(&[("x", "/ 0:0"), ("x/f", "F 7:8")]))
    );
    // Of a folder the content, joined with what is there.
    let expected = [
        ("x", "/ 0:0"),
        ("x/a", "A 7:8"),
        ("x/l", "->/etc/passwd 7:8"),
        ("x/old", "O 0:0"),
        ("x/sub", "/ 7:8"),
        ("x/sub/b", "B 7:8"),
        ("x/sub/c", "C 0:0"),
    ];
    let base = [("x/old", "O"), ("x/a", "older"), ("x/sub/c", "C")];
    assert_eq!(copied(&tree, &base, ("d", "/x", false)), Ok(map(&expected)));
    // A link that a file replaces is no way to elsewhere; one at the target leads on within the root.
    let base = [("x/f", "->/y"), ("y", "Y")];
    let expected = [("x", "/ 0:0"), ("x/f", "F 7:8"), ("y", "Y 0:0")];
    assert_eq!(copied(&file, &base, ("f", "/x", false)), Ok(map(&expected)));
    let base = [("x", "->../../../../y")];
    let expected = [("x", "->../../../../y 0:0"), ("y", "/ 7:8"), ("y/f", "F 7:8")];
    assert_eq!(copied(&file, &base, ("f", "/x/f", false)), Ok(map(&expected)));
}

#[test]
fn copies_that_cannot_be_are_refused() {
    let context = [("f", "F"), ("d/x/a", "A"), ("out", "->/etc/passwd"), ("up", "->../../../etc")];
    let fails = |base: &[(&str, &str)], copy| copied(&context, base, copy).unwrap_err();
    assert!(
        fails(&[("x/f/", "")], ("f", "/x", false))
            .contains("a file cannot be copied over a folder")
    );
    assert!(fails(&[("t/x", "X")], ("d", "/t", false)).contains("a folder cannot be copied over"));
    // Links of the context lead within the context, where there is no such thing.
    assert!(fails(&[], ("out", "/x", false)).contains("`/out` is not there"));
    assert!(fails(&[], ("up/passwd", "/x", false)).contains("is not there"));
    assert!(fails(&[], ("../../../etc/passwd", "/x", false)).contains("is not there"));
}

#[test]
fn a_file_with_two_names_stays_one() {
    let lab = Lab::new();
    let context = lab.folder("context", &[("d/a", "A")]);
    fs::hard_link(context.join("d/a"), context.join("d/b")).unwrap();
    let source = tree::open_root(&context).unwrap();
    let snapshot = lab.snapshot("s", &[]);
    let root = snapshot.root().unwrap();
    let mut to = Target::new(&root, Rules::default());
    for found in walk::find(&source, "d").unwrap() {
        let nodes = walk::nodes(&source, &found, None).unwrap();
        to.put(&source, &found, &nodes, b"/", true).unwrap();
    }
    let inode = |name: &str| fs::metadata(at(&root, name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
}

#[test]
fn archives_lie_within_their_folder() {
    let lab = Lab::new();
    let folder = lab.folder("target", &[("in/", "")]);
    let outside = lab.folder("outside", &[("file", "kept")]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_size(0);
    archive.append_link(&mut link, "way", &outside).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(3);
    archive.append_data(&mut header, ".wh.x", &b"new"[..]).unwrap();
    archive.append_data(&mut header, "way/file", &b"new"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let root = tree::open_root(&folder.join("in")).unwrap();
    let done = crate::image::unpack_archive(archive.as_slice(), root, Some((3, 4)));
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
    // The link leads within the folder, where its target is not.
    done.unwrap_err();
    assert!(folder.join("in/.wh.x").exists(), "a name as any other");
}
