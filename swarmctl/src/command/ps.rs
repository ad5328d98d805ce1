//! `ps`: tasks.

use swarm_proto::id::TaskId;
use swarm_proto::object::{Service, Task};

use super::{Call, now};
use crate::failure::Failure;
use crate::local::Local;
use crate::output::{self, Format};
use crate::state::State;
use crate::view::{self, TaskView};

/// Lists tasks
#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// A stack, a service's full name, a task's name or id, or a node
    target: Option<String>,
    /// Also tasks that ended
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn run(ps: &Ps, call: &Call) -> Result<(), Failure> {
    let state = State::get(&call.cluster, call.stale).await?;
    show(&state, ps.target.as_deref(), ps.all, call.format)
}

/// The tasks of this host, as its agent knows them.
pub(super) async fn run_locally(ps: &Ps, agent: &mut Local, format: Format) -> Result<(), Failure> {
    show(&agent.state().await?, ps.target.as_deref(), ps.all, format)
}

/// Prints the tasks of a target; of everything without one.
pub(super) fn show(
    state: &State,
    target: Option<&str>,
    all: bool,
    format: Format,
) -> Result<(), Failure> {
    let views = tasks(state, target, all)?;
    output::data(&view::list(&views, format, now(state.clock))?);
    Ok(())
}

/// The tasks of a target.
pub(crate) fn tasks(
    state: &State,
    target: Option<&str>,
    all: bool,
) -> Result<Vec<TaskView>, Failure> {
    let Some(target) = target else { return Ok(TaskView::of_all(state, all, |_| true)) };
    if state.stacks.contains_key(target) {
        let of_stack = |task: &Task| {
            state.services.get(&task.id.service).is_some_and(|service| service.stack == target)
        };
        return Ok(TaskView::of_all(state, all, of_stack));
    }
    if let Some(service) = state.service(target) {
        return Ok(TaskView::of_all(state, all, |task| task.id.service == service.id));
    }
    if let Some(node) = state.nodes.values().find(|node| node.description.hostname == target) {
        return Ok(TaskView::of_all(state, all, |task| task.node == Some(node.id)));
    }
    let id: Option<TaskId> = target.parse().ok();
    let is_wanted = |task: &Task| id == Some(task.id) || state.task_name(task) == target;
    // A task that was named is shown also when it ended.
    let views = TaskView::of_all(state, all || id.is_some(), is_wanted);
    if !views.is_empty() {
        return Ok(views);
    }
    let services: Vec<String> = state.services.values().map(Service::name).collect();
    let known = state.stacks.keys().map(String::as_str).chain(services.iter().map(String::as_str));
    let failure = Failure::refused(format!("no stack, service, task or node is called `{target}`"));
    Err(match swarm_manifests::nearest(target, known) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("see `swarmctl stack ls` and `swarmctl service ls`"),
    })
}
