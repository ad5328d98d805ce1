//! What must hold in every state.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::{Content, Event, State};
use swarm_proto::entry::ObjectId;
use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::{
    GenericResource, HostShare, Node, Service, Task, TaskState, UpdateState,
};
use swarm_proto::spec::{ContentId, ServiceMode};

use crate::autoscale::{Scalings, asleep, within_bounds};
use crate::canary::Canaries;
use crate::moves::Moves;
use crate::overlap::Overlaps;
use crate::preemption::Preemptions;
use crate::stack::GREEDY;
use crate::switch::Switches;
use crate::violation::{demand, violated};

/// See the module.
#[derive(Default)]
pub(crate) struct Check {
    /// The highest index that anybody applied.
    pub(crate) applied: u64,
    /// The state's checksum after each index, as the first controller that applied it found.
    checksums: BTreeMap<u64, u64>,
    /// Where each task is, and how far it has come.
    tasks: BTreeMap<TaskId, (Option<NodeId>, TaskState)>,
    removed: BTreeSet<TaskId>,
    lost: BTreeSet<TaskId>,
    /// The run of each time of a schedule, and how many runs each service had.
    times: BTreeMap<(ServiceId, Timestamp), u64>,
    runs: BTreeMap<ServiceId, u64>,
    /// How many tasks of a run might go on at a time.
    allowed: BTreeMap<(ServiceId, u64), u32>,
    canaries: Canaries,
    pub(crate) moves: Moves,
    preemptions: Preemptions,
    switches: Switches,
    overlaps: Overlaps,
    scalings: Scalings,
    /// The node of each raft id that was ever given out.
    raft_ids: BTreeMap<u64, NodeId>,
    /// Up to where the events were looked at.
    seen: u64,
    /// The index with which the group begins, and how many entries groups that are lost committed.
    first: u64,
    past: u64,
}

impl Check {
    /// Whether a task was ever given up with its node. A cluster that is restored may not know that it was.
    pub(crate) fn was_lost(&self, task: TaskId) -> bool {
        self.lost.contains(&task)
    }

    /// Whether a task may run beside an older one of its slot that was not lost.
    pub(crate) fn may_overlap(&self, older: TaskId, newer: TaskId) -> bool {
        self.overlaps.may_overlap(older, newer)
    }

    /// How many entries were committed.
    pub(crate) fn commits(&self) -> u64 {
        self.past + self.applied - self.first
    }

    /// A backup was restored. What was made after it is gone, and its names are not used again.
    pub(crate) fn begin_anew(&mut self, state: &State) {
        self.past = self.commits();
        (self.first, self.applied, self.seen) = (state.applied, state.applied, state.applied);
        self.checksums.clear();
        // What was run after the backup is not known any more.
        self.times.clear();
        self.runs.clear();
        self.canaries = Canaries::default();
        self.preemptions = Preemptions::default();
        self.switches.begin_anew();
        self.overlaps.begin_anew(state);
        self.scalings = Scalings::default();
        self.removed.extend(self.tasks.keys());
        self.removed.retain(|task| !state.tasks.contains_key(task));
        let tasks = state.tasks.values();
        self.tasks = tasks.map(|task| (task.id, (task.node, task.status.state))).collect();
    }

    /// Whether another controller came as far before: one that lags tells again what others have told.
    pub(crate) fn has_seen(&self, state: &State) -> bool {
        state.applied <= self.seen
    }

    /// A controller's state moved on.
    pub(crate) fn look(&mut self, state: &State, events: &[Event]) {
        let first = *self.checksums.entry(state.applied).or_insert(state.checksum);
        demand(first == state.checksum, "the same entries make the same state", || {
            format!("states differ after entry {}", state.applied)
        });
        if self.has_seen(state) {
            return;
        }
        self.seen = state.applied;
        // Of each task the last counts: earlier ones may have been told by others.
        let mut last = BTreeMap::new();
        for event in events {
            match event {
                Event::Task(task) => {
                    // It may be given up and forgotten by the same entry.
                    if task.status.state == TaskState::Orphaned {
                        self.lost.insert(task.id);
                    }
                    self.overlaps.note_task(task, state);
                    last.insert(task.id, Some(task));
                }
                Event::Node(node) => {
                    self.node(node);
                    self.overlaps.note_node(node);
                    self.switches.note_node(node);
                }
                Event::Service(service) => {
                    self.allow(service);
                    self.canaries.allow(service);
                    self.overlaps.note_service(service);
                    self.scalings.see(service);
                }
                Event::Removed { object: ObjectId::Task(task), .. } => {
                    last.insert(*task, None);
                }
                _ => {}
            }
        }
        for (id, task) in last {
            match task {
                Some(task) => self.task(task),
                None => drop(self.removed.insert(id)),
            }
        }
        contents_stay(state);
        externals_stay(state);
        unique_addresses(state);
        no_overcommitment(state);
        within_bounds(state);
        for service in state.services.values() {
            self.runs(service);
        }
        self.few_at_a_time(state);
        self.canaries.look(state);
        self.moves.look(state);
        self.preemptions.look(events);
        self.switches.look(state);
    }

