//! How far a node is from having no tasks.

use swarm_proto::id::TaskId;
use swarm_proto::object::{Node, Task};

use super::{ServiceProgress, What};
use crate::state::State;

/// What is left on a node, and why it has not gone.
pub fn of_node(state: &State, node: &Node) -> ServiceProgress {
    let is_left = |task: &&Task| task.node == Some(node.id) && !task.status.state.is_terminal();
    let left: Vec<&Task> = state.tasks.values().filter(is_left).collect();
    let stuck = left.iter().filter_map(|task| Some((state.task_name(task), waits(state, task)?)));
    ServiceProgress {
        leaving: left.len(),
        stuck: stuck.collect(),
        what: What::Node,
        ..ServiceProgress::of_nothing(&state.node_name(node.id))
    }
}

/// Why the task that shall take another's place has none.
fn waits(state: &State, task: &Task) -> Option<String> {
    let last = TaskId { generation: u32::MAX, ..task.id };
    let mut later = state.tasks.range(task.id..=last).map(|(_, later)| later);
    let waits = later.rfind(|later| later.id != task.id && later.node.is_none())?;
    let message = &waits.status.message;
    (!message.is_empty()).then(|| format!("its successor is {}: {message}", waits.status.state))
}
