//! Folders of `--mount=type=cache`, which later builds on this host find again: one for each id, and further ones where
//! several builds want their own at once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_dockerfile::Sharing;
use swarm_proto::id::{Digest, Timestamp};
use tokio::sync::Notify;

use super::BuildError;
use crate::image::{Content, Spare, Tenant};
use crate::{clock, durable, tree};

/// Ends the name of a file whose time says when the folder beside it was used last.
const USED: &str = "used";

/// Who has a folder now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Shared(usize),
    Alone,
}

/// All such folders of this host.
#[derive(Debug)]
pub(super) struct CacheMounts {
    folder: PathBuf,
    used: Mutex<HashMap<PathBuf, Use>>,
    freed: Notify,
}

/// A folder that is had until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    caches: Arc<CacheMounts>,
    pub(super) path: PathBuf,
}

impl CacheMounts {
    pub(super) fn open(folder: PathBuf) -> Result<Arc<Self>, BuildError> {
        fs::create_dir_all(&folder).map_err(BuildError::disk("make", &folder))?;
        durable::sweep(&folder).map_err(BuildError::disk("clean", &folder))?;
        Ok(Arc::new(Self { folder, used: Mutex::default(), freed: Notify::new() }))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<PathBuf, Use>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the folder of an id, and waits for it where it must be had alone. It may not be there yet.
    pub(super) async fn take(self: &Arc<Self>, id: &str, sharing: Sharing) -> Held {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(path) = self.try_take(id, sharing) {
                note_use(&path);
                return Held { caches: Arc::clone(self), path };
            }
            freed.await;
        }
    }

    fn try_take(&self, id: &str, sharing: Sharing) -> Option<PathBuf> {
        let mut used = self.used();
        let name = Digest::of([id.as_bytes()]).hex().to_owned();
        let first = self.folder.join(&name);
        match (sharing, used.get(&first).copied()) {
            (Sharing::Shared, None) => used.insert(first.clone(), Use::Shared(1)),
            (Sharing::Shared, Some(Use::Shared(others))) => {
                used.insert(first.clone(), Use::Shared(others + 1))
            }
            (Sharing::Locked | Sharing::Private, None) => used.insert(first.clone(), Use::Alone),
            (Sharing::Private, Some(_)) => {
                let further = (1_u32..).map(|number| self.folder.join(format!("{name}-{number}")));
                let free = further.into_iter().find(|path| !used.contains_key(path))?;
                used.insert(free.clone(), Use::Alone);
                return Some(free);
            }
            (Sharing::Shared, Some(Use::Alone)) | (Sharing::Locked, Some(_)) => return None,
        };
        Some(first)
    }

    /// Where a new folder is made before it gets its name.
    pub(super) fn aside(&self) -> PathBuf {
        durable::unfinished(&self.folder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        note_use(&self.path);
        let mut used = self.caches.used();
        match used.get(&self.path) {
            Some(Use::Shared(others)) if *others > 1 => {
                let others = others - 1;
                used.insert(self.path.clone(), Use::Shared(others));
            }
            _ => drop(used.remove(&self.path)),
        }
        drop(used);
        self.caches.freed.notify_waiters();
    }
}

impl Held {
    /// Gives a new folder its name.
    pub(super) fn give(&self, aside: &Path) -> std::io::Result<()> {
        let _turn = self.caches.used();
        // Who shares it may have been quicker, and uses it already.
        if self.path.is_dir() {
            crate::tree::remove_path(aside)
        } else {
            fs::rename(aside, &self.path)
        }
    }
}

fn mark(path: &Path) -> PathBuf {
    path.with_extension(USED)
}

/// Not known to have been used, it only goes earlier.
fn note_use(path: &Path) {
    if let Err(error) = fs::write(mark(path), b"") {
        tracing::debug!(%error, path = %path.display(), "cannot note that a cache is used");
    }
}

fn used_at(path: &Path) -> io::Result<Timestamp> {
    let noted = fs::metadata(mark(path)).or_else(|_| fs::metadata(path))?;
    Ok(clock::of(noted.modified()?))
}

/// They keep nothing in the store, and are builds' to use and let go of as layers are.
impl Tenant for CacheMounts {
    fn content(&self) -> io::Result<Content> {
        Ok(Content::default())
    }

    fn spare(&self) -> io::Result<Vec<Spare>> {
        let mut spares = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type()?.is_dir() || name.starts_with(durable::UNFINISHED) {
                continue;
            }
            let used_at = used_at(&entry.path())?;
            spares.push(Spare { name, content: Content::default(), used_at });
        }
        Ok(spares)
    }

    fn let_go(&self, spare: &Spare) -> io::Result<Option<u64>> {
        let (path, aside) = (self.folder.join(&spare.name), self.aside());
        {
            let used = self.used();
            // A build may have had it meanwhile.
            if used.contains_key(&path) || used_at(&path).is_ok_and(|at| at > spare.used_at) {
                return Ok(None);
            }
            match fs::rename(&path, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            }
            tree::remove_path(&mark(&path))?;
        }
        let freed = tree::bytes_of(&aside);
        tree::remove_path(&aside)?;
        Ok(Some(freed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_a_cache_alone_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let caches = CacheMounts::open(folder.path().join("mounts")).unwrap();
        let locked = caches.take("x", Sharing::Locked).await;
        let private = caches.take("x", Sharing::Private).await;
        assert_ne!(locked.path, private.path);
        assert!(caches.try_take("x", Sharing::Locked).is_none());
        assert!(caches.try_take("x", Sharing::Shared).is_none());
        let waiting = {
            let caches = Arc::clone(&caches);
            tokio::spawn(async move { caches.take("x", Sharing::Shared).await })
        };
        let path = locked.path.clone();
        drop(locked);
        let shared = waiting.await.unwrap();
        let second = caches.take("x", Sharing::Shared).await;
        assert_eq!((&shared.path, &second.path), (&path, &path));
        drop(shared);
        assert!(caches.try_take("x", Sharing::Locked).is_none());
        drop(second);
        assert!(caches.try_take("x", Sharing::Locked).is_some());
    }

    #[tokio::test]
    async fn what_a_build_has_is_not_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let caches = CacheMounts::open(folder.path().join("mounts")).unwrap();
        let held = caches.take("x", Sharing::Shared).await;
        fs::create_dir(&held.path).unwrap();
        fs::write(held.path.join("file"), "12345").unwrap();
        let spare = caches.spare().unwrap();
        assert_eq!(spare.len(), 1);
        assert_eq!(caches.let_go(&spare[0]).unwrap(), None);
        let path = held.path.clone();
        drop(held);
        let spare = caches.spare().unwrap();
        assert_eq!(caches.let_go(&spare[0]).unwrap(), Some(5));
        assert_eq!(caches.let_go(&spare[0]).unwrap(), None, "it is gone");
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path().join("mounts")).unwrap().count(), 0);
    }
}