    /// How many tasks of each run might go on at a time since it began.
    fn allow(&mut self, service: &Service) {
        if let ServiceMode::ReplicatedJob { max_concurrent, .. } = service.spec.mode {
            for run in service.runs.list.iter().filter(|run| run.is_active()) {
                let most = self.allowed.entry((service.id, run.number)).or_default();
                *most = max_concurrent.max(*most);
            }
        }
    }

    fn few_at_a_time(&self, state: &State) {
        for service in state.services.values() {
            let runs = service.runs.active().filter(|run| run.total.is_some());
            for key in runs.map(|run| (service.id, run.number)) {
                let most = self.allowed.get(&key).copied().unwrap_or(u32::MAX);
                let running = state.index.runs.get(&key).map_or(0, |counts| counts.running);
                demand(running <= most, "few tasks of a job at a time", || {
                    format!("{running} of {} run, {most} may", service.name())
                });
            }
        }
    }

    /// Each time of a schedule is run once, by one run, and no number is given twice.
    fn runs(&mut self, service: &Service) {
        let before = self.runs.insert(service.id, service.runs.started).unwrap_or(0);
        demand(service.runs.started >= before, "runs are counted", || service.name());
        for run in &service.runs.list {
            let Some(at) = run.scheduled_at else { continue };
            let first = *self.times.entry((service.id, at)).or_insert(run.number);
            demand(first == run.number, "a time is run once", || {
                format!("{} ran {} as {first} and as {}", service.name(), at.0, run.number)
            });
            demand(at <= service.runs.decided_until, "a time that is run is decided", || at.0);
        }
    }

    fn task(&mut self, task: &Task) {
        let now = (task.node, task.status.state);
        let before = self.tasks.entry(task.id).or_insert(now);
        demand(now.1 >= before.1, "a task's state only rises", || {
            format!("{} fell from {} to {}", task.id, before.1, now.1)
        });
        demand(before.0.is_none() || before.0 == now.0, "a task never moves", || {
            format!("{} moved from {:?} to {:?}", task.id, before.0, now.0)
        });
        *before = now;
        demand(!self.removed.contains(&task.id), "a removed task never comes back", || task.id);
    }

    fn node(&mut self, node: &Node) {
        let Some(id) = node.raft_id else { return };
        let first = *self.raft_ids.entry(id.0).or_insert(node.id);
        demand(first == node.id, "a raft id is never reused", || {
            format!("raft id {id} was node {first}'s and is node {}'s", node.id)
        });
    }

    /// What must hold when nothing is left to do.
    pub(crate) fn at_rest(state: &State) {
        let unsettled = owed(state);
        if !unsettled.is_empty() {
            let tasks = state.tasks.values().filter(|task| unsettled.contains(&task.id.service));
            let tasks = tasks.map(|task| {
                let (id, status, version) = (task.id, &task.status, task.spec_version);
                let (node, after) = (task.node, task.start_after);
                let health = status.health.as_ref().map(|health| health.state);
                format!(
                    "{id} {}/{} {}({health:?}, spec {version}, on {node:?}, after {after:?})",
                    status.state, task.desired, status.message
                )
            });
            let tasks = tasks.collect::<Vec<_>>().join("; ");
            let services = unsettled.iter().filter_map(|id| state.services.get(id));
            let services = services.map(|service| {
                let (spec, update) = (&service.spec, &service.update);
                let counts = state.index.counts.get(&service.id);
                let (mode, restart) = (spec.mode, spec.restart);
                format!("{} {mode:?} {restart:?} {update:?} {counts:?}", service.id)
            });
            let services = services.collect::<Vec<_>>().join("; ");
            let clock = state.clock;
            violated("services converge", format!("at {clock:?} {services} did not: {tasks}"));
        }
        Preemptions::at_rest(state);
        let asleep = asleep(state);
        demand(asleep.is_empty(), "who connects wakes a service", || format!("{asleep:?} sleep"));
        let leaving = leaving(state);
        demand(leaving.is_empty(), "what leaves a stack goes in the end", || {
            format!("{leaving:?} still have something to lose")
        });
        let going = state.networks.values().find(|network| network.removing);
        demand(going.is_none(), "networks go in the end", || format!("{going:?} is still there"));
        for service in state.services.values().filter(|one| !is_greedy(state, one.id)) {
            let update = service.update.as_ref();
            let ended = update.is_none_or(|update| {
                matches!(update.state, UpdateState::Completed | UpdateState::RollbackCompleted)
            });
            demand(ended, "an update ends", || format!("{}: {update:?}", service.name()));
        }
        demand(state.quarantine.is_empty(), "addresses leave quarantine", || {
            let networks: BTreeSet<_> = state.quarantine.keys().map(|(id, _)| *id).collect();
            let networks = networks.into_iter().filter_map(|id| state.networks.get(&id));
            let networks = networks.map(|network| {
                let nodes = network.gateways.iter().map(|gate| {
                    let status = state.nodes.get(&gate.node).map(|node| node.status);
                    (gate.node, status, state.index.needs(network.id, gate.node))
                });
                (network.id, network.removing, nodes.collect::<Vec<_>>())
            });
            format!("{:?} stay; networks: {:?}", state.quarantine, networks.collect::<Vec<_>>())
        });
        let history = state.cluster.as_ref().map_or(5, |cluster| cluster.task_history);
        let most = state.index.dead.values().copied().max().unwrap_or(0);
        demand(most <= history, "histories are bounded", || format!("{most} dead tasks in a slot"));
    }
}

