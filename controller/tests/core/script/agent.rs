//! A pretended agent: it keeps what it was sent, and does what a script says.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::{FromAgent, ToAgent};
use swarm_proto::assignment::{NetworkAssignment, TaskAssignment, VolumeReport};
use swarm_proto::id::{NetworkId, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{NodeDescription, TaskState, TaskStatus};

pub(super) struct Agent {
    pub(super) session: Option<u64>,
    pub(super) description: NodeDescription,
    pub(super) tasks: BTreeMap<TaskId, (TaskAssignment, TaskStatus)>,
    pub(super) networks: BTreeMap<NetworkId, NetworkAssignment>,
    pub(super) volumes: BTreeMap<VolumeId, VolumeReport>,
    pub(super) silent: bool,
    gone: BTreeSet<NetworkId>,
}

pub(super) fn status(state: TaskState, now: u64) -> TaskStatus {
    TaskStatus::new(state, Timestamp(now))
}

impl Agent {
    pub(super) fn new(description: NodeDescription) -> Self {
        Self {
            session: None,
            description,
            tasks: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            silent: false,
            gone: BTreeSet::new(),
        }
    }

    pub(super) fn hello(&self) -> FromAgent {
        let statuses = self.tasks.iter().map(|(id, (_, status))| (*id, status.clone()));
        FromAgent::Hello {
            nonce: String::new(),
            description: self.description.clone(),
            statuses: statuses.collect(),
            volumes: self.volumes.values().cloned().collect(),
            takes_network_changes: true,
        }
    }

    pub(super) fn receive(&mut self, message: ToAgent) {
        let ToAgent::Assignments { complete, diff, .. } = message else { return };
        if complete {
            let kept: BTreeSet<TaskId> = diff.tasks.iter().map(|task| task.id).collect();
            self.tasks.retain(|id, _| kept.contains(id));
            self.gone.extend(self.networks.keys());
            self.networks.clear();
        }
        for task in diff.tasks {
            let known = self.tasks.remove(&task.id).map(|(_, status)| status);
            let known = known.unwrap_or_else(|| status(TaskState::Assigned, 0));
            self.tasks.insert(task.id, (task, known));
        }
        for id in diff.removed_tasks {
            self.tasks.remove(&id);
        }
        for network in diff.networks {
            self.gone.remove(&network.id);
            self.networks.insert(network.id, network);
        }
        for change in diff.network_changes {
            let network = self.networks.get_mut(&change.id).expect("a change of a known network");
            assert!(change.fits(network), "{change:?} is not what comes next");
            change.apply(network);
        }
        for id in diff.removed_networks {
            self.networks.remove(&id);
            self.gone.insert(id);
        }
        for volume in diff.volumes.iter().filter(|volume| volume.remove) {
            self.volumes.remove(&volume.id);
        }
    }

    /// Makes true all that it was told, and says so.
    pub(super) fn obey(&mut self, now: u64) -> Vec<FromAgent> {
        let mut reports = Vec::new();
        let mut removed = Vec::new();
        for (id, (task, known)) in &mut self.tasks {
            let reached = match task.desired {
                TaskState::Remove => {
                    removed.push(*id);
                    continue;
                }
                _ if known.state.is_terminal() => continue,
                desired => desired,
            };
            if known.state < reached {
                *known = status(reached, now);
                reports.push(FromAgent::Statuses(vec![(*id, known.clone())]));
            }
        }
        for id in &removed {
            self.tasks.remove(id);
        }
        reports.push(FromAgent::Volumes(self.volumes.values().cloned().collect()));
        reports.push(FromAgent::Confirmation {
            networks: self.versions(),
            removed_networks: std::mem::take(&mut self.gone).into_iter().collect(),
            removed_tasks: removed,
        });
        reports
    }

    fn versions(&self) -> BTreeMap<NetworkId, u64> {
        self.networks.iter().map(|(id, network)| (*id, network.version)).collect()
    }

    /// Says which networks stand here, and nothing else.
    pub(super) fn confirmation(&self) -> FromAgent {
        FromAgent::Confirmation {
            networks: self.versions(),
            removed_networks: Vec::new(),
            removed_tasks: Vec::new(),
        }
    }
}
