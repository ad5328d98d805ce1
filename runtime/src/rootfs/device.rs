//! The container's `/dev`: nodes, links and the terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor,
    mknodat, openat, symlinkat,
};
use rustix::io::Errno;

use super::MountError;
use super::mount;
use super::root::{Missing, Root};
use crate::sys;

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceSpec {
    pub(crate) path: PathBuf,
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

/// Name, major and minor of the devices every container has.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links every container has in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the default devices and links, and what `config.json` adds.
pub(crate) fn set_up(root: &Root, extra: &[DeviceSpec]) -> Result<(), MountError> {
    let dev = Path::new("/dev");
    let folder = root.plain_directory(dev).map_err(|source| {
        broken(dev, &format!("not a plain directory: {}", sys::reason(&source)))
    })?;
    for (name, major, minor) in DEFAULTS {
        let path = dev.join(name);
        let spec = DeviceSpec { path, block: false, major, minor, mode: 0o666, owner: (0, 0) };
        node(folder.as_fd(), name, &spec)?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &folder, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(broken(&dev.join(name), &reason(error))),
        }
    }
    for spec in extra {
        let (Some(parent), Some(name)) = (spec.path.parent(), spec.path.file_name()) else {
            return Err(broken(&spec.path, "not a path to a file"));
        };
        let folder = root
            .make(parent, Missing::Directory)
            .map_err(|source| broken(&spec.path, &sys::reason(&source)))?;
        node(folder.as_fd(), &name.to_string_lossy(), spec)?;
    }
    Ok(())
}

/// Opens the container's `/dev/null`, made sure to be the null device.
pub(crate) fn open_null(root: &Root, flags: OFlags) -> Result<OwnedFd, MountError> {
    let path = Path::new("/dev/null");
    let fd = root
        .open(path, flags | OFlags::NOFOLLOW)
        .map_err(|source| broken(path, &sys::reason(&source)))?;
    verify(path, fd.as_fd(), false, 1, 3)?;
    Ok(fd)
}

/// Makes a terminal in the container's own devpts and shows it as `/dev/console`: master, peer.
pub(crate) fn open_terminal(root: &Root) -> Result<(OwnedFd, OwnedFd), MountError> {
    let (master, peer) = make_terminal(root)?;
    let console = Path::new("/dev/console");
    let place = root
        .make(console, Missing::File)
        .map_err(|source| broken(console, &sys::reason(&source)))?;
    let copy = mount::clone(console, peer.as_fd(), false)?;
    mount::attach(console, copy.as_fd(), place.as_fd())?;
    Ok((master, peer))
}

/// Makes a terminal in the container's own devpts: master, peer.
pub(crate) fn make_terminal(root: &Root) -> Result<(OwnedFd, OwnedFd), MountError> {
    let path = Path::new("/dev/pts/ptmx");
    let failed = |source: io::Error| broken(path, &sys::reason(&source));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = root.open(path, flags).map_err(failed)?;
    verify(path, master.as_fd(), false, 5, 2)?;
    let peer = sys::open_terminal_peer(master.as_fd()).map_err(failed)?;
    Ok((master, peer))
}

fn node(folder: BorrowedFd<'_>, name: &str, spec: &DeviceSpec) -> Result<(), MountError> {
    let kind = if spec.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(spec.mode);
    let device = makedev(spec.major, spec.minor);
    let fail = |error: Errno| broken(&spec.path, &reason(error));
    match mknodat(folder, name, kind, mode, device) {
        Ok(()) => {
            // The mask of this process took bits away.
            chmodat(folder, name, mode, AtFlags::empty()).map_err(fail)?;
            if spec.owner != (0, 0) {
                let (uid, gid) = (Uid::from_raw(spec.owner.0), Gid::from_raw(spec.owner.1));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(folder, name, Some(uid), Some(gid), flags).map_err(fail)?;
            }
        }
        Err(Errno::EXIST) => {}
        Err(error) => return Err(fail(error)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(folder, name, flags, Mode::empty()).map_err(fail)?;
    verify(&spec.path, made.as_fd(), spec.block, spec.major, spec.minor)
}

fn verify(
    path: &Path,
    fd: BorrowedFd<'_>,
    block: bool,
    wanted_major: u32,
    wanted_minor: u32,
) -> Result<(), MountError> {
    let stat = fstat(fd).map_err(|error| broken(path, &reason(error)))?;
    let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let right = FileType::from_raw_mode(stat.st_mode) == kind
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (wanted_major, wanted_minor);
    if right { Ok(()) } else { Err(broken(path, "there is something else of that name")) }
}

fn broken(path: &Path, reason: &str) -> MountError {
    MountError::Device { path: path.to_owned(), reason: reason.to_owned() }
}

fn reason(error: Errno) -> String {
    sys::reason(&error.into())
}
