//! Paths inside the container's root, resolved so that nothing in it leads outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

/// How often the kernel's "something was renamed meanwhile" is answered by another try.
const RENAME_TRIES: u32 = 32;
/// How many symbolic links one path may go through, as in the kernel.
const MAX_LINKS: u32 = 40;

/// What to make at the end of a path when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A folder.
    Directory,
    /// An empty file.
    File,
}

/// A folder that is the root for every path given to it: `..` stops at it and absolute symbolic links
/// start from it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Takes the folder that a descriptor stands for as a root.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens what is at `path`.
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = inside(path);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < RENAME_TRIES => tries += 1,
                other => return Ok(other?),
            }
        }
    }

    /// A descriptor of the place at `path`, for mounting there; `None` when nothing is there.
    pub fn place(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A descriptor of the place at `path`; what is missing of it is made first.
    pub fn make(&self, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
        match self.place(path)? {
            Some(fd) => Ok(fd),
            None => Walk::new(self, path, missing).finish(),
        }
    }

    /// Opens a folder that may not be reached through a symbolic link; made if missing.
    pub fn plain_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match self.open(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make(path, Missing::Directory)?;
                self.open(path, flags)
            }
            other => other,
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path as the kernel wants it below a root: relative, and the root itself is `.`.
fn inside(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Goes down a path one component at a time, each opened from the one before without following
/// links, and makes what is missing.
struct Walk<'a> {
    root: &'a Root,
    /// The folders from the root to here, the root left out; `..` takes one off.
    stack: Vec<OwnedFd>,
    rest: VecDeque<OsString>,
    links: u32,
    missing: Missing,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Root, path: &Path, missing: Missing) -> Self {
        Self { root, stack: Vec::new(), rest: components(path).collect(), links: 0, missing }
    }

    fn finish(mut self) -> io::Result<OwnedFd> {
        while let Some(name) = self.rest.pop_front() {
            if name == ".." {
                self.stack.pop();
                continue;
            }
            let fd = self.enter(&name)?;
            match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
                FileType::Symlink => self.follow(&name)?,
                FileType::Directory => self.stack.push(fd),
                _ if self.rest.is_empty() => return Ok(fd),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        match self.stack.pop() {
            Some(fd) => Ok(fd),
            None => self.root.open(Path::new("."), OFlags::PATH),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.as_fd(), AsFd::as_fd)
    }

    fn enter(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let open = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(self.here(), name, flags, Mode::empty())
        };
        match open() {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let last = self.rest.is_empty();
        let made = if last && self.missing == Missing::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(self.here(), name, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            mkdirat(self.here(), name, Mode::from_raw_mode(0o755))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => Ok(open()?),
            Err(error) => Err(error.into()),
        }
    }

    fn follow(&mut self, name: &OsStr) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(self.here(), name, Vec::new())?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            self.stack.clear();
        }
        for component in components(target).collect::<Vec<_>>().into_iter().rev() {
            self.rest.push_front(component);
        }
        Ok(())
    }
}

use std::os::unix::ffi::OsStrExt as _;

fn components(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

/// Opens a folder of the host as a root.
pub(super) fn open_host_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let fd = open_host_directory(&dir.path().join("root")).unwrap();
        (dir, Root::new(fd))
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("/../../secret", inside.join("up")).unwrap();
        symlink(dir.path().join("secret"), inside.join("absolute")).unwrap();
        for path in ["up", "absolute", "/../secret", "../../secret"] {
            assert!(root.place(Path::new(path)).unwrap().is_none(), "{path}");
        }
        for path in ["up", "absolute", "/../secret", "../../secret"] {
            let made = root.make(Path::new(path), Missing::File).unwrap();
            assert_eq!(fstat(&made).unwrap().st_size, 0, "{path}");
        }
        assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "outside");
        assert!(inside.join("secret").is_file());
        assert!(inside.join(dir.path().strip_prefix("/").unwrap()).join("secret").is_file());
    }

    #[test]
    fn a_dangling_link_is_followed_to_where_the_file_is_made() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        fs::create_dir(inside.join("etc")).unwrap();
        symlink("../run/systemd/resolve.conf", inside.join("etc/resolv.conf")).unwrap();
        root.make(Path::new("/etc/resolv.conf"), Missing::File).unwrap();
        assert!(inside.join("run/systemd/resolve.conf").is_file());
    }

    #[test]
    fn folders_are_made_and_loops_refused() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        root.make(Path::new("/a/b/c"), Missing::Directory).unwrap();
        assert!(inside.join("a/b/c").is_dir());
        symlink("loop", inside.join("loop")).unwrap();
        assert!(root.make(Path::new("/loop/x"), Missing::Directory).is_err());
        fs::write(inside.join("file"), "").unwrap();
        let error = root.make(Path::new("/file/x"), Missing::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
        root.make(Path::new("/"), Missing::Directory).unwrap();
    }

    #[test]
    fn a_plain_directory_is_not_a_link() {
        let (dir, root) = root();
        let inside = dir.path().join("root");
        root.plain_directory(Path::new("/proc")).unwrap();
        symlink("/proc", inside.join("dev")).unwrap();
        assert!(root.plain_directory(Path::new("/dev")).is_err());
    }
}
