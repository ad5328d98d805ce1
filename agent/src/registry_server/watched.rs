//! Files that are read anew when they were changed. What cannot be read then is told once; what was read before counts on.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What tells one state of a file from another: inode, bytes, seconds, nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// See the module.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    known: Mutex<(Vec<Option<Stamp>>, Arc<T>)>,
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let known = (stamps(&paths), Arc::new(read()?));
        Ok(Self { paths, read: Box::new(read), known: Mutex::new(known) })
    }

    /// What is in them now.
    pub(super) fn current(&self) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.paths);
        if known.0 != now {
            match (self.read)() {
                Ok(content) => known.1 = Arc::new(content),
                Err(error) => tracing::error!(error, "the registry goes on with what it knows"),
            }
            known.0 = now;
        }
        Arc::clone(&known.1)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| -> io::Result<Stamp> {
        let told = std::fs::metadata(path)?;
        Ok((told.ino(), told.size(), told.mtime(), told.mtime_nsec()))
    };
    paths.iter().map(|path| stamp(path).ok()).collect()
}
