//! Stops the tasks of nodes that drain. Their slots are then filled elsewhere.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Availability, TaskState};

use super::{Observed, Plan};
use crate::core::state::{State, tasks_on};

/// See the module.
pub fn plan(state: &State, _observed: &Observed, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let draining = state.nodes.values().filter(|node| node.availability == Availability::Drain);
    for node in draining {
        let read = [(ObjectId::Node(node.id), Counter::Spec)];
        for task in tasks_on(state, node.id) {
            if task.desired <= TaskState::Running && !task.status.state.is_terminal() {
                let desired = TaskState::Shutdown;
                plan.add(state, &read, vec![Action::SetTaskDesired { task: task.id, desired }]);
            }
        }
    }
    plan
}
