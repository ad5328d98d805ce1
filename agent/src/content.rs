//! Secrets and configs of this host's tasks: in memory only, never in the journal. Each session brings them anew; after
//! a restart of the agent, those of running containers are taken back from their files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::{ContainerSpec, ContentBytes, ContentId, ContentKind};
use tokio::sync::Notify;

/// Bytes that are not those of their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a {0} are not those of its digest")]
pub struct DamagedContent(ContentKind);

/// See the module.
#[derive(Debug, Default)]
pub struct ContentStore {
    held: Mutex<BTreeMap<ContentId, Arc<ContentBytes>>>,
    /// Told when something came.
    came: Notify,
}

impl ContentStore {
    fn held(&self) -> MutexGuard<'_, BTreeMap<ContentId, Arc<ContentBytes>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a content in, if it is what it should be.
    pub fn put(&self, id: ContentId, bytes: ContentBytes) -> Result<(), DamagedContent> {
        if ContentId::of(id.kind, bytes.reveal()) != id {
            return Err(DamagedContent(id.kind));
        }
        self.held().insert(id, Arc::new(bytes));
        self.came.notify_waiters();
        Ok(())
    }

    /// A content's bytes.
    pub fn get(&self, id: &ContentId) -> Option<Arc<ContentBytes>> {
        self.held().get(id).cloned()
    }

    /// Waits until all that a container's files need is here.
    pub async fn wait_for(&self, container: &ContainerSpec) {
        loop {
            let came = self.came.notified();
            let lacks = |id: ContentId| !self.held().contains_key(&id);
            if !container.contents().any(lacks) {
                return;
            }
            came.await;
        }
    }

    /// Forgets what none of these tasks refers to.
    pub fn keep_for<'a>(&self, tasks: impl Iterator<Item = &'a TaskAssignment>) {
        let used: BTreeSet<ContentId> = tasks.flat_map(|task| task.container.contents()).collect();
        self.held().retain(|id, _| used.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use swarm_proto::spec::FileMount;
    use tokio::time::timeout;

    use super::*;
    use crate::testing;

    fn with_file(bytes: &[u8]) -> (TaskAssignment, ContentId) {
        let id = ContentId::of(ContentKind::Secret, bytes);
        let mut task = testing::task("1.1.1");
        task.container.files = vec![FileMount {
            kind: id.kind,
            source: "s".into(),
            digest: Some(id.digest.clone()),
            target: "/run/secrets/s".into(),
            uid: 0,
            gid: 0,
            mode: FileMount::MODE,
        }];
        (task, id)
    }

    #[test]
    fn what_is_damaged_is_not_taken() {
        let (_, id) = with_file(b"right");
        let store = ContentStore::default();
        let error = store.put(id.clone(), b"wrong".to_vec().into()).unwrap_err();
        assert_eq!(error.to_string(), "the bytes of a secret are not those of its digest");
        assert!(store.get(&id).is_none());
        store.put(id.clone(), b"right".to_vec().into()).unwrap();
        assert_eq!(store.get(&id).unwrap().reveal(), b"right");
        assert!(!format!("{store:?}").contains(&format!("{:?}", b"right").replace(['[', ']'], "")));
    }

    #[tokio::test]
    async fn a_task_waits_for_its_files_contents() {
        let (task, id) = with_file(b"right");
        let store = Arc::new(ContentStore::default());
        let soon = Duration::from_millis(30);
        assert!(timeout(soon, store.wait_for(&task.container)).await.is_err());
        store.wait_for(&testing::container("plain")).await;
        let waiting = Arc::clone(&store);
        let waits = tokio::spawn(async move { waiting.wait_for(&task.container).await });
        tokio::task::yield_now().await;
        store.put(id, b"right".to_vec().into()).unwrap();
        timeout(Duration::from_secs(5), waits).await.expect("it goes on").unwrap();
    }

    #[test]
    fn only_what_a_task_refers_to_is_kept() {
        let store = ContentStore::default();
        let ((task, kept), (_, gone)) = (with_file(b"kept"), with_file(b"gone"));
        store.put(kept.clone(), b"kept".to_vec().into()).unwrap();
        store.put(gone.clone(), b"gone".to_vec().into()).unwrap();
        store.keep_for([&task].into_iter());
        assert!(store.get(&kept).is_some() && store.get(&gone).is_none());
    }
}
