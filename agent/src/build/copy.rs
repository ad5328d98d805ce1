//! Puts files into a root by `BuildKit`'s rules: of a folder the content is copied, folders that are there are joined,
//! links on the way to the target are followed within the root, and those in the copied tree are copied.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use swarm_dockerfile::Mode as Permissions;

use super::owner::Owner;
use super::walk::{Found, Node, is_folder};
use super::{attribute, path};
use crate::tree;

/// What is done to everything that is copied.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// To whom files and new folders belong; without it files keep their owners.
    pub(super) owner: Option<Owner>,
    /// Their permissions; without it they keep them.
    pub(super) mode: Option<Permissions>,
}

/// A root into which files are put.
#[derive(Debug)]
pub(super) struct Target<'a> {
    root: &'a OwnedFd,
    rules: Rules,
    /// Folders get their times last, when nothing is written into them any more.
    folders: Vec<(Vec<u8>, Timestamps)>,
}

impl<'a> Target<'a> {
    pub(super) fn new(root: &'a OwnedFd, rules: Rules) -> Self {
        Self { root, rules, folders: Vec::new() }
    }

    /// Puts one thing that was found, with what is in it, to a path: into it where that is a folder, or shall be.
    pub(super) fn put(
        &mut self,
        source: &OwnedFd,
        found: &Found,
        nodes: &[Node],
        target: &[u8],
        into_folder: bool,
    ) -> io::Result<()> {
        let Some(top) = nodes.first() else { return Ok(()) };
        let from_folder = is_folder(&top.stat);
        let name = path::split(&found.named).1;
        let at = self.place(target, name, into_folder, from_folder)?;
        let mut links = HashMap::new();
        for node in nodes {
            let from = path::join(&found.real, &node.below);
            let to = path::join(&at, &node.below);
            let done = if from_folder && node.below.is_empty() {
                // The content's own folder: it is there, or was made plainly.
                Ok(())
            } else {
                self.node(source, &from, &node.stat, &to, &mut links)
            };
            done.map_err(|error| {
                io::Error::new(error.kind(), format!("`/{}`: {error}", path::shown(&to)))
            })?;
        }
        Ok(())
    }

    /// As [`Target::put`] with the folders that it lies in, but for the first ones; the target is always a folder.
    pub(super) fn put_with_parents(
        &mut self,
        source: &OwnedFd,
        found: &Found,
        nodes: &[Node],
        target: &[u8],
        left_out: usize,
    ) -> io::Result<()> {
        let Some(top) = nodes.first() else { return Ok(()) };
        drop(self.folder(target)?);
        let at = path::real(self.root, target)?;
        let (mut from, mut below, mut links) = (Vec::new(), Vec::new(), HashMap::new());
        let parts: Vec<&[u8]> = path::parts(&found.named).collect();
        for (number, part) in parts.iter().enumerate() {
            from = path::join(&from, part);
            if number < left_out {
                continue;
            }
            below = path::join(&below, part);
            let real = path::real(source, &from)?;
            let stat = path::stat(source, &real)?;
            let stat = stat.filter(|_| number + 1 < parts.len() || is_folder(&top.stat));
            if let Some(stat) = stat {
                self.node(source, &real, &stat, &path::join(&at, &below), &mut links)?;
            }
        }
        for node in nodes.iter().filter(|node| !(is_folder(&top.stat) && node.below.is_empty())) {
            let from = path::join(&found.real, &node.below);
            let to = path::join(&at, &path::join(&below, &node.below));
            self.node(source, &from, &node.stat, &to, &mut links)?;
        }
        Ok(())
    }

