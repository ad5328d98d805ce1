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
        let loss = Loss { state, observed, cluster, node, at: lost_at(state, node) };
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

/// When a down node counts as lost: at once, unless others went down with it, in all more than a third, or no node is
/// left for its tasks.
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
