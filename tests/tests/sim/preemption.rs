//! Who is stopped for whom, and that nobody waits for a place that a lower one has.

use std::collections::BTreeMap;

use swarm_controller::core::{Event, State};
use swarm_proto::id::{NodeId, Slot, TaskId};
use swarm_proto::object::{
    Availability, GenericResource, Node, NodeStatus, Service, Task, TaskState,
};
use swarm_proto::spec::{Amount, ServiceSpec};

use crate::stack::GREEDY;
use crate::violation::demand;

/// What was seen of tasks that were stopped for others. That these were of higher priority is not looked for: no
/// controller takes an entry that says otherwise.
#[derive(Default)]
pub(crate) struct Preemptions {
    /// For whom each task was stopped.
    seen: BTreeMap<TaskId, TaskId>,
}

impl Preemptions {
    /// Each task that was stopped for another one is so for that one only, ends, and is one of a service's own.
    pub(crate) fn look(&mut self, events: &[Event]) {
        for event in events {
            let Event::Task(task) = event else { continue };
            let Some(by) = task.preempted_by else { continue };
            let first = *self.seen.entry(task.id).or_insert(by);
            demand(first == by, "a task makes place once", || {
                format!("{} for {first} and for {by}", task.id)
            });
            demand(task.desired > TaskState::Running, "who makes place ends", || task.id);
            let beside = matches!(task.id.slot, Slot::OneOff(_));
            demand(!beside, "only what is done again makes place", || task.id);
        }
    }

    /// No task waits for what those have that could make place for it.
    pub(crate) fn at_rest(state: &State) {
        for task in state.tasks.values() {
            let waits = task.status.state == TaskState::Pending
                && task.node.is_none()
                && task.desired == TaskState::Running;
            let service = state.services.get(&task.id.service);
            // The only ones that wait at rest, and that go anywhere.
            let Some(service) = service.filter(|one| waits && one.key == GREEDY && !one.removing)
            else {
                continue;
            };
            let Some(spec) = state.task_spec(task) else { continue };
            let found = state.nodes.values().find(|node| {
                is_there(state, node)
                    && fits(state, node, spec, |other| keeps_place(state, other, service))
            });
            demand(found.is_none(), "no task waits for what lower ones have", || {
                let node = found.map(|node| node.id);
                format!("{} waits, though {node:?} could have it", task.id)
            });
        }
    }
}

fn is_there(state: &State, node: &Node) -> bool {
    node.status == NodeStatus::Ready
        && node.availability == Availability::Active
        && !node.is_unsteady(state.clock)
}

/// Whether a task does not go for those of a service.
fn keeps_place(state: &State, task: &Task, service: &Service) -> bool {
    let own = state.services.get(&task.id.service);
    own.is_none_or(|own| {
        own.spec.priority >= service.spec.priority || own.spec.never_preempted || own.removing
    }) || matches!(task.id.slot, Slot::OneOff(_))
}

/// Whether a node has what a task reserves, beside those that keep their places.
fn fits(state: &State, node: &Node, spec: &ServiceSpec, keeps: impl Fn(&Task) -> bool) -> bool {
    let tasks = state.tasks.values().filter(|task| may_live_on(task, node.id) && keeps(task));
    let tasks: Vec<&Task> = tasks.map(|task| &**task).collect();
    let wanted = spec.container.resources.reserved();
    let mut free = node.description.for_tasks();
    for spec in tasks.iter().filter_map(|task| state.task_spec(task)) {
        free = free.without(spec.container.resources.reserved());
    }
    let has_share = wanted.millicpus <= free.millicpus
        && wanted.memory <= free.memory
        && wanted.pids <= free.pids;
    has_share
        && spec.container.resources.requests.iter().all(|request| {
            let has = node.description.generic_resources.get(&request.kind);
            let Some(has) = has.filter(|has| !has.is_empty()) else { return false };
            let taken: Vec<&GenericResource> =
                tasks.iter().filter_map(|task| task.resources.get(&request.kind)).collect();
            let count: u64 = taken.iter().map(|resource| resource.len()).sum();
            match &request.amount {
                Amount::All => count == 0,
                Amount::Count(wanted) => count + wanted <= has.len(),
                Amount::Ids(ids) => ids
                    .iter()
                    .all(|id| names(has, id) && !taken.iter().any(|resource| names(resource, id))),
            }
        })
}

fn names(resource: &GenericResource, id: &str) -> bool {
    matches!(resource, GenericResource::Named(names) if names.contains(id))
}

fn may_live_on(task: &Task, node: NodeId) -> bool {
    let state = task.status.state;
    task.node == Some(node) && (!state.is_terminal() || state == TaskState::Orphaned)
}
