//! What a host's tasks may use, as it was told last, and the networks that they do use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{NetworkId, TaskId, VolumeId};

use crate::content::ContentStore;
use crate::network::AssignedNetworks;

/// See the module.
#[derive(Debug, Default)]
pub struct Assigned {
    told: Mutex<Told>,
    /// Secrets and configs of the tasks' files.
    contents: ContentStore,
    /// Networks that tasks are connected to.
    attached: Mutex<BTreeMap<TaskId, BTreeSet<NetworkId>>>,
}

#[derive(Debug, Default)]
struct Told {
    networks: AssignedNetworks,
    volumes: Arc<BTreeMap<VolumeId, String>>,
}

impl Assigned {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<TaskId, BTreeSet<NetworkId>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The networks and volumes (with their names) that tasks may use from now on.
    pub fn set(&self, networks: AssignedNetworks, volumes: BTreeMap<VolumeId, String>) {
        *self.told() = Told { networks, volumes: Arc::new(volumes) };
    }

    /// The networks that tasks may be connected to.
    pub fn networks(&self) -> AssignedNetworks {
        self.told().networks.clone()
    }

    /// The names of the volumes that tasks may use.
    pub fn volumes(&self) -> Arc<BTreeMap<VolumeId, String>> {
        Arc::clone(&self.told().volumes)
    }

    /// The secrets and configs of the tasks' files.
    pub fn contents(&self) -> &ContentStore {
        &self.contents
    }

    /// Whether some task of this host is connected to a network.
    pub fn uses(&self, network: NetworkId) -> bool {
        self.attached().values().any(|networks| networks.contains(&network))
    }

    /// A task is being connected to its networks.
    pub fn attach(&self, task: &TaskAssignment) {
        let networks = task.attachments.iter().map(|attachment| attachment.network).collect();
        self.attached().insert(task.id, networks);
    }

    /// A task is connected to none any more.
    pub fn detach(&self, task: TaskId) {
        self.attached().remove(&task);
    }
}
