//! Makes place for a task that fits nowhere, where it is of higher priority than others: stops tasks of the lowest
//! priority that are enough, and as few as that takes. They end as any task that is stopped, and their successors go
//! elsewhere or wait. Priorities fall from each task to its victims, so this comes to an end.

use std::collections::BTreeSet;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, Timestamp};
use swarm_proto::object::TaskState;

use super::making::Place;
use super::victims::{Making, Waiting};
use super::waiting;
use crate::core::rules::dependency::awaited;
use crate::core::rules::{Observed, Plan};
use crate::core::state::{State, ids_of, is_one_off};

/// Tasks for which place is looked for at a time, one of those that fare alike and those of higher priority first; tasks
/// that can go to one node only are not counted. What waits behind so many without hope is not looked at.
const TASKS: usize = 64;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(lowest) = state.lowest_priority().filter(|_| !state.index.unplaced.is_empty()) else {
        return plan;
    };
    let services = waiting(state).filter(|id| state.priority(*id) > lowest);
    let making = Making::of(state);
    let mut left = TASKS;
    for task in services.flat_map(|id| different_tasks(state, &making, id)) {
        if !task.has_one_node() {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        if let Some((node, victims)) = task.find() {
            let mut read = vec![(ObjectId::Task(task.task.id), Counter::Desired)];
            read.extend(victims.iter().map(|victim| (ObjectId::Task(*victim), Counter::Desired)));
            let action = Action::PreemptTasks { task: task.task.id, node, victims };
            plan.add(state, &read, vec![action]);
            // What the next one finds depends on it.
            break;
        }
    }
    plan
}

/// A service's tasks that wait and for which nobody makes place yet: one of those that fare alike.
fn different_tasks<'a>(
    state: &'a State,
    making: &'a Making<'a>,
    service: ServiceId,
) -> Vec<Waiting<'a>> {
    let Some(service) = state.services.get(&service).filter(|service| !service.removing) else {
        return Vec::new();
    };
    let mut seen: BTreeSet<(u64, bool, Option<NodeId>)> = BTreeSet::new();
    let mut tasks = Vec::new();
    let waiting = state.index.unplaced.range(ids_of(service.id));
    for task in waiting.filter_map(|id| state.tasks.get(id)) {
        let node = match task.id.slot {
            Slot::Node(node) => Some(node),
            Slot::Replica(_) | Slot::OneOff(_) => None,
        };
        let Some(spec) = state.task_spec(task).filter(|_| task.desired == TaskState::Running)
        else {
            continue;
        };
        let mut is_new = || seen.insert((task.spec_version, is_one_off(task), node));
        if Place::of(state, (service, spec), task).is_none()
            && is_new()
            && awaited(state, service, spec).is_none()
        {
            tasks.push(Waiting::new(state, making, (service, spec), task));
        }
    }
    tasks
}
