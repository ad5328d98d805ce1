//! Folders of `--mount=type=cache`, which later builds on this host find again: one for each id, and further ones where
//! several builds want their own at once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_dockerfile::Sharing;
use swarm_proto::id::Digest;
use tokio::sync::Notify;

use super::BuildError;
use crate::durable;

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
}
