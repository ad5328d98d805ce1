//! Programs in tasks' containers: finds the task and its node, and carries the streams between a person and the agent.

use std::sync::Arc;

use swarm_proto::id::TaskId;
use swarm_proto::object::{Node, NodeStatus, Task, TaskState};
use swarm_proto::transport::Peer;
use swarm_proto::wire;
use swarm_proto::wire::exec_input::Input;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::audit::Audit;
use super::controller::Controller;
use super::logs::is_target;
use super::refusal::Refusal;
use super::relay::{self, Answers, QUEUE, Sender};
use crate::core::State;

/// What comes back from a program.
pub type Outputs = Answers<wire::ExecOutput>;

/// Runs a program for `who`; see [`relay::answer`].
pub fn exec(controller: Arc<Controller>, input: Streaming<wire::ExecInput>, who: Peer) -> Outputs {
    relay::answer(|sender| async move { carry(&controller, input, &who, &sender).await })
}

async fn carry(
    controller: &Controller,
    mut input: Streaming<wire::ExecInput>,
    who: &Peer,
    sender: &Sender<wire::ExecOutput>,
) -> Result<(), Status> {
    let first = relay::first(&mut input).await?;
    let Some(Input::Start(mut start)) = first.and_then(|message| message.input) else {
        return Err(Refusal::invalid("the first message must say what to run").into());
    };
    let state = Arc::clone(&controller.read_soon().await.0.state);
    let (task, node) = find(&state, &start.target)?;
    let host = node.description.hostname.clone();
    let name = state.task_name(task);
    let program = start.command.first().map(String::as_str).unwrap_or_default();
    // Arguments stay out of the log: people give secrets in them.
    let audit = Audit::by(who, "Exec", format!("task {name} on {host}: {program}"));
    start.target = task.to_string();
    let (forward, forwarded) = mpsc::channel(QUEUE);
    let start = wire::ExecInput { input: Some(Input::Start(start)) };
    // There is room: nothing was sent yet.
    let _ = forward.try_send(start);
    let opened = async {
        let mut agent = controller.agent(&node).await?;
        Ok(agent.exec(ReceiverStream::new(forwarded)).await?.into_inner())
    };
    let outputs = audit.answer(opened.await)?.into_inner();
    relay::carry(input, forward, outputs, sender, |lost| lost_agent(&host, &lost)).await
}

fn lost_agent(host: &str, why: &Status) -> Status {
    let why = why.message().lines().next().unwrap_or_default();
    Refusal::conflict(format!("the program on node {host} was lost: {why}")).into()
}

/// The running task that a target names, and its node. Of a service's tasks the first on a node that is in reach.
fn find(state: &State, target: &str) -> Result<(TaskId, Node), Status> {
    let named: Vec<_> =
        state.tasks.values().filter(|task| is_target(state, task.id, target)).collect();
    let runs = |task: &Task| task.status.state == TaskState::Running;
    let placed = named.iter().filter(|task| runs(task)).filter_map(|task| {
        let node = state.nodes.get(&task.node?)?;
        Some((task.id, Node::clone(node)))
    });
    let down = |node: &Node| node.status != NodeStatus::Ready;
    if let Some(found) = placed.min_by_key(|(id, node)| (down(node), *id)) {
        return Ok(found);
    }
    let is_service = state.services.values().any(|service| service.name() == target);
    if named.is_empty() && !is_service {
        let why = format!("there is no service or task `{target}`");
        let hint = "see the names with `swarmctl service ls` and `swarmctl ps`";
        return Err(Refusal::not_found(why).hint(hint).into());
    }
    let why = if is_service {
        format!("no task of service `{target}` runs")
    } else {
        format!("task `{target}` does not run")
    };
    let hint = format!("see why with `swarmctl ps --all {target}`");
    Err(Refusal::conflict(why).hint(hint).into())
}
