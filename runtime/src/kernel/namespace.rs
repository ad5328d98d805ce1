//! Network namespaces kept by a path, as `ip netns` keeps them: a bind mount of the namespace onto a file.
//!
//! A namespace is a property of a thread, so whatever must happen inside one runs on a short-lived thread that ends
//! with it. Sockets made there stay in that namespace and can be used from anywhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{panic, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

/// `NSFS_MAGIC` of `linux/magic.h`: the file system that namespaces live on.
const NSFS: FsType = FsType(0x6e73_6673);

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The folder or file to mount on could not be made or read.
    #[error("could not {action} `{path}`")]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("could not {action} network namespace `{path}`")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// With which namespace.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No thread could be started to do it.
    #[error("could not start a thread for network namespace `{path}`")]
    Thread {
        /// For which namespace.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl NamespaceError {
    fn path(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Path { action, path: path.to_owned(), source }
    }

    fn kernel(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Kernel { action, path: path.to_owned(), source: source.into() }
    }
}

/// An open network namespace. It lives at least as long as this does.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<OwnedFd>,
    path: Arc<Path>,
}

impl Namespace {
    /// The namespace of the calling thread, which is the host's in an ordinary process.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(Path::new(OWN))
    }

    /// The namespace that is kept at `path`; `/proc/PID/ns/net` will do as well.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let file = File::open(path).map_err(|e| NamespaceError::path("open", path, e))?;
        Ok(Self { file: Arc::new(file.into()), path: path.into() })
    }

    /// A new namespace that is kept by nothing but this and what is made inside.
    pub fn scratch() -> Result<Self, NamespaceError> {
        let path = Path::new(OWN);
        on_thread(path, || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NamespaceError::kernel("make", path, e))?;
            Self::open(path)
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a short-lived thread inside this namespace. A panic of `work` is passed on.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_thread(&self.path, || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|e| NamespaceError::kernel("enter", &self.path, e))?;
            Ok(work())
        })
    }

    /// Writes a kernel parameter of this namespace: `net/ipv4/ip_forward`.
    pub fn write_sysctl(&self, name: &str, value: &str) -> Result<(), NamespaceError> {
        let path = Path::new("/proc/sys").join(name);
        self.enter(|| fs::write(&path, value).map_err(|e| NamespaceError::path("write", &path, e)))?
    }

    /// Reads a kernel parameter of this namespace, without the line's end.
    pub fn read_sysctl(&self, name: &str) -> Result<String, NamespaceError> {
        let path = Path::new("/proc/sys").join(name);
        let text = self.enter(|| {
            fs::read_to_string(&path).map_err(|e| NamespaceError::path("read", &path, e))
        })??;
        Ok(text.trim_end().to_owned())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a network namespace and keeps it at `path`. Returns whether it was made now: one that already is there stays.
pub fn create(path: &Path) -> Result<bool, NamespaceError> {
    if is_namespace(path)? {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| NamespaceError::path("make", folder, e))?;
    }
    File::create(path).map_err(|e| NamespaceError::path("make", path, e))?;
    let made = on_thread(path, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| NamespaceError::kernel("make", path, e))?;
        mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| NamespaceError::kernel("keep", path, e))
    });
    if made.is_err() {
        // Best effort: the error above is the one that matters.
        let _ = fs::remove_file(path);
    }
    made.map(|()| true)
}

/// Runs `work` on a short-lived thread inside the namespace that is kept at `path`.
pub fn enter<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    Namespace::open(path)?.enter(work)
}

/// Forgets the namespace that is kept at `path`; it ends with the last process and socket in it. Nothing there is fine.
pub fn delete(path: &Path) -> Result<(), NamespaceError> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            // Several mounts may lie on each other after an unlucky crash.
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(NamespaceError::kernel("release", path, error)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NamespaceError::path("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The names of all files in `folder`, sorted: namespaces, and what a crash left of one. No folder means none.
pub fn list(folder: &Path) -> Result<Vec<String>, NamespaceError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| NamespaceError::path("read", folder, e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| NamespaceError::path("read", folder, e))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Whether a namespace is kept at `path` (and not just a file left by a crash).
pub fn is_namespace(path: &Path) -> Result<bool, NamespaceError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|e| NamespaceError::path("open", path, e))?,
    };
    let facts = fstatfs(&file).map_err(|e| NamespaceError::path("inspect", path, e.into()))?;
    Ok(facts.filesystem_type() == NSFS)
}

fn on_thread<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, NamespaceError> + Send,
) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NamespaceError::Thread { path: path.to_owned(), source })?;
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_kept_by_its_path_and_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        assert!(create(&path).unwrap());
        assert!(!create(&path).unwrap(), "a second call keeps the first one");
        assert_eq!(list(folder.path()).unwrap(), ["one"]);

        let namespace = Namespace::open(&path).unwrap();
        let inside = namespace.enter(|| fs::read_link(OWN).unwrap()).unwrap();
        assert_ne!(inside, fs::read_link(OWN).unwrap());
        assert_eq!(enter(&path, || fs::read_link(OWN).unwrap()).unwrap(), inside);
        namespace.write_sysctl("net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(namespace.read_sysctl("net/ipv4/ip_forward").unwrap(), "1");

        delete(&path).unwrap();
        delete(&path).unwrap();
        assert!(list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_left_by_a_crash_is_not_a_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left");
        fs::write(&path, "").unwrap();
        assert!(!is_namespace(&path).unwrap());
        assert!(create(&path).unwrap());
        assert!(is_namespace(&path).unwrap());
        delete(&path).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = enter(Path::new("/nowhere/at/all"), || ()).unwrap_err();
        assert_eq!(error.to_string(), "could not open `/nowhere/at/all`");
    }
}