fn unique_addresses(state: &State) {
    let mut held = BTreeMap::new();
    for task in state.tasks.values().filter(|task| !task.status.state.is_terminal()) {
        for place in &task.attachments {
            let key = (place.network, place.address);
            let other = held.insert(key, task.id);
            demand(other.is_none(), "an address has one holder", || {
                format!("{} of network {} is held twice", key.1, key.0)
            });
            let raw = (place.network, u32::from(place.address));
            demand(
                !state.quarantine.contains_key(&raw),
                "no address is used in quarantine",
                || key.1,
            );
        }
    }
}

/// What a service or a task that is not over refers to is there, whole.
fn contents_stay(state: &State) {
    let whole = |id: &ContentId| state.contents.get(id).is_some_and(Content::is_complete);
    let lost = state.index.content_uses.keys().find(|id| !whole(id));
    demand(lost.is_none(), "a content in use stays", || format!("{lost:?} is gone"));
}

/// What a service or a task that is not over uses and does not belong to its stack is there, and not being removed.
fn externals_stay(state: &State) {
    let network = |name: &String| {
        let network = state.index.network_names.get(name).and_then(|id| state.networks.get(id));
        network.is_some_and(|network| !network.removing)
    };
    let volume = |name: &String| {
        let volume = state.index.volume_names.get(name).and_then(|id| state.volumes.get(id));
        volume.is_some_and(|volume| !volume.removing)
    };
    let lost = state.index.external_networks.keys().find(|(name, _)| !network(name));
    demand(lost.is_none(), "a network in use stays", || format!("{lost:?} is gone"));
    let lost = state.index.external_volumes.keys().find(|(name, _)| !volume(name));
    demand(lost.is_none(), "a volume in use stays", || format!("{lost:?} is gone"));
}

/// Services whose tasks are not as they should be, but for those that want more than there may be.
pub(crate) fn owed(state: &State) -> BTreeSet<ServiceId> {
    let unsettled = state.index.unsettled.iter().copied();
    unsettled.filter(|id| !is_greedy(state, *id)).collect()
}

/// Stacks of which something still goes, but for those where it waits for such a service.
pub(crate) fn leaving(state: &State) -> BTreeSet<String> {
    let unsettled = state.index.unsettled.iter().filter(|id| is_greedy(state, **id));
    let waiting: BTreeSet<&str> =
        unsettled.filter_map(|id| Some(state.services.get(id)?.stack.as_str())).collect();
    let leaving = state.index.leaving.iter();
    leaving.filter(|stack| !waiting.contains(stack.as_str())).cloned().collect()
}

fn is_greedy(state: &State, service: ServiceId) -> bool {
    state.services.get(&service).is_some_and(|service| service.key == GREEDY && !service.removing)
}

/// Whatever tasks may live on a node, they have no more than it has for them, and nothing twice.
fn no_overcommitment(state: &State) {
    let mut shares: BTreeMap<NodeId, HostShare> = BTreeMap::new();
    let mut counts: BTreeMap<(NodeId, &str), u64> = BTreeMap::new();
    let mut names: BTreeSet<(NodeId, &str, &str)> = BTreeSet::new();
    for task in state.tasks.values() {
        let may_live = !task.status.state.is_terminal() || task.status.state == TaskState::Orphaned;
        let (Some(node), true, Some(spec)) = (task.node, may_live, state.task_spec(task)) else {
            continue;
        };
        let wanted = spec.container.resources.reserved();
        let share = shares.entry(node).or_default();
        share.millicpus += wanted.millicpus;
        share.memory += wanted.memory;
        share.pids += wanted.pids;
        for (kind, resource) in &task.resources {
            match resource {
                GenericResource::Count(count) => *counts.entry((node, kind)).or_default() += count,
                GenericResource::Named(given) => {
                    let twice = given.iter().find(|name| !names.insert((node, kind, name)));
                    demand(twice.is_none(), "nothing is given twice", || task.id);
                }
            }
        }
    }
    for (node, share) in &shares {
        let has = state.nodes.get(node).map(|node| node.description.for_tasks());
        let has = has.unwrap_or_default();
        let fits = share.millicpus <= has.millicpus
            && share.memory <= has.memory
            && share.pids <= has.pids;
        demand(fits, "no node is overcommitted", || node);
    }
    for ((node, kind), count) in counts {
        let has =
            state.nodes.get(&node).and_then(|node| node.description.generic_resources.get(kind));
        let fits = has.is_some_and(|has| count <= has.len());
        demand(fits, "no node is overcommitted", || node);
    }
}
