//! An agent that pretends: it walks tasks through their states, keeps a journal, and confirms what it has applied.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::{FromAgent, ToAgent};
use swarm_proto::assignment::{AssignmentDiff, NetworkPeer, TaskAssignment, VolumeReport};
use swarm_proto::id::{NetworkId, NodeId, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{NodeDescription, TaskState, TaskStatus};
use swarm_proto::spec::ContentId;
use swarm_tests::random::Random;

use crate::violation::demand;

pub(crate) struct Agent {
    machine: u64,
    pub(crate) node: NodeId,
    pub(crate) session: Option<u64>,
    /// Counts the runs of this agent, so that events of an earlier one are ignored.
    pub(crate) run: u64,
    pub(crate) heard: u64,
    /// Whether a container was started since somebody looked.
    pub(crate) started: bool,
    /// Whether the cluster was restored, and has not told this agent everything since.
    pub(crate) is_stale: bool,
    complete: bool,
    tasks: BTreeMap<TaskId, (TaskAssignment, TaskStatus)>,
    networks: BTreeMap<NetworkId, (u64, Vec<NetworkPeer>)>,
    volumes: BTreeMap<VolumeId, String>,
    /// In memory only.
    contents: BTreeSet<ContentId>,
    unsent: Vec<FromAgent>,
}

fn status(state: TaskState, now: u64) -> TaskStatus {
    TaskStatus {
        state,
        since: Timestamp(now),
        message: String::new(),
        exit_code: None,
        pid: None,
        started_at: None,
        attempt: 1,
    }
}

impl Agent {
    pub(crate) fn new(machine: u64, node: NodeId) -> Self {
        Self {
            machine,
            node,
            session: None,
            run: 0,
            heard: 0,
            started: false,
            is_stale: false,
            complete: false,
            tasks: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            contents: BTreeSet::new(),
            unsent: Vec::new(),
        }
    }

    pub(crate) fn hello(&self) -> FromAgent {
        let statuses = self.tasks.iter().map(|(id, (_, status))| (*id, status.clone()));
        FromAgent::Hello {
            nonce: String::new(),
            description: NodeDescription {
                hostname: format!("n{}", self.machine),
                address: Some([192, 0, 2, u8::try_from(self.machine).unwrap()].into()),
                os: "linux".to_owned(),
                arch: "amd64".to_owned(),
                millicpus: 4_000,
                memory: 8 << 30,
                ..NodeDescription::default()
            },
            statuses: statuses.collect(),
            volumes: self.volume_reports(),
        }
    }

    fn volume_reports(&self) -> Vec<VolumeReport> {
        let report = |(id, name): (&VolumeId, &String)| VolumeReport {
            id: *id,
            name: name.clone(),
            created_at: Timestamp(1),
            filled_from: None,
        };
        self.volumes.iter().map(report).collect()
    }

    /// The agent's machine lost power: its containers are gone, its journal is not.
    pub(crate) fn power_cut(&mut self, now: u64) {
        self.restart();
        for (_, status) in self.tasks.values_mut() {
            if !status.state.is_terminal() && status.state >= TaskState::Starting {
                status.state = TaskState::Failed;
                status.since = Timestamp(now);
                "the host restarted".clone_into(&mut status.message);
            }
        }
    }

    /// The agent's process ends; its containers do not.
    pub(crate) fn restart(&mut self) {
        let session = self.session;
        self.contents.clear();
        self.disconnect();
        self.session = session;
        self.run += 1;
    }

    pub(crate) fn disconnect(&mut self) {
        self.session = None;
        self.complete = false;
        self.unsent.clear();
    }

    pub(crate) fn receive(&mut self, message: ToAgent, now: u64) {
        self.heard = now;
        if let ToAgent::Assignments { complete, diff, contents, .. } = message {
            for (id, content) in contents {
                let whole = content.bytes().unwrap_or_default();
                let is_right = ContentId::of(id.kind, whole.reveal()) == id;
                demand(is_right, "a content is what its digest says", || &id);
                self.contents.insert(id);
            }
            self.take(complete, diff);
        }
    }

    fn take(&mut self, complete: bool, diff: AssignmentDiff) {
        let mut removed = diff.removed_tasks;
        let mut gone = diff.removed_networks;
        if complete {
            let kept: BTreeSet<TaskId> = diff.tasks.iter().map(|task| task.id).collect();
            removed.extend(self.tasks.keys().filter(|id| !kept.contains(id)));
            let kept: BTreeSet<NetworkId> = diff.networks.iter().map(|n| n.id).collect();
            gone.extend(self.networks.keys().filter(|id| !kept.contains(id)));
        }
        self.complete |= complete;
        self.is_stale &= !complete;
        demand(self.complete, "a session begins with a complete set", || {
            format!("node {} was sent a change first", self.node)
        });
        for task in &removed {
            self.tasks.remove(task);
        }
        for task in diff.tasks {
            for (key, id) in &task.volumes {
                self.volumes.entry(*id).or_insert_with(|| key.clone());
            }
            let known = self.tasks.remove(&task.id).map(|(_, status)| status);
            let status = known.unwrap_or_else(|| status(TaskState::Assigned, 0));
            let starts = task.desired <= TaskState::Running && !status.state.is_terminal();
            let has_all = task.container.contents().all(|id| self.contents.contains(&id));
            demand(!starts || has_all, "an assignment never comes without its contents", || {
                task.id
            });
            self.tasks.insert(task.id, (task, status));
        }
        let used = self.tasks.values().flat_map(|(task, _)| task.container.contents());
        let used: BTreeSet<ContentId> = used.collect();
        self.contents.retain(|id| used.contains(id));
        for network in diff.networks {
            self.networks.insert(network.id, (network.version, network.peers));
        }
        for network in &gone {
            self.networks.remove(network);
        }
        for volume in diff.volumes.iter().filter(|volume| volume.remove) {
            self.volumes.remove(&volume.id);
        }
        self.unsent.push(FromAgent::Volumes(self.volume_reports()));
        self.unsent.push(FromAgent::Confirmation {
            networks: self.networks.iter().map(|(id, (version, _))| (*id, *version)).collect(),
            removed_networks: gone,
            removed_tasks: removed,
        });
    }

    /// Moves each task a step on, and says what to report.
    pub(crate) fn step(&mut self, now: u64, random: &mut Random) -> Vec<FromAgent> {
        let mut reports = std::mem::take(&mut self.unsent);
        let mut statuses = Vec::new();
        let mut removed = Vec::new();
        for (id, (task, known)) in &mut self.tasks {
            if task.desired == TaskState::Remove {
                removed.push(*id);
                continue;
            }
            if let Some(state) = next(known.state, task.desired, random) {
                self.started |= state == TaskState::Starting;
                *known = status(state, now);
                statuses.push((*id, known.clone()));
            }
        }
        for id in &removed {
            self.tasks.remove(id);
        }
        if !statuses.is_empty() {
            reports.push(FromAgent::Statuses(statuses));
        }
        if !removed.is_empty() {
            reports.push(FromAgent::Confirmation {
                networks: BTreeMap::new(),
                removed_networks: Vec::new(),
                removed_tasks: removed,
            });
        }
        if now % 1_000 < 100 {
            reports.push(FromAgent::Heartbeat);
        }
        reports
    }

    /// Tasks with a container.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &TaskAssignment> + '_ {
        let has =
            |status: &TaskStatus| matches!(status.state, TaskState::Starting | TaskState::Running);
        self.tasks.values().filter(move |(_, status)| has(status)).map(|(task, _)| task)
    }

    /// Where this agent's networks lead.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NetworkId, &NetworkPeer)> + '_ {
        self.networks.iter().flat_map(|(id, (_, peers))| peers.iter().map(|peer| (*id, peer)))
    }

    /// Tasks whose containers run.
    pub(crate) fn running(&self) -> impl Iterator<Item = TaskId> + '_ {
        let runs = self.tasks.iter().filter(|(_, (_, status))| status.state == TaskState::Running);
        runs.map(|(id, _)| *id)
    }
}

fn next(state: TaskState, desired: TaskState, random: &mut Random) -> Option<TaskState> {
    if state.is_terminal() {
        return None;
    }
    if desired >= TaskState::Shutdown {
        return Some(TaskState::Shutdown);
    }
    match state {
        TaskState::Assigned => Some(TaskState::Accepted),
        TaskState::Accepted => Some(TaskState::Preparing),
        TaskState::Preparing if random.chance(1) => Some(TaskState::Rejected),
        TaskState::Preparing => random.chance(70).then_some(TaskState::Ready),
        TaskState::Ready if desired == TaskState::Running => Some(TaskState::Starting),
        TaskState::Starting => random.chance(80).then_some(TaskState::Running),
        _ => None,
    }
}
