//! Roots at a path of the host, for containers that mount a part of them; and what is left of such after a crash.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};

use super::BuildError;
use super::snapshot::Snapshot;

/// Where this thread's mounts are listed.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// Mounts layers below `folder` and tells where. What is written there changes none of them.
pub(super) fn attach(folder: &Path, layers: &[PathBuf]) -> Result<PathBuf, BuildError> {
    let root = Snapshot::make(folder, layers)?.root()?;
    let place = folder.join("root");
    fs::create_dir_all(&place).map_err(BuildError::disk("make", &place))?;
    move_mount(root, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| BuildError::disk("mount at", &place)(error.into()))?;
    Ok(place)
}

/// Takes everything away that is mounted below a folder, the innermost first.
pub(super) fn detach_all(folder: &Path) -> Result<(), BuildError> {
    let listed = fs::read(MOUNTS).map_err(BuildError::disk("read", MOUNTS))?;
    let folder = fs::canonicalize(folder).map_err(BuildError::disk("look at", folder))?;
    let points = listed.split(|byte| *byte == b'\n').filter_map(mount_point);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(&folder)).collect();
    below.reverse();
    for point in below {
        match umount2(&point, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(BuildError::disk("unmount", point)(errno.into())),
        }
    }
    Ok(())
}

/// Removes a folder, with everything that is mounted in it taken away before.
pub(super) fn remove(folder: &Path) -> Result<(), BuildError> {
    match detach_all(folder) {
        Err(BuildError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => crate::tree::remove_path(folder).map_err(BuildError::disk("remove", folder)),
    }
}

/// The fifth field of a line; blanks and the like are written in octal there.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::new();
    let mut rest = field;
    while let [first, more @ ..] = rest {
        let octal = (*first == b'\\').then(|| more.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(byte);
            rest = &more[3..];
        } else {
            path.push(*first);
            rest = more;
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_blanks() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402/x rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some("/mnt 2/x".into()));
        assert_eq!(mount_point(b""), None);
    }
}
