//! Unpacks one layer into a folder of its own, in the form that overlayfs stacks.
//!
//! A layer is foreign input and this runs as root, so nothing here trusts a path: names are cut into components,
//! `..` is refused, and each folder is opened with `openat2(RESOLVE_IN_ROOT)`, so that neither a symlink in the layer
//! nor a hard link can reach outside. Device nodes are left out (a container gets its devices from the runtime), and
//! so are the kernel's own overlay attributes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::EntryType;

use super::entry::{Meta, Pending};
use crate::tree;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
const RESERVED_WHITEOUT: &[u8] = b".wh..wh.";
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const COPY_BUFFER: usize = 128 << 10;
/// A layer with more entries is made to use up the disk's room for names.
const MOST_ENTRIES: u64 = 2_000_000;

/// Unpacks an uncompressed tar stream into the folder `root`, which is empty.
pub(super) fn unpack(stream: impl Read, root: OwnedFd) -> io::Result<()> {
    unpack_entries(stream, Layer::new(root), None)
}

/// Unpacks an archive that is no layer into a folder: whiteouts are names as any other. All that is in it can be given to
/// one owner.
pub(crate) fn unpack_archive(
    stream: impl Read,
    root: OwnedFd,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    unpack_entries(stream, Layer { hides: false, ..Layer::new(root) }, owner)
}

fn unpack_entries(
    stream: impl Read,
    mut layer: Layer,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(stream);
    let mut pending = Pending::default();
    let mut count = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        count += 1;
        if count > MOST_ENTRIES {
            return Err(refused(&format!("it has more than {MOST_ENTRIES} entries")));
        }
        if pending.absorb(&mut entry)? {
            continue;
        }
        let mut meta = pending.describe(&entry)?;
        if let Some(owner) = owner {
            (meta.uid, meta.gid) = owner;
        }
        let kind = entry.header().entry_type();
        layer.add(&meta, kind, &mut entry).map_err(|error| {
            let name = String::from_utf8_lossy(&meta.path).into_owned();
            io::Error::new(error.kind(), format!("entry `{name}`: {error}"))
        })?;
    }
    layer.finish()
}

/// A name's components, without empty ones and `.`; `..` is refused.
fn components(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused("its name leads upwards")),
            part if part.contains(&0) => return Err(refused("its name contains a zero byte")),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

struct Layer {
    root: OwnedFd,
    /// Whether some names hide what is in the layers below.
    hides: bool,
    /// The folder of the last entry: archives name files folder by folder.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Folders get their times last, when nothing is written into them any more.
    folders: HashMap<Vec<u8>, Timestamps>,
    /// Whiteouts by folder: an opaque folder must not contain any, or readdir shows them.
    whiteouts: HashMap<Vec<u8>, HashSet<Vec<u8>>>,
    opaque: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Layer {
    fn new(root: OwnedFd) -> Self {
        Self {
            root,
            hides: true,
            last: None,
            folders: HashMap::new(),
            whiteouts: HashMap::new(),
            opaque: HashSet::new(),
            buffer: vec![0; COPY_BUFFER],
        }
    }

    fn add(&mut self, meta: &Meta, kind: EntryType, content: &mut impl Read) -> io::Result<()> {
        let parts = components(&meta.path)?;
        let Some((name, folder)) = parts.split_last() else {
            return self.root_folder(meta, kind);
        };
        let folder = folder.join(&b'/');
        if self.hides
            && let Some(hidden) = name.strip_prefix(WHITEOUT)
        {
            return self.white_out(&folder, name, hidden);
        }
        match kind {
            EntryType::Directory => self.folder(&folder, name, meta),
            EntryType::Regular | EntryType::Continuous => self.file(&folder, name, meta, content),
            EntryType::Symlink => self.symlink(&folder, name, meta),
            EntryType::Link => self.hard_link(&folder, name, meta),
            EntryType::Fifo => self.fifo(&folder, name, meta),
            EntryType::Char | EntryType::Block => {
                tracing::debug!(name = %String::from_utf8_lossy(&meta.path), "left out a device");
                Ok(())
            }
            other => Err(refused(&format!("its kind {:?} is unknown", other.as_byte() as char))),
        }
    }

    /// An archive may describe its own root.
    fn root_folder(&mut self, meta: &Meta, kind: EntryType) -> io::Result<()> {
        if kind != EntryType::Directory {
            return Err(refused("it has no name"));
        }
        // A folder into which files are put stays as it is.
        if !self.hides {
            return Ok(());
        }
        let root = tree::open_folder(&self.root, b"")?;
        set_owner_and_mode(&root, meta)?;
        set_xattrs(&root, meta)?;
        self.folders.insert(Vec::new(), times(meta));
        Ok(())
    }

    /// Opens a folder of the layer, making what is missing of it.
    fn open(&mut self, folder: &[u8]) -> io::Result<&OwnedFd> {
        let known = self.last.as_ref().is_some_and(|(name, _)| name == folder);
        if !known {
            let opened = match tree::open_folder(&self.root, folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_folders(folder)?
                }
                other => other?,
            };
            self.last = Some((folder.to_vec(), opened));
        }
        let (_, opened) = self.last.as_ref().expect("set just above");
        Ok(opened)
    }

