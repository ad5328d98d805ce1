//! Moves the tasks of nodes that drain away. Their slots are filled elsewhere.
//!
//! What serves clients moves as by an update of its service, under the same promise: nothing is stopped while fewer than
//! the replicas less the policy's parallelism serve; with start-first, nothing before its successor serves. What serves
//! nobody is stopped at once, and so are jobs and the tasks of global services, which have no other place.

use std::collections::BTreeMap;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, Timestamp};
use swarm_proto::object::{Availability, Service, Task, TaskState};
use swarm_proto::spec::{ServiceMode, UpdateOrder};

use super::slot::{Next, SlotView, next_task, next_version, slots};
use super::{Observed, Plan};
use crate::core::state::{State, Stored, is_backend, tasks_on};

/// Tasks of one node that are on their way at a time: more would have all other hosts fetch and start at once.
pub(super) const AT_ONCE: usize = 16;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut serving: BTreeMap<ServiceId, Vec<&Stored<Task>>> = BTreeMap::new();
    let mut room: BTreeMap<NodeId, usize> = BTreeMap::new();
    let draining = state.nodes.values().filter(|node| node.availability == Availability::Drain);
    for node in draining {
        let mut under_way = 0;
        for task in tasks_on(state, node.id).filter(|task| !task.status.state.is_terminal()) {
            if task.desired > TaskState::Running {
                under_way += 1;
            } else if is_missed(state, task) {
                serving.entry(task.id.service).or_default().push(task);
            } else {
                stop(state, node.id, task, &mut plan);
            }
        }
        room.insert(node.id, AT_ONCE.saturating_sub(under_way));
    }
    for (id, tasks) in serving {
        if let Some(service) = state.services.get(&id) {
            Moves::of(state, service).plan(&tasks, &mut room, now, &mut plan);
        }
    }
    plan
}

/// Whether clients are led to a task, and it has another place.
fn is_missed(state: &State, task: &Task) -> bool {
    let service = state.services.get(&task.id.service);
    let stays = |service: &Stored<Service>| {
        !service.removing && matches!(service.spec.mode, ServiceMode::Replicated { .. })
    };
    is_backend(task) && service.is_some_and(stays)
}

fn stop(state: &State, node: NodeId, task: &Stored<Task>, plan: &mut Plan) {
    let read = [(ObjectId::Node(node), Counter::Spec)];
    let desired = TaskState::Shutdown;
    plan.add(state, &read, vec![Action::SetTaskDesired { task: task.id, desired }]);
}

/// What may move of a service now.
struct Moves<'a> {
    state: &'a State,
    service: &'a Stored<Service>,
    slots: BTreeMap<Slot, SlotView<'a>>,
    order: UpdateOrder,
    /// Slots that may stop serving, or whose successors may be begun.
    spare: usize,
}

impl<'a> Moves<'a> {
    fn of(state: &'a State, service: &'a Stored<Service>) -> Self {
        let slots = slots(state, service);
        let policy = service.update_policy();
        let wanted = match service.spec.mode {
            ServiceMode::Replicated { replicas } => replicas as usize,
            _ => 0,
        };
        let own = slots.iter().filter(|(slot, _)| !matches!(slot, Slot::OneOff(_)));
        let taken = match policy.order {
            UpdateOrder::StopFirst => {
                let serves = own.filter(|(_, view)| view.serves(state)).count();
                wanted.saturating_sub(serves)
            }
            UpdateOrder::StartFirst => own.filter(|(_, view)| is_begun(view)).count(),
        };
        let spare = match policy.parallelism {
            0 => usize::MAX,
            some => (some as usize).saturating_sub(taken),
        };
        Self { state, service, slots, order: policy.order, spare }
    }

    fn plan(
        mut self,
        tasks: &[&Stored<Task>],
        room: &mut BTreeMap<NodeId, usize>,
        now: Timestamp,
        plan: &mut Plan,
    ) {
        for task in tasks {
            let Some((node, view)) = task.node.zip(self.slots.get(&task.id.slot)) else { continue };
            let left = room.entry(node).or_default();
            let has_successor = view.newest().is_some_and(|newest| newest.id != task.id);
            if has_successor {
                // It stops once that one serves.
                *left = left.saturating_sub(1);
                continue;
            }
            if self.spare == 0 || *left == 0 {
                continue;
            }
            self.spare -= 1;
            *left -= 1;
            match self.order {
                UpdateOrder::StopFirst => stop(self.state, node, task, plan),
                UpdateOrder::StartFirst => self.begin(task, view, now, plan),
            }
        }
    }

    /// Makes the next task of a slot while the one before serves.
    fn begin(&self, task: &Stored<Task>, view: &SlotView<'_>, now: Timestamp, plan: &mut Plan) {
        let version = next_version(self.state, self.service, Some(view));
        let read = [
            (ObjectId::Service(self.service.id), Counter::Spec),
            (ObjectId::Task(task.id), Counter::Desired),
        ];
        let next = Next::of_version(version);
        let next = next_task(self.state, self.service, task.id.slot, next, now);
        plan.add(self.state, &read, vec![next]);
    }
}

/// Whether a slot's newest task is on its way while another serves.
fn is_begun(view: &SlotView<'_>) -> bool {
    view.newest().is_some_and(|newest| !is_backend(newest)) && view.runs()
}
