//! What a controller tells an agent to make true on its host. A complete set on connect, then only what changed.

mod change;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use change::{BackendsChange, ListChange, NetworkChange};
pub use network::{Lead, NetworkAssignment, NetworkIngress, NetworkPeer, NetworkVip};

use crate::id::{Digest, NetworkId, TaskId, Timestamp, VolumeId};
use crate::object::{AllocatedPort, Attachment, GenericResources, TaskState};
use crate::spec::{ContainerSpec, RestartPolicy, Scrape};

/// A task that this node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAssignment {
    /// Its identity.
    pub id: TaskId,
    /// For people, and a name on its networks: `<stack>_<service>.<slot>`.
    pub name: String,
    /// The stack.
    pub stack: String,
    /// The service's full name, `<stack>_<key>`.
    pub service: String,
    /// What the controller wants of it.
    pub desired: TaskState,
    /// When a task that waits out its restart delay may start (the agent keeps it `Ready` until `desired` rises).
    pub start_after: Option<Timestamp>,
    /// How to run it. Its image has a digest.
    pub container: ContainerSpec,
    /// Its addresses.
    pub attachments: Vec<Attachment>,
    /// The named volumes that `container.mounts` speaks of, by key.
    pub volumes: BTreeMap<String, VolumeId>,
    /// Ports that answer on this host only (mode `host`).
    pub host_ports: Vec<AllocatedPort>,
    /// Applied by the agent itself while it is cut off from every controller.
    pub restart: RestartPolicy,
    /// Whether clients are still led to it, where they shall not be any more; `None` where they may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<Withdrawal>,
    /// How long the host may run it without the word of a leader, counted from when it sent the last heartbeat that a
    /// leader answered; `None` is for ever. A container that still runs its grace period later is killed.
    #[serde(default)]
    pub lease: Option<Duration>,
    /// What it was given of the node's generic resources.
    #[serde(default, skip_serializing_if = "GenericResources::is_empty")]
    pub resources: GenericResources,
    /// What of it is measured while it runs; `None` where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
}

/// That a task's use of CPUs and memory is measured, and perhaps a number that it tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measure {
    /// Where it tells a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
    /// Whether its new connections are counted.
    #[serde(default)]
    pub requests: bool,
    /// Whether those that are open are as well, once no new one comes.
    #[serde(default)]
    pub connections: bool,
}

/// How far a task is out of virtual addresses, names and published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// Some node may still lead clients to it: the agent stops it only later.
    UnderWay,
    /// None does, or a node was waited for long enough.
    Done,
}

/// A named volume that some task of this node uses, or that the node shall remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAssignment {
    /// Its identity.
    pub id: VolumeId,
    /// Its full name, the folder's name on the host.
    pub name: String,
    /// Remove it with its content.
    pub remove: bool,
}

/// All that a node shall make true.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Tasks by identity.
    pub tasks: BTreeMap<TaskId, TaskAssignment>,
    /// Networks by identity.
    pub networks: BTreeMap<NetworkId, NetworkAssignment>,
    /// Volumes by identity.
    pub volumes: BTreeMap<VolumeId, VolumeAssignment>,
}

impl AssignmentSet {
    /// What turns `old` into `new`.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> AssignmentDiff {
        AssignmentDiff {
            tasks: changed(&old.tasks, &new.tasks),
            removed_tasks: removed(&old.tasks, &new.tasks),
            networks: changed(&old.networks, &new.networks),
            network_changes: Vec::new(),
            removed_networks: removed(&old.networks, &new.networks),
            volumes: changed(&old.volumes, &new.volumes),
            removed_volumes: removed(&old.volumes, &new.volumes),
        }
    }

    /// Brings a diff in. Twice the same one changes nothing more.
    pub fn apply(&mut self, diff: AssignmentDiff) {
        for id in &diff.removed_tasks {
            self.tasks.remove(id);
        }
        for id in &diff.removed_networks {
            self.networks.remove(id);
        }
        for id in &diff.removed_volumes {
            self.volumes.remove(id);
        }
        self.tasks.extend(diff.tasks.into_iter().map(|task| (task.id, task)));
        self.networks.extend(diff.networks.into_iter().map(|network| (network.id, network)));
        for change in diff.network_changes {
            if let Some(network) = self.networks.get_mut(&change.id) {
                change.apply(network);
            }
        }
        self.volumes.extend(diff.volumes.into_iter().map(|volume| (volume.id, volume)));
    }
}

fn changed<K: Ord, V: Clone + PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<V> {
    let differs = |(id, value): &(&K, &V)| old.get(id) != Some(value);
    new.iter().filter(differs).map(|(_, value)| value.clone()).collect()
}

fn removed<K: Ord + Copy, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    old.keys().filter(|id| !new.contains_key(id)).copied().collect()
}

/// What changed between two sets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssignmentDiff {
    /// Added or changed tasks.
    pub tasks: Vec<TaskAssignment>,
    /// Tasks that the controller no longer knows: remove every trace.
    pub removed_tasks: Vec<TaskId>,
    /// Added or changed networks, each whole.
    pub networks: Vec<NetworkAssignment>,
    /// What changed of others: those of one network in their order.
    pub network_changes: Vec<NetworkChange>,
    /// Networks that this node no longer needs.
    pub removed_networks: Vec<NetworkId>,
    /// Added or changed volumes.
    pub volumes: Vec<VolumeAssignment>,
    /// Volumes that no task of this node uses any more; their content stays.
    pub removed_volumes: Vec<VolumeId>,
}

impl AssignmentDiff {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A volume that a node holds, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Its identity.
    pub id: VolumeId,
    /// Its full name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The image that filled it: name and content.
    pub filled_from: Option<(String, Digest)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AssignmentSet;
    use crate::strategies::assignment_set;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn applying_the_diff_gives_the_new_set(old in assignment_set(), new in assignment_set()) {
            let diff = AssignmentSet::diff(&old, &new);
            let mut set = old.clone();
            set.apply(diff.clone());
            prop_assert_eq!(&set, &new);
            set.apply(diff);
            prop_assert_eq!(&set, &new);
        }

        #[test]
        fn equal_sets_differ_in_nothing(set in assignment_set()) {
            prop_assert!(AssignmentSet::diff(&set, &set).is_empty());
        }
    }
}
