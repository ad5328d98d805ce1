//! Copies a folder as it is: owners, modes, times, attributes, symlinks and hard links.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};

use crate::tree;

/// Copies everything in `source` into the empty folder `target`, and the folder's own owner and mode. False when there
/// was nothing in it.
pub(super) fn folder(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<bool> {
    let mut copy = Copy { target, links: HashMap::new() };
    copy.folder(source, target, &[])
}

struct Copy<'a> {
    target: BorrowedFd<'a>,
    /// Where the first name of a file with several names lies in the target, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copy<'_> {
    fn folder(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &[u8],
    ) -> io::Result<bool> {
        let names = tree::names(source)?;
        for name in &names {
            let inner = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
            self.entry(source, target, name, &inner).map_err(|error| {
                let place = String::from_utf8_lossy(&inner).into_owned();
                io::Error::new(error.kind(), format!("`{place}`: {error}"))
            })?;
        }
        let stat = rustix::fs::fstat(source)?;
        copy_attributes(source, target)?;
        set_owner_and_mode(target, &stat)?;
        rustix::fs::futimens(target, &tree::times(&stat))?;
        Ok(!names.is_empty())
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?;
            let (from, to) = (tree::open_child(source, name)?, tree::open_child(target, name)?);
            self.folder(from.as_fd(), to.as_fd(), path)?;
            return Ok(());
        }
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                let first = first.as_slice();
                rustix::fs::linkat(self.target, first, target, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert(identity, path.to_vec());
        }
        match kind {
            FileType::RegularFile => file(source, target, name, &stat),
            FileType::Symlink => {
                let leads_to = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(leads_to.as_c_str(), target, name)?;
                set_by_name(target, name, &stat)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(target, name, FileType::Fifo, mode, 0)?;
                set_by_name(target, name, &stat)?;
                Ok(rustix::fs::chmodat(target, name, mode, AtFlags::empty())?)
            }
            // Devices, whiteouts and sockets are nothing that a volume could keep.
            _ => {
                self.links.remove(&identity);
                Ok(())
            }
        }
    }
}

fn file(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) -> io::Result<()> {
    let shared = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = rustix::fs::openat(source, name, OFlags::RDONLY | shared, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | shared;
    let write = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
    let (mut read, mut write) = (File::from(read), File::from(write));
    io::copy(&mut read, &mut write)?;
    // The owner before the attributes and the mode: a change of owner takes both away.
    set_owner_and_mode(write.as_fd(), stat)?;
    copy_attributes(read.as_fd(), write.as_fd())?;
    rustix::fs::futimens(&write, &tree::times(stat))?;
    Ok(())
}

fn set_owner_and_mode(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode))?;
    Ok(())
}

fn set_by_name(parent: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
    rustix::fs::utimensat(parent, name, &tree::times(stat), flags)?;
    Ok(())
}

fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = vec![0_u8; rustix::fs::flistxattr_query(source)?];
    let length = rustix::fs::flistxattr(source, list.as_mut_slice())?;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // `trusted.` is overlayfs's own, and the host's policy labels files by itself.
        if name.starts_with(b"trusted.") || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0_u8; rustix::fs::fgetxattr_query(source, name)?];
        let length = rustix::fs::fgetxattr(source, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