    fn make_folders(&self, folder: &[u8]) -> io::Result<OwnedFd> {
        let mut current = tree::open_folder(&self.root, b"")?;
        let mut path = Vec::new();
        for part in folder.split(|byte| *byte == b'/') {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            current = match tree::open_folder(&self.root, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&current, part, Mode::from_raw_mode(0o755))?;
                    tree::open_folder(&self.root, &path)?
                }
                other => other?,
            };
        }
        Ok(current)
    }

    /// Removes what an earlier entry of the same layer left under this name. True when it was a whiteout.
    fn clear(&mut self, folder: &[u8], name: &[u8]) -> io::Result<bool> {
        let was_whiteout = self.whiteouts.get_mut(folder).is_some_and(|hidden| hidden.remove(name));
        let parent = self.open(folder)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => Ok(was_whiteout),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(rustix::io::Errno::ISDIR) => {
                tree::remove(parent.as_fd(), name)?;
                let prefix = join(folder, name);
                let inside = |path: &[u8]| {
                    path.strip_prefix(prefix.as_slice())
                        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
                };
                self.last = None;
                self.folders.retain(|path, _| !inside(path));
                self.whiteouts.retain(|path, _| !inside(path));
                self.opaque.retain(|path| !inside(path));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes something new under a name, by a call that fails where the name is taken. Mostly it is free; else what has it
    /// goes first.
    fn make<T>(
        &mut self,
        folder: &[u8],
        name: &[u8],
        make: impl Fn(&OwnedFd) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        match make(self.open(folder)?) {
            Err(rustix::io::Errno::EXIST) => {}
            made => return Ok(made?),
        }
        self.clear(folder, name)?;
        Ok(make(self.open(folder)?)?)
    }

    fn folder(&mut self, folder: &[u8], name: &[u8], meta: &Meta) -> io::Result<()> {
        let path = join(folder, name);
        let parent = self.open(folder)?;
        let is_folder = tree::kind(parent.as_fd(), name)? == Some(FileType::Directory);
        if !is_folder {
            let was_whiteout = self.clear(folder, name)?;
            rustix::fs::mkdirat(self.open(folder)?, name, Mode::from_raw_mode(0o700))?;
            if was_whiteout {
                self.make_opaque(&path)?;
            }
        }
        let made = tree::open_child(self.open(folder)?.as_fd(), name)?;
        set_owner_and_mode(&made, meta)?;
        set_xattrs(&made, meta)?;
        self.folders.insert(path, times(meta));
        Ok(())
    }

    fn file(
        &mut self,
        folder: &[u8],
        name: &[u8],
        meta: &Meta,
        content: &mut impl Read,
    ) -> io::Result<()> {
        // Old archives mark a folder by a slash at the end of a regular file's name.
        if meta.path.ends_with(b"/") {
            return self.folder(folder, name, meta);
        }
        let mut file = File::from(self.make(folder, name, |parent| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::openat(parent, name, flags | OFlags::CLOEXEC, mode)
        })?);
        loop {
            let length = content.read(&mut self.buffer)?;
            if length == 0 {
                break;
            }
            file.write_all(&self.buffer[..length])?;
        }
        set_owner_and_mode(&file, meta)?;
        set_xattrs(&file, meta)?;
        rustix::fs::futimens(&file, &times(meta))?;
        Ok(())
    }

    fn symlink(&mut self, folder: &[u8], name: &[u8], meta: &Meta) -> io::Result<()> {
        let target = OsStr::from_bytes(&meta.link);
        self.make(folder, name, |parent| rustix::fs::symlinkat(target, parent, name))?;
        set_owner_by_name(self.open(folder)?, name, meta)
    }

    fn fifo(&mut self, folder: &[u8], name: &[u8], meta: &Meta) -> io::Result<()> {
        self.clear(folder, name)?;
        let parent = self.open(folder)?;
        let mode = Mode::from_raw_mode(meta.mode);
        rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
        set_owner_by_name(parent, name, meta)?;
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        Ok(())
    }

    fn hard_link(&mut self, folder: &[u8], name: &[u8], meta: &Meta) -> io::Result<()> {
        let target = components(&meta.link)?;
        let Some((target_name, target_folder)) = target.split_last() else {
            return Err(refused("it links to the root folder"));
        };
        if join(&target_folder.join(&b'/'), target_name) == join(folder, name) {
            return Ok(());
        }
        let from = tree::open_folder(&self.root, &target_folder.join(&b'/'))?;
        match tree::kind(from.as_fd(), target_name)? {
            Some(FileType::RegularFile | FileType::Symlink | FileType::Fifo) => {}
            Some(_) => return Err(refused("it links to something that is no file")),
            None => return Err(refused("it links to a file that the layer does not have")),
        }
        self.clear(folder, name)?;
        let parent = self.open(folder)?;
        rustix::fs::linkat(&from, *target_name, parent, name, AtFlags::empty())?;
        Ok(())
    }

    fn white_out(&mut self, folder: &[u8], name: &[u8], hidden: &[u8]) -> io::Result<()> {
        if name == OPAQUE_WHITEOUT {
            self.open(folder)?;
            return self.make_opaque(folder);
        }
        // `.wh..wh.plnk` and the like are aufs's own notes.
        if name.starts_with(RESERVED_WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused("it hides nothing that has a name"));
        }
        if self.opaque.contains(folder) {
            return Ok(());
        }
        let parent = self.open(folder)?;
        match tree::kind(parent.as_fd(), hidden)? {
            // A whiteout speaks of the layers below, never of its own layer.
            Some(FileType::Directory) => return self.make_opaque(&join(folder, hidden)),
            Some(_) => return Ok(()),
            None => {}
        }
        let mode = Mode::empty();
        rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, mode, 0)?;
        self.whiteouts.entry(folder.to_vec()).or_default().insert(hidden.to_vec());
        Ok(())
    }

    fn make_opaque(&mut self, folder: &[u8]) -> io::Result<()> {
        let opened = tree::open_folder(&self.root, folder)?;
        rustix::fs::fsetxattr(&opened, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        for name in self.whiteouts.remove(folder).unwrap_or_default() {
            rustix::fs::unlinkat(&opened, name.as_slice(), AtFlags::empty())?;
        }
        self.opaque.insert(folder.to_vec());
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        for (folder, times) in &self.folders {
            rustix::fs::futimens(&tree::open_folder(&self.root, folder)?, times)?;
        }
        Ok(())
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: meta.mtime.1 };
    Timestamps { last_access: time, last_modification: time }
}

/// The owner first: a change of owner takes set-user-id away.
fn set_owner_and_mode(fd: impl AsFd, meta: &Meta) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(meta.mode))?;
    Ok(())
}

fn set_owner_by_name(parent: impl AsFd, name: &[u8], meta: &Meta) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags)?;
    rustix::fs::utimensat(&parent, name, &times(meta), flags)?;
    Ok(())
}

/// Attributes that only the kernel or the host's own policy may set are left out.
fn set_xattrs(fd: impl AsFd, meta: &Meta) -> io::Result<()> {
    for (name, value) in &meta.xattrs {
        if !(name.starts_with(b"user.") || name == b"security.capability")
            || name.starts_with(b"user.overlay.")
        {
            continue;
        }
        match rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
