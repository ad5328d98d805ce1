//! An agent that pretends: it walks tasks through their states, keeps a journal, and confirms what it has applied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use swarm_controller::core::{FromAgent, ToAgent};
use swarm_proto::assignment::{
    AssignmentDiff, NetworkAssignment, NetworkChange, NetworkPeer, TaskAssignment, VolumeReport,
};
use swarm_proto::id::{NetworkId, NodeId, ServiceId, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{HostShare, NodeDescription, TaskState, TaskStatus};
use swarm_proto::spec::ContentId;
use swarm_tests::random::Random;

use crate::autoscale;
use crate::health;
use crate::lease::{self, Lease, Standing};
use crate::stack::{self, ENDS};
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
    networks: BTreeMap<NetworkId, Known>,
    /// Since when this agent is in its session.
    connected: u64,
    /// When tasks were first told to end.
    told: BTreeMap<TaskId, u64>,
    /// Tasks that were stopped since somebody looked, on the word that no client is led to them any more.
    pub(crate) withdrawn: Vec<TaskAssignment>,
    volumes: BTreeMap<VolumeId, String>,
    /// In memory only.
    contents: BTreeSet<ContentId>,
    unsent: Vec<FromAgent>,
    /// Until when tasks may run that need the word of a leader.
    lease: Lease,
}

/// What an agent knows of a network.
struct Known {
    network: NetworkAssignment,
    since: u64,
    /// Where its virtual addresses and published ports lead.
    backends: BTreeSet<Ipv4Addr>,
    /// Services that connections wake and that have no backend.
    at_zero: BTreeSet<ServiceId>,
}

impl Known {
    fn new(network: NetworkAssignment, since: u64) -> Self {
        let ports = network.ingress.iter().map(|port| (&port.backends, port.wakes));
        let vips = network.vips.iter().map(|vip| (&vip.backends, vip.wakes));
        let leads: Vec<_> = vips.chain(ports).collect();
        let empty = leads.iter().filter(|(backends, _)| backends.is_empty());
        let at_zero = empty.filter_map(|(_, wakes)| *wakes).collect();
        let backends = leads.iter().flat_map(|(backends, _)| backends.iter().copied()).collect();
        Self { network, since, backends, at_zero }
    }
}

