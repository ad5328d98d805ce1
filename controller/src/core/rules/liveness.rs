//! Which nodes are down, and what becomes of their tasks.

use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Cluster, Node, NodeStatus, Task, TaskState, TaskStatus};

use super::{Observed, Plan};
use crate::core::planted::Fault;
use crate::core::state::{State, Stored, tasks_on};

/// Agents that vanish together are more likely cut off than dead: their tasks are replaced only after this time, or once
/// an operator says that the nodes are lost. So is the last one, whose tasks no other host could run: while its agent is
/// replaced by the next release, they stay.
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
        let at = lost_at(state, observed, cluster, (node, now));
        let loss = Loss { state, observed, cluster, node, at };
        for task in tasks_on(state, node.id).filter(|task| !task.status.state.is_terminal()) {
            let at = loss.given_up_at(task);
            if at <= now {
                orphan(state, node, task, now, &mut plan);
            } else {
                plan.wake(at);
            }
        }
    }
    plan
}

/// When a down node counts as lost: at once, unless others vanished with it, in all more than a third, or no node is left
/// for its tasks. The one that spoke last is noticed last: others whose report is overdue are waited for. Those that have
/// come back since count, so that hosts after a power cut need not all be back in the same moment.
fn lost_at(
    state: &State,
    observed: &Observed,
    cluster: &Cluster,
    (node, now): (&Node, Timestamp),
) -> Timestamp {
    let latest = node.status_since.after(TOGETHER);
    let (mut vanished, mut overdue, mut decided) = (0, 0, node.status_since);
    for other in state.nodes.values() {
        let silent = observed.silent_since(other.id);
        let deadline = silent.after(cluster.node_down_after);
        match other.status {
            NodeStatus::Down if went_with(node, other.status_since) => vanished += 1,
            NodeStatus::Ready if deadline <= now || is_back(node, other) => vanished += 1,
            NodeStatus::Ready if silent.after(cluster.heartbeat * 3 / 2) <= now => {
                overdue += 1;
                decided = decided.max(deadline);
            }
            _ => {}
        }
    }
    let are_too_many = |count: usize| count > 1 && count * 3 > state.nodes.len();
    let none_left = state.nodes.values().all(|other| other.status != NodeStatus::Ready);
    if none_left || are_too_many(vanished) {
        latest
    } else if are_too_many(vanished + overdue) {
        decided.min(latest)
    } else {
        node.status_since
    }
}

/// Whether what went down then vanished together with a node that is down.
fn went_with(node: &Node, at: Timestamp) -> bool {
    at.since(node.status_since).max(node.status_since.since(at)) <= TOGETHER
}

/// Whether another vanished together with a node that is down, and came back after that was missed.
fn is_back(node: &Node, other: &Node) -> bool {
    let went = other.recent_downs.last().is_some_and(|at| went_with(node, *at));
    went && other.status_since >= node.status_since
}

/// A node that is down.
struct Loss<'a> {
    state: &'a State,
    observed: &'a Observed,
    cluster: &'a Cluster,
    node: &'a Node,
    /// When it counts as lost.
    at: Timestamp,
}

impl Loss<'_> {
    /// When a task of the node is given up, so that another may take its place. The word of an operator is enough.
    fn given_up_at(&self, task: &Task) -> Timestamp {
        if self.node.declared_lost {
            return self.node.status_since;
        }
        let (down_after, silent) =
            (self.cluster.node_down_after, self.observed.silent_since(self.node.id));
        // A new leader has not heard anybody yet.
        let at = self.at.max(silent.after(down_after));
        let Some(spec) = self.state.task_spec(task) else { return at };
        let at = at.max(self.node.status_since.after(spec.node_loss.unreachable_after));
        // By this leader's own ears and clock alone: what the log says of times is from clocks that may have been set.
        let fence = spec.node_loss.fence(down_after, spec.container.stop_grace_period);
        match fence.filter(|_| !self.observed.planted.has(Fault::ReplaceBeforeFence)) {
            Some(fence) => at.max(silent.after(fence)),
            None => at,
        }
    }
}

fn orphan(state: &State, node: &Node, task: &Stored<Task>, now: Timestamp, plan: &mut Plan) {
    let read = [(ObjectId::Node(node.id), Counter::Status)];
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
