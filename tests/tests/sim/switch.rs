//! That a blue-green update leads clients from one spec to another at once, and to no fewer tasks.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::State;
use swarm_proto::id::{NodeId, ServiceId, Slot, TaskId};
use swarm_proto::object::{Node, NodeStatus, Service, Switch, Task, TaskState};

use crate::violation::demand;

/// What was seen of an update that leads clients over at once.
struct Seen {
    number: u64,
    switch: Switch,
    /// Whether clients have met one spec alone since it began.
    is_pure: bool,
    /// The slots that served before the switch, and on which node each.
    served: BTreeSet<(Slot, NodeId)>,
    /// The slots in which a new task could serve.
    ready: BTreeSet<Slot>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Switches {
    seen: BTreeMap<ServiceId, Seen>,
    /// Nodes that went down since the last look, which may be several entries ago.
    fell: BTreeSet<NodeId>,
}

impl Switches {
    /// A backup was restored: what was seen of updates is gone.
    pub(crate) fn begin_anew(&mut self) {
        self.seen.clear();
    }

    /// A node was written.
    pub(crate) fn note_node(&mut self, node: &Node) {
        if node.status == NodeStatus::Down {
            self.fell.insert(node.id);
        }
    }

    /// The state after one entry or some.
    pub(crate) fn look(&mut self, state: &State) {
        let mut seen = BTreeMap::new();
        for service in state.services.values() {
            let Some((number, switch)) = switch(service) else { continue };
            let (new, old) = served(state, service);
            let before = self.seen.get(&service.id).filter(|before| before.number == number);
            // One that begins amid another which exchanges slot by slot cannot be so.
            let is_pure = before.map_or_else(|| !is_mixed(state, service), |before| before.is_pure);
            demand(
                !is_pure || new.is_empty() || old.is_empty(),
                "clients meet one spec at a time",
                || format!("{} is met in {new:?} and of old in {old:?}", service.name()),
            );
            let versions = versions(state, service);
            let is_forced = versions.iter().any(|version| !can_run(state, service, *version));
            demand(
                !is_pure || versions.len() <= 1 || is_forced,
                "clients meet one spec at a time",
                || format!("{} is met in the versions {versions:?}", service.name()),
            );
            let is_pure = is_pure && versions.len() <= 1;
            if let Switch::Done(_) = switch {
                demand(old.is_empty(), "clients meet one spec after a switch", || {
                    format!("{} is met of old in {old:?}", service.name())
                });
                if let Some(before) = before.filter(|before| before.switch == Switch::Due) {
                    keeps_serving(state, service, before, &self.fell, &new);
                }
            }
            let served = met(state, service);
            let served = served.filter_map(|task| Some((task.id.slot, task.node?))).collect();
            let ready = own(state, service.id).filter(|task| is_ready(state, service, task));
            let ready = ready.map(|task| task.id.slot).collect();
            seen.insert(service.id, Seen { number, switch, is_pure, served, ready });
        }
        self.seen = seen;
        self.fell.clear();
    }
}

/// A switch leaves as many slots serving as before it. What came to run and fell ill or was lost meanwhile is nobody's
/// fault, nor is a slot in which the update has failed and may, nor a node that went down between two looks.
fn keeps_serving(
    state: &State,
    service: &Service,
    before: &Seen,
    fell: &BTreeSet<NodeId>,
    after: &BTreeSet<Slot>,
) {
    let served = before.served.iter().filter(|(_, node)| !fell.contains(node));
    let served: BTreeSet<Slot> = served.map(|(slot, _)| *slot).collect();
    let number = service.update.as_ref().map_or(0, |update| update.number);
    let is_unready = |slot: &&Slot| {
        let history = state.slots.get(&(service.id, **slot));
        let has_failed = history.is_some_and(|history| history.failed_update == number);
        let of_slot = || own(state, service.id).filter(|task| task.id.slot == **slot);
        let is_wanted = of_slot().any(|task| task.desired <= TaskState::Running);
        let ran = |task: &Task| {
            task.spec_version == service.spec_version && task.status.state >= TaskState::Running
        };
        is_wanted && !has_failed && !before.ready.contains(*slot) && !of_slot().any(ran)
    };
    let unready = served.difference(after).filter(is_unready).count();
    let gained = after.difference(&served).count();
    demand(unready <= gained, "a switch leaves no fewer tasks for clients", || {
        format!("{}: {served:?} served, {after:?} do", service.name())
    });
}

/// Whether clients could be led to a task of the spec in force.
fn is_ready(state: &State, service: &Service, task: &Task) -> bool {
    task.spec_version == service.spec_version
        && task.status.state == TaskState::Running
        && !task.status.is_unhealthy()
        && is_there(state, task)
}

/// Whether a task's node is not down.
fn is_there(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.nodes.get(&node));
    node.is_some_and(|node| node.status != NodeStatus::Down)
}

/// The number of a service's update that leads clients over at once, and how far it is.
pub(crate) fn switch(service: &Service) -> Option<(u64, Switch)> {
    let update = service.update.as_ref()?;
    let goes_on = update.state.is_open() || update.state.is_paused();
    (goes_on && update.switch != Switch::None).then_some((update.number, update.switch))
}

fn own(state: &State, service: ServiceId) -> impl Iterator<Item = &Task> {
    let first = TaskId { service, slot: Slot::Replica(0), generation: 0 };
    let tasks = state.tasks.range(first..).map(|(_, task)| &**task);
    tasks.take_while(move |task| task.id.service == service)
}

/// Whether tasks of several specs serve, or shall once they run.
fn is_mixed(state: &State, service: &Service) -> bool {
    let serves = |task: &&Task| {
        let is_own = !matches!(task.id.slot, Slot::OneOff(_));
        is_own && !task.standby && task.desired <= TaskState::Running
    };
    let mut serving = own(state, service.id).filter(serves).map(|task| task.spec_version);
    let first = serving.next();
    serving.any(|version| Some(version) != first)
}

/// Whether tasks of a spec version could be made: what it refers to is there.
fn can_run(state: &State, service: &Service, version: u64) -> bool {
    let spec = state.specs.get(&(service.id, version));
    spec.is_some_and(|spec| state.has_externals_of(spec))
}

/// The spec versions of all tasks to which clients are led.
fn versions(state: &State, service: &Service) -> BTreeSet<u64> {
    met(state, service).map(|task| task.spec_version).collect()
}

/// The slots in which clients are led to tasks of the spec in force, and to others.
fn served(state: &State, service: &Service) -> (BTreeSet<Slot>, BTreeSet<Slot>) {
    let (new, old): (Vec<&Task>, Vec<&Task>) =
        met(state, service).partition(|task| task.spec_version == service.spec_version);
    let slots = |tasks: Vec<&Task>| tasks.iter().map(|task| task.id.slot).collect();
    (slots(new), slots(old))
}

/// The tasks to which clients are led, on nodes that are there.
fn met<'a>(state: &'a State, service: &Service) -> impl Iterator<Item = &'a Task> {
    let is_met = move |task: &&Task| {
        let runs = task.status.state == TaskState::Running && task.desired == TaskState::Running;
        let is_own = !matches!(task.id.slot, Slot::OneOff(_));
        runs && is_own && !task.standby && !task.status.is_unhealthy() && is_there(state, task)
    };
    own(state, service.id).filter(is_met)
}