fn status(state: TaskState, now: u64) -> TaskStatus {
    TaskStatus::new(state, Timestamp(now))
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
            connected: 0,
            told: BTreeMap::new(),
            withdrawn: Vec::new(),
            volumes: BTreeMap::new(),
            contents: BTreeSet::new(),
            unsent: Vec::new(),
            lease: Lease::default(),
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
                pids: 1_000,
                generic_resources: stack::resources(self.machine),
                reserve: HostShare { millicpus: 200, memory: 1 << 30, pids: 100 },
                ..NodeDescription::default()
            },
            statuses: statuses.collect(),
            volumes: self.volume_reports(),
            takes_network_changes: true,
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
        self.lease = Lease::default();
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
        self.lease.end_session();
    }

    pub(crate) fn receive(&mut self, message: ToAgent, now: u64) {
        self.heard = now;
        if matches!(message, ToAgent::Welcome { .. }) {
            self.connected = now;
        }
        if matches!(message, ToAgent::Alive { .. }) {
            self.lease.answered();
        }
        if let ToAgent::Assignments { complete, diff, contents, .. } = message {
            for (id, content) in contents {
                let whole = content.bytes().unwrap_or_default();
                let is_right = ContentId::of(id.kind, whole.reveal()) == id;
                demand(is_right, "a content is what its digest says", || &id);
                self.contents.insert(id);
            }
            self.take(complete, diff, now);
        }
    }

    fn take(&mut self, complete: bool, diff: AssignmentDiff, now: u64) {
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
        self.take_networks(diff.networks, &diff.network_changes, now);
        for network in &gone {
            self.networks.remove(network);
        }
        for volume in diff.volumes.iter().filter(|volume| volume.remove) {
            self.volumes.remove(&volume.id);
        }
        self.unsent.push(FromAgent::Volumes(self.volume_reports()));
        self.unsent.push(FromAgent::Confirmation {
            networks: self
                .networks
                .iter()
                .map(|(id, known)| (*id, known.network.version))
                .collect(),
            removed_networks: gone,
            removed_tasks: removed,
        });
    }

    fn take_networks(
        &mut self,
        networks: Vec<NetworkAssignment>,
        changes: &[NetworkChange],
        now: u64,
    ) {
        for network in networks {
            let since = self.networks.get(&network.id).map_or(now, |known| known.since);
            self.networks.insert(network.id, Known::new(network, since));
        }
        for change in changes {
            let known = self.networks.get_mut(&change.id);
            let known = known.filter(|known| change.fits(&known.network));
            demand(known.is_some(), "a change of a network fits what was told before", || {
                format!("{} of network {}", change.from, change.id)
            });
            if let Some(known) = known {
                let mut network = known.network.clone();
                change.apply(&mut network);
                *known = Known::new(network, known.since);
            }
        }
    }

    /// Moves each task a step on, and says what to report. Only `faulty` ones become unhealthy.
    pub(crate) fn step(&mut self, now: u64, faulty: bool, random: &mut Random) -> Vec<FromAgent> {
        let mut reports = std::mem::take(&mut self.unsent);
        let mut statuses = Vec::new();
        let mut removed = Vec::new();
        self.told.retain(|id, _| self.tasks.contains_key(id));
        for (id, (task, known)) in &mut self.tasks {
            let runs = known.state == TaskState::Running;
            if runs && task.desired > TaskState::Running {
                let told = *self.told.entry(*id).or_insert(now);
                if !health::may_stop(task, told, now, &mut self.withdrawn) {
                    continue;
                }
            }
            if task.desired == TaskState::Remove {
                removed.push(*id);
                continue;
            }
            let healthy = known.clone();
            let standing = self.lease.standing(task, now);
            if lease::step(known, standing, now, random) {
                statuses.push((*id, known.clone()));
                continue;
            }
            if runs && task.desired == TaskState::Running {
                health::step(task, known, (now, faulty), random, &mut self.withdrawn);
            }
            let fails = stack::fails(&task.container) && known.state == TaskState::Starting;
            let failed = (fails && task.desired == TaskState::Running).then_some(TaskState::Failed);
            if let Some(state) = failed.or_else(|| next(known.state, task, random)) {
                if state == TaskState::Starting && standing != Standing::Valid {
                    continue;
                }
                self.started |= state == TaskState::Starting;
                *known = status(state, now);
                known.health = health::at_start(task, state, now);
            }
            if *known != healthy {
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
        reports.extend(self.measure(now, faulty));
        if now % 1_000 < 100 {
            reports.extend(self.demand(now, faulty));
            self.lease.sent(self.complete, now);
            reports.push(FromAgent::Heartbeat);
        }
        reports
    }

    /// The services at zero that somebody here connects to.
    fn demand(&self, now: u64, faulty: bool) -> Option<FromAgent> {
        let at_zero = self.networks.values().flat_map(|known| &known.at_zero);
        let services = autoscale::demanded(at_zero, self.machine, now, faulty);
        (!services.is_empty()).then_some(FromAgent::Demand(services))
    }

    /// What its tasks use, where that is measured now.
    fn measure(&self, now: u64, faulty: bool) -> Option<FromAgent> {
        let running = self.tasks.values().filter(|(_, known)| known.state == TaskState::Running);
        let usages = autoscale::measured(running.map(|(task, _)| task), now, faulty);
        (!usages.is_empty()).then_some(FromAgent::Usage(usages))
    }

    /// Nobody is there to say anything to: what may not run any longer stops.
    pub(crate) fn step_alone(&mut self, now: u64, random: &mut Random) {
        for (task, known) in self.tasks.values_mut() {
            lease::step(known, self.lease.standing(task, now), now, random);
        }
    }

    /// Tasks with a container. What is overdue was killed, also where no agent was there to do so.
    pub(crate) fn containers(&self, now: u64) -> impl Iterator<Item = &TaskAssignment> + '_ {
        let has =
            |status: &TaskStatus| matches!(status.state, TaskState::Starting | TaskState::Running);
        let live = move |task: &TaskAssignment| self.lease.standing(task, now) != Standing::Overdue;
        let tasks = self.tasks.values().filter(move |(_, status)| has(status));
        tasks.map(|(task, _)| task).filter(move |task| live(task))
    }

    /// Where this agent's networks lead.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NetworkId, &NetworkPeer)> + '_ {
        self.networks
            .iter()
            .flat_map(|(id, known)| known.network.peers.iter().map(|peer| (*id, peer)))
    }

    /// Whether this agent leads clients of a network to an address, and is one that controllers wait for before they
    /// say that nobody does.
    pub(crate) fn leads_to(&self, network: NetworkId, address: Ipv4Addr, now: u64) -> bool {
        let long = |since: u64| since + health::SETTLED <= now;
        let in_touch = self.session.is_some() && self.complete && self.heard + health::TOUCH >= now;
        let known = self.networks.get(&network).filter(|known| long(known.since));
        let leads = known.is_some_and(|known| known.backends.contains(&address));
        leads && in_touch && long(self.connected) && !self.is_stale
    }

    /// Tasks whose containers run.
    pub(crate) fn running(&self) -> impl Iterator<Item = TaskId> + '_ {
        let runs = self.tasks.iter().filter(|(_, (_, status))| status.state == TaskState::Running);
        runs.map(|(id, _)| *id)
    }
}

fn next(state: TaskState, task: &TaskAssignment, random: &mut Random) -> Option<TaskState> {
    let desired = task.desired;
    let command = task.container.command.as_ref().and_then(|words| words.first());
    let ends = command.is_some_and(|word| word == ENDS);
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
        TaskState::Running if ends && random.chance(4) => Some(TaskState::Failed),
        TaskState::Running if ends && random.chance(20) => Some(TaskState::Complete),
        _ => None,
    }
}
