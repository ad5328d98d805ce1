//! Paths in a root that somebody else wrote: symlinks lead within it, whatever they say.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::tree;

/// As the kernel's own limit.
const MOST_LINKS: usize = 40;

/// A path's components, without empty ones and `.`.
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

/// `folder/name`; either may be empty.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder, name) {
        (b"", name) => name.to_vec(),
        (folder, b"") => folder.to_vec(),
        (folder, name) => [folder, b"/", name].concat(),
    }
}

/// Cuts the last component off.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path for people.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Where a path leads below `root` once all symlinks are followed, as if `root` were `/`. What is missing is left as it
/// is. The result has neither symlinks nor `..`, and no slash in front; empty is the root.
pub(super) fn real(root: impl AsFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let mut ahead: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
    let (mut done, mut links) = (Vec::<Vec<u8>>::new(), 0);
    while let Some(part) = ahead.pop_front() {
        if part == b".." {
            done.pop();
            continue;
        }
        let Some(target) = link_at(&root, &done.join(&b'/'), &part)? else {
            done.push(part);
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.starts_with(b"/") {
            done.clear();
        }
        for part in parts(&target).rev() {
            ahead.push_front(part.to_vec());
        }
    }
    Ok(done.join(&b'/'))
}

/// What a symlink says; nothing where there is none.
fn link_at(root: impl AsFd, folder: &[u8], name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let opened = match open(root, folder, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match rustix::fs::readlinkat(&opened, name, Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a path that has no symlinks (any more); the last component is not followed.
pub(super) fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    tree::open_in(root, path, flags | OFlags::NOFOLLOW)
}

/// What lies at a path without symlinks; nothing where nothing does.
pub(super) fn stat(root: impl AsFd, path: &[u8]) -> io::Result<Option<Stat>> {
    let (folder, name) = split(path);
    if name.is_empty() {
        return Ok(Some(rustix::fs::fstat(root)?));
    }
    let folder = match open(root, folder, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder without symlinks in its path, making what is missing of it. `made` is told of each new one.
pub(super) fn make_folders(
    root: &OwnedFd,
    folder: &[u8],
    mut made: impl FnMut(&OwnedFd, &[u8]) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut current = tree::open_folder(root, b"")?;
    let mut path = Vec::new();
    for part in parts(folder) {
        path = join(&path, part);
        let next = match tree::open_child(current.as_fd(), part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&current, part, Mode::from_raw_mode(0o755))?;
                let next = tree::open_child(current.as_fd(), part)?;
                rustix::fs::fchmod(&next, Mode::from_raw_mode(0o755))?;
                made(&next, &path)?;
                next
            }
            other => other?,
        };
        current = next;
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_lead_within_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
        link("/a/b", "abs");
        link("../../../../a", "a/b/up");
        link("/etc", "a/out");
        link("loop", "loop");
        link("/not/there", "dangling");
        let root = tree::open_root(folder.path()).unwrap();
        let real = |path: &str| real(&root, path.as_bytes()).map(|path| shown(&path));
        assert_eq!(real("/abs/up/b").unwrap(), "a/b");
        assert_eq!(real("a/out/passwd").unwrap(), "etc/passwd");
        assert_eq!(real("../../x/./y/..").unwrap(), "x");
        assert_eq!(real("dangling/x").unwrap(), "not/there/x");
        assert_eq!(real("/").unwrap(), "");
        assert!(real("loop").is_err());
    }
}
