//! What work under way counts on: a removal at the same time leaves it where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_proto::id::Digest;

use super::removal::Content;

/// How many works count on each blob or layer.
pub(super) type Counts = BTreeMap<Digest, usize>;

/// All claims of this host.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Counts>);

impl Claims {
    /// Holds up new claims as long as the answer lives.
    pub(super) fn hold(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a work under way counts on it.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.hold().contains_key(digest)
    }

    /// A work's own claim, on nothing yet.
    pub(super) fn begin(self: &Arc<Self>) -> Claim {
        Claim { claims: Arc::clone(self), digests: Mutex::default() }
    }
}

/// Blobs and layers that a work under way counts on. Let go when dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    digests: Mutex<Vec<Digest>>,
}

impl Claim {
    /// Counts on this content, before it is looked at whether it is there.
    pub fn add(&self, digest: &Digest) {
        *self.claims.hold().entry(digest.clone()).or_default() += 1;
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.push(digest.clone());
    }

    /// All of it, for it is not known which are layers.
    pub(super) fn content(&self) -> Content {
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: BTreeSet<Digest> = digests.iter().cloned().collect();
        Content { layers: all.clone(), blobs: all }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut counts = self.claims.hold();
        let digests = self.digests.get_mut().unwrap_or_else(PoisonError::into_inner);
        for digest in digests.drain(..) {
            if let Some(count) = counts.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&digest);
                }
            }
        }
    }
}
