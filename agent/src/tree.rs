//! Folder trees by file descriptor: nothing here follows a path out of the folder that it was given.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a folder below `root`; symlinks in the path are followed as if `root` were `/`. Empty is `root` itself.
pub(crate) fn open_folder(root: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open_in(root, path, FOLDER)
}

/// Opens a path below `root` as [`open_folder`] does, with flags of one's own.
pub(crate) fn open_in(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere disturbed the walk.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// Opens a folder by a plain path, for use as a root.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// Opens a folder that lies directly in `parent` and is no symlink.
pub(crate) fn open_child(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?)
}

/// The times of what was looked at, to be given to something else.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// What lies in `parent` under a name; `None` when nothing does.
pub(crate) fn kind(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The names in a folder, without `.` and `..`.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Deeper trees are taken apart in pieces, so that neither the stack nor the table of open files runs out.
const DEEPEST: usize = 100;

/// Removes whatever lies in `parent` under a name, with all that is in it. Nothing there is fine.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut deep = Vec::new();
    remove_level(parent, parent, name, 0, &mut deep)?;
    while let Some(name) = deep.pop() {
        remove_level(parent, parent, &name, 0, &mut deep)?;
    }
    Ok(())
}

/// Folders that lie too deep are moved up into `base`, to be removed from there.
fn remove_level(
    base: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &[u8],
    depth: usize,
    deep: &mut Vec<Vec<u8>>,
) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    if depth == DEEPEST {
        let moved = crate::durable::unfinished(Path::new("")).into_os_string().into_encoded_bytes();
        rustix::fs::renameat(parent, name, base, moved.as_slice())?;
        deep.push(moved);
        return Ok(());
    }
    let folder = open_child(parent, name)?;
    for inner in names(&folder)? {
        remove_level(base, folder.as_fd(), &inner, depth + 1, deep)?;
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a folder or file by path. Nothing there is fine.
pub(crate) fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a root folder is not removed"));
    };
    match open_root(parent) {
        Ok(parent) => remove(parent.as_fd(), name.as_encoded_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a file, or all files below a folder, hold; links are not followed, and what cannot be read counts nothing.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| bytes_of(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_deep_tree_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let top = open_root(folder.path()).unwrap();
        rustix::fs::mkdirat(&top, "tree", Mode::from_raw_mode(0o755)).unwrap();
        let mut current = open_child(top.as_fd(), b"tree").unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&current, "d", Mode::from_raw_mode(0o755)).unwrap();
            current = open_child(current.as_fd(), b"d").unwrap();
        }
        drop(current);
        remove_path(&folder.path().join("tree")).unwrap();
        assert!(names(&top).unwrap().is_empty());
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kept")).unwrap();
        std::fs::write(folder.path().join("kept/file"), "x").unwrap();
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        std::os::unix::fs::symlink("../kept", folder.path().join("gone/link")).unwrap();
        remove_path(&folder.path().join("gone")).unwrap();
        assert!(!folder.path().join("gone").exists());
        assert!(folder.path().join("kept/file").exists());
    }
}
