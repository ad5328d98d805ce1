//! What a container's mounts leave in its root: empty files and folders to mount on, where there were none.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::path;
use crate::tree;

/// Where the runtime mounts something in every container.
const ALWAYS: [&str; 6] =
    ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Paths that are missing in a root and will be made to mount on, outer ones first.
pub(super) fn missing<'a>(
    root: &OwnedFd,
    targets: impl IntoIterator<Item = &'a str>,
) -> io::Result<Vec<Vec<u8>>> {
    let mut missing = Vec::new();
    for target in ALWAYS.into_iter().chain(targets) {
        let real = path::real(root, target.as_bytes())?;
        let mut at = Vec::new();
        for part in path::parts(&real) {
            at = path::join(&at, part);
            if !missing.contains(&at) && is_missing(root, &at)? {
                missing.push(at.clone());
            }
        }
    }
    missing.sort();
    Ok(missing)
}

fn is_missing(root: &OwnedFd, at: &[u8]) -> io::Result<bool> {
    match path::stat(root, at) {
        Ok(found) => Ok(found.is_none()),
        // Below a file: the mount itself will tell.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes those of them that are still empty.
pub(super) fn remove(root: &OwnedFd, stubs: &[Vec<u8>]) -> io::Result<()> {
    for stub in stubs.iter().rev() {
        let (folder, name) = path::split(stub);
        let folder = match path::open(root, folder, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            // The program put something else there.
            Err(error) if is_elsewhere(&error) => continue,
            Err(error) => return Err(error),
        };
        let flags = match tree::kind(folder.as_fd(), name)? {
            Some(FileType::Directory) => AtFlags::REMOVEDIR,
            Some(FileType::RegularFile) => {
                let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if stat.st_size > 0 {
                    continue;
                }
                AtFlags::empty()
            }
            _ => continue,
        };
        match rustix::fs::unlinkat(&folder, name, flags) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_elsewhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
