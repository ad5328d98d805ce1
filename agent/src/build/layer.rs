//! Turns what changed in a root into a layer's archive: names in order, whiteouts, whole seconds.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, Stat};
use tar::EntryType;

use super::archive::{self, Entry};
use super::attribute::{self, Attributes};
use super::path;
use crate::tree;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Something in the folder of changes.
#[derive(Debug)]
struct Change {
    path: Vec<u8>,
    stat: Stat,
    attributes: Attributes,
    opaque: bool,
    /// A folder that is as it was below: it counts only for what is in it.
    same: bool,
}

/// Writes the changes in `upper` as an archive. `before` is the root without them. Times after `latest` become that.
pub(super) fn write(
    upper: &OwnedFd,
    before: &OwnedFd,
    latest: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut changes = gather(upper, before)?;
    drop_same(&mut changes);
    let mut links = HashMap::new();
    for change in &changes {
        let written = write_one(upper, change, latest, &mut links, out);
        written.map_err(|error| {
            io::Error::new(error.kind(), format!("`/{}`: {error}", path::shown(&change.path)))
        })?;
    }
    archive::finish(out)
}

/// All changes, folders before what is in them, names in order.
fn gather(upper: &OwnedFd, before: &OwnedFd) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut ahead = sorted(upper, b"")?.into_iter().map(|name| (name, false)).collect::<Vec<_>>();
    while let Some((path, fresh)) = ahead.pop() {
        let Some(stat) = path::stat(upper, &path)? else { continue };
        let mut change = Change { path, stat, attributes: Vec::new(), opaque: false, same: false };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let folder = path::open(upper, &change.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                change.attributes = attribute::read(&folder)?;
                change.opaque = attribute::is_opaque(&folder)?;
                let below = if fresh || change.opaque { None } else { below(before, &change)? };
                change.same = below == Some(true);
                let inner = sorted(upper, &change.path)?;
                ahead.extend(inner.into_iter().map(|path| (path, below.is_none())));
            }
            FileType::RegularFile => {
                let file = path::open(upper, &change.path, OFlags::RDONLY)?;
                change.attributes = attribute::read(&file)?;
            }
            _ => {}
        }
        changes.push(change);
    }
    Ok(changes)
}

/// Whether a folder is as it was before; nothing where it was not.
fn below(before: &OwnedFd, change: &Change) -> io::Result<Option<bool>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = match path::open(before, &change.path, flags) {
        Ok(folder) => folder,
        Err(error) if is_no_folder(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (old, new) = (rustix::fs::fstat(&folder)?, &change.stat);
    let same = (old.st_mode, old.st_uid, old.st_gid) == (new.st_mode, new.st_uid, new.st_gid);
    Ok(Some(same && attribute::read(&folder)? == change.attributes))
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Paths in a folder, the last name first: they are taken from the end.
fn sorted(root: &OwnedFd, folder: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let opened = path::open(root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = tree::names(opened.as_fd())?;
    names.sort_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| path::join(folder, &name)).collect())
}

/// Folders in which nothing changed were only looked into.
fn drop_same(changes: &mut Vec<Change>) {
    let mut needed = HashSet::new();
    let mut kept = Vec::new();
    for change in std::mem::take(changes).into_iter().rev() {
        if change.same && !needed.contains(&change.path) {
            continue;
        }
        needed.insert(path::split(&change.path).0.to_vec());
        kept.push(change);
    }
    kept.reverse();
    *changes = kept;
}

fn write_one(
    upper: &OwnedFd,
    change: &Change,
    latest: Option<u64>,
    links: &mut HashMap<(u64, u64), Vec<u8>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let stat = &change.stat;
    let time = u64::try_from(stat.st_mtime).unwrap_or(0);
    let mut entry = Entry {
        path: &change.path,
        kind: EntryType::Regular,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: latest.map_or(time, |latest| time.min(latest)),
        size: 0,
        attributes: &change.attributes,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let named = [change.path.as_slice(), b"/"].concat();
            let folder = Entry { path: &named, kind: EntryType::Directory, ..entry };
            archive::append(out, &folder, &mut io::empty())?;
            let mark = path::join(&change.path, OPAQUE);
            if change.opaque { append_mark(&mark, folder.mtime, out) } else { Ok(()) }
        }
        FileType::RegularFile => {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = links.get(&identity) {
                let link = Entry { kind: EntryType::Link, link: first, ..entry };
                return archive::append(out, &link, &mut io::empty());
            }
            if stat.st_nlink > 1 {
                links.insert(identity, change.path.clone());
            }
            entry.size = u64::try_from(stat.st_size).unwrap_or(0);
            let mut file = File::from(path::open(upper, &change.path, OFlags::RDONLY)?);
            archive::append(out, &entry, &mut file)
        }
        FileType::Symlink => {
            let (folder, name) = path::split(&change.path);
            let folder = path::open(upper, folder, OFlags::PATH | OFlags::DIRECTORY)?;
            let target = rustix::fs::readlinkat(&folder, name, Vec::new())?.into_bytes();
            let link = Entry { kind: EntryType::Symlink, link: &target, mode: 0o777, ..entry };
            archive::append(out, &link, &mut io::empty())
        }
        FileType::Fifo => {
            let fifo = Entry { kind: EntryType::Fifo, ..entry };
            archive::append(out, &fifo, &mut io::empty())
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => {
            let (folder, name) = path::split(&change.path);
            let mark = path::join(folder, &[WHITEOUT, name].concat());
            append_mark(&mark, entry.mtime, out)
        }
        // Its program is gone, and nobody could ever connect to it.
        FileType::Socket => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "an image cannot have a device; containers get theirs when they are run",
        )),
    }
}

/// An empty file whose name says something of the layers below.
fn append_mark(path: &[u8], mtime: u64, out: &mut dyn Write) -> io::Result<()> {
    let (kind, link, attributes) = (EntryType::Regular, &b""[..], &[][..]);
    let mark = Entry { path, kind, link, mode: 0, uid: 0, gid: 0, mtime, size: 0, attributes };
    archive::append(out, &mark, &mut io::empty())
}
