//! Which nodes are down, and what becomes of their tasks.

use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Node, NodeStatus, TaskState, TaskStatus};

use super::{Observed, Plan};
use crate::core::state::{State, tasks_on};

/// Agents that vanish together are more likely cut off than dead: their tasks are replaced only after this time. So is
/// the last one, whose tasks no other host could run: while its agent is replaced by the next release, they stay.
const TOGETHER: Duration = Duration::from_secs(30);

/// See the module.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster) = &state.cluster else { return plan };
    for node in state.nodes.values().filter(|node| node.status == NodeStatus::Ready) {
        let deadline = observed.silent_since(node.id).after(cluster.node_down_after);
        if deadline <= now {
            let read = [(ObjectId::Node(node.id), Counter::Status)];
            let status = NodeStatus::Down;
            plan.add(state, &read, vec![Action::SetNodeStatus { node: node.id, status }]);
        } else {
            plan.wake(deadline);
        }
    }
    let down = state.nodes.values().filter(|node| node.status == NodeStatus::Down);
    for node in down.filter(|node| state.index.loads.get(&node.id).is_some_and(|l| l.tasks > 0)) {
        let at = lost_at(state, node);
        if at <= now {
            orphan(state, node, now, &mut plan);
        } else {
            plan.wake(at);
        }
    }
    plan
}

/// When a down node's tasks count as lost: at once, unless others went down with it, in all more than a third, or no
/// node is left for them.
fn lost_at(state: &State, node: &Node) -> Timestamp {
    let together = |other: &Node| {
        let apart = other
            .status_since
            .since(node.status_since)
            .max(node.status_since.since(other.status_since));
        other.status == NodeStatus::Down && apart <= TOGETHER
    };
    let vanished = state.nodes.values().filter(|other| together(other)).count();
    let none_left = state.nodes.values().all(|other| other.status != NodeStatus::Ready);
    if none_left || (vanished > 1 && vanished * 3 > state.nodes.len()) {
        node.status_since.after(TOGETHER)
    } else {
        node.status_since
    }
}

fn orphan(state: &State, node: &Node, now: Timestamp, plan: &mut Plan) {
    let read = [(ObjectId::Node(node.id), Counter::Status)];
    for task in tasks_on(state, node.id).filter(|task| !task.status.state.is_terminal()) {
        let status = TaskStatus {
            state: TaskState::Orphaned,
            since: now,
            message: format!("node {} is down", node.description.hostname),
            ..task.status.clone()
        };
        let mut actions = vec![Action::SetTaskStatus { task: task.id, status: Box::new(status) }];
        if task.desired < TaskState::Remove {
            let desired = TaskState::Remove;
            actions.push(Action::SetTaskDesired { task: task.id, desired });
        }
        plan.add(state, &read, actions);
    }
}
