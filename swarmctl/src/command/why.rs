//! `why`: what is decided about a task, and for what reason.

use swarm_proto::id::TaskId;
use swarm_proto::object::Task;

use super::{Call, now, unknown};
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, WhyView};

/// Says why a task is where it is, waits, or was ended
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// A task's name, for all tasks of its slot, or its id
    task: String,
}

pub(crate) async fn run(why: &Why, call: &Call) -> Result<(), Failure> {
    let state = State::get(&call.cluster, call.stale).await?;
    let id: Option<TaskId> = why.task.parse().ok();
    let is_meant = |task: &&Task| id == Some(task.id) || state.task_name(task) == why.task;
    // The newest of a slot first.
    let views: Vec<WhyView> =
        state.tasks.values().rev().filter(is_meant).map(|task| WhyView::of(&state, task)).collect();
    if views.is_empty() {
        let names: Vec<String> = state.tasks.values().map(|task| state.task_name(task)).collect();
        let failure = unknown("task", &why.task, names.iter().map(String::as_str));
        return Err(failure.hint("see `swarmctl ps --all`"));
    }
    output::data(&view::list(&views, call.format, now(state.clock))?);
    Ok(())
}