    /// Puts a file with this content there, as a heredoc has it.
    pub(super) fn put_content(
        &mut self,
        name: &str,
        content: &[u8],
        target: &[u8],
        into_folder: bool,
        time: i64,
    ) -> io::Result<()> {
        let at = self.place(target, name.as_bytes(), into_folder, false)?;
        let (folder, name) = path::split(&at);
        let folder = path::open(self.root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        make_way(&folder, name)?;
        let mut file = create(&folder, name)?;
        io::Write::write_all(&mut file, content)?;
        let owner = self.rules.owner.unwrap_or_default();
        set_owner_and_mode(&file, owner, self.permissions(0o644, false))?;
        let time = Timespec { tv_sec: time, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::futimens(&file, &times)?)
    }

    /// A folder to put things into, made as needed.
    pub(super) fn folder(&mut self, target: &[u8]) -> io::Result<OwnedFd> {
        let real = path::real(self.root, target)?;
        let owner = self.rules.owner.unwrap_or_default();
        path::make_folders(self.root, &real, |made, _| {
            Ok(rustix::fs::fchown(
                made,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            )?)
        })
    }

    /// Where something goes. The folder above it is there then, and the folder itself for a folder's content.
    fn place(
        &mut self,
        target: &[u8],
        name: &[u8],
        into_folder: bool,
        from_folder: bool,
    ) -> io::Result<Vec<u8>> {
        let real = path::real(self.root, target)?;
        if into_folder || from_folder {
            self.folder(target)?;
        } else {
            self.folder(path::split(&real).0)?;
        }
        if from_folder {
            return Ok(real);
        }
        let there = path::stat(self.root, &real)?.is_some_and(|stat| is_folder(&stat));
        if !there {
            return Ok(real);
        }
        // A link of that name in there is replaced, not followed.
        Ok(path::join(&real, name))
    }

    fn permissions(&self, mode: u32, is_folder: bool) -> u32 {
        match &self.rules.mode {
            Some(change) => change.apply(mode, is_folder),
            None => mode & 0o7777,
        }
    }

    fn node(
        &mut self,
        source: &OwnedFd,
        from: &[u8],
        stat: &Stat,
        to: &[u8],
        links: &mut HashMap<(u64, u64), Vec<u8>>,
    ) -> io::Result<()> {
        let owner = self.rules.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let (folder, name) = path::split(to);
        let folder = path::open(self.root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let made = join_folder(&folder, name)?;
            let of_source = path::open(source, from, OFlags::RDONLY | OFlags::DIRECTORY)?;
            set_owner_and_mode(&made, owner, self.permissions(stat.st_mode, true))?;
            attribute::write(&made, &attribute::read(&of_source)?)?;
            self.folders.push((to.to_vec(), tree::times(stat)));
            return Ok(());
        }
        make_way(&folder, name)?;
        match kind {
            FileType::RegularFile => {
                let identity = (stat.st_dev, stat.st_ino);
                if let Some(first) = links.get(&identity) {
                    return link(self.root, first, &folder, name);
                }
                if stat.st_nlink > 1 {
                    links.insert(identity, to.to_vec());
                }
                let mut read = File::from(path::open(source, from, OFlags::RDONLY)?);
                let mut file = create(&folder, name)?;
                io::copy(&mut read, &mut file)?;
                set_owner_and_mode(&file, owner, self.permissions(stat.st_mode, false))?;
                attribute::write(&file, &attribute::read(&read)?)?;
                Ok(rustix::fs::futimens(&file, &tree::times(stat))?)
            }
            FileType::Symlink => {
                let (of_link, link) = path::split(from);
                let of_link = path::open(source, of_link, OFlags::PATH | OFlags::DIRECTORY)?;
                let target = rustix::fs::readlinkat(&of_link, link, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), &folder, name)?;
                set_by_name(&folder, name, owner, stat)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(self.permissions(stat.st_mode, false));
                rustix::fs::mknodat(&folder, name, FileType::Fifo, mode, 0)?;
                rustix::fs::chmodat(&folder, name, mode, AtFlags::empty())?;
                set_by_name(&folder, name, owner, stat)
            }
            FileType::Socket => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "an image cannot have a device; containers get theirs when they are run",
            )),
        }
    }

    /// Gives folders their times.
    pub(super) fn finish(self) -> io::Result<()> {
        for (folder, times) in self.folders.iter().rev() {
            let opened = path::open(self.root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::futimens(&opened, times)?;
        }
        Ok(())
    }
}

/// The folder of that name, new or as it was.
fn join_folder(folder: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    match tree::kind(folder.as_fd(), name)? {
        None => rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))?,
        Some(FileType::Directory) => {}
        Some(_) => {
            return Err(io::Error::other("a folder cannot be copied over what is no folder"));
        }
    }
    tree::open_child(folder.as_fd(), name)
}

/// Takes away what a file replaces.
fn make_way(folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match tree::kind(folder.as_fd(), name)? {
        None => Ok(()),
        Some(FileType::Directory) => Err(io::Error::other("a file cannot be copied over a folder")),
        Some(_) => Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?),
    }
}

fn create(folder: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?))
}

fn link(root: &OwnedFd, first: &[u8], folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let (of_first, first) = path::split(first);
    let of_first = path::open(root, of_first, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(rustix::fs::linkat(&of_first, first, folder, name, AtFlags::empty())?)
}

/// The owner first: a change of it takes set-user-id away.
fn set_owner_and_mode(fd: impl AsFd, (uid, gid): Owner, mode: u32) -> io::Result<()> {
    rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?)
}

fn set_by_name(folder: &OwnedFd, name: &[u8], (uid, gid): Owner, stat: &Stat) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(folder, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
    Ok(rustix::fs::utimensat(folder, name, &tree::times(stat), flags)?)
}
