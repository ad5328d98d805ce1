//! Moves the tasks of nodes that drain away. Their slots are filled elsewhere.
//!
//! What serves clients moves as by an update of its service (see `moves`). What serves nobody is stopped at once, and so
//! are jobs and the tasks of global services, which have no other place.

use std::collections::BTreeMap;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Timestamp};
use swarm_proto::object::{Availability, Service, Task, TaskState};
use swarm_proto::spec::ServiceMode;

use super::moves::Moves;
use super::slot::stop_task;
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
                let read = [(ObjectId::Node(node.id), Counter::Spec)];
                plan.add(state, &read, vec![stop_task(task)]);
            }
        }
        room.insert(node.id, AT_ONCE.saturating_sub(under_way));
    }
    for (id, tasks) in serving {
        if let Some(service) = state.services.get(&id) {
            move_away(state, service, &tasks, &mut room, now, &mut plan);
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

/// Sets as many of a service's tasks in motion as it can spare, and their nodes have room for.
fn move_away(
    state: &State,
    service: &Stored<Service>,
    tasks: &[&Stored<Task>],
    room: &mut BTreeMap<NodeId, usize>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mut moves = Moves::of(state, service);
    for task in tasks {
        let Some(node) = task.node else { continue };
        let left = room.entry(node).or_default();
        if moves.has_successor(task) {
            *left = left.saturating_sub(1);
        } else if *left > 0
            && let Some(action) = moves.begin(task, now)
        {
            *left -= 1;
            let read = [
                (ObjectId::Node(node), Counter::Spec),
                (ObjectId::Service(service.id), Counter::Spec),
                (ObjectId::Task(task.id), Counter::Desired),
            ];
            plan.add(state, &read, vec![action]);
        }
    }
}
