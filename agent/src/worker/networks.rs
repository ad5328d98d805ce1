//! Applies networks whenever they change, one pass at a time, and says what stands and what is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarm_proto::id::NetworkId;
use tokio::sync::watch;

use super::{Shared, sentence};
use crate::board::Board;
use crate::journal::Contents;
use crate::network::NetworkError;

/// After a failure, the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Changes that wait for the next pass.
pub(super) struct Applying {
    changes: watch::Sender<u64>,
    /// Networks that shall go and have not been confirmed gone.
    leaving: Mutex<BTreeSet<NetworkId>>,
}

impl Applying {
    pub(super) fn new() -> (Self, watch::Receiver<u64>) {
        let (changes, receiver) = watch::channel(0);
        (Self { changes, leaving: Mutex::default() }, receiver)
    }

    /// Networks changed; some shall go.
    pub(super) fn change(&self, board: &Board, contents: &Contents, gone: BTreeSet<NetworkId>) {
        {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.extend(gone);
            leaving.retain(|id| !contents.networks.contains_key(id));
        }
        contents.networks.keys().for_each(|id| board.network_back(*id));
        self.wake();
    }

    /// How many networks shall go and have not gone yet.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A task was disconnected, so a network may be free to go.
    pub(super) fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// The loop of all passes.
pub(super) async fn run(shared: Arc<Shared>, mut changes: watch::Receiver<u64>) {
    loop {
        changes.mark_unchanged();
        let whole = apply(&shared).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !whole => {}
        }
    }
}

/// One pass; false when something is left to try again.
pub(super) async fn apply(shared: &Shared) -> bool {
    let applied = shared.executor.apply_networks().await;
    let mut stuck = BTreeSet::new();
    for error in &applied.failures {
        tracing::warn!(error = %sentence(error), "a network is not as it should be");
        if let NetworkError::Removal { network, .. } = error {
            stuck.insert(*network);
        }
    }
    shared.board.set_standing(applied.standing);
    let assigned = shared.executor.assigned().networks();
    let mut leaving = shared.networks.leaving.lock().unwrap_or_else(PoisonError::into_inner);
    leaving.retain(|id| {
        if assigned.contains_key(id) {
            return false;
        }
        let stays = stuck.contains(id) || shared.executor.assigned().uses(*id);
        if !stays {
            shared.board.network_gone(*id);
        }
        stays
    });
    applied.failures.is_empty()
}
