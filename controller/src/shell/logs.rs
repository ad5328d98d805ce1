//! Lines of tasks' outputs, gathered from their nodes' agents into one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use swarm_proto::id::{NodeId, TaskId};
use swarm_proto::object::{Node, TaskState};
use swarm_proto::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::controller::Controller;
use super::refusal::Refusal;
use crate::core::State;

/// Lines on their way; a slow reader slows down the agents.
const QUEUE: usize = 256;

/// One reader's stream.
pub type Lines = ReceiverStream<Result<wire::LogLine, Status>>;

/// Starts a reader's stream.
pub async fn logs(
    controller: Arc<Controller>,
    request: wire::LogsRequest,
) -> Result<Lines, Status> {
    let (view, stale) = controller.read_soon().await;
    if !is_known(&view.state, &request.target) {
        let why = format!("there is no service or task `{}`", request.target);
        let hint = "see the names with `swarmctl service ls` and `swarmctl ps`";
        return Err(Refusal::not_found(why).hint(hint).into());
    }
    let (sender, lines) = mpsc::channel(QUEUE);
    if stale {
        let host = controller.host(&view);
        let notice = format!("no leader: these are the tasks that {host} knows");
        // There is room: nothing was sent yet.
        let _ = sender.try_send(Ok(notice_line(&host, &notice)));
    }
    tokio::spawn(gather(controller, request, sender));
    Ok(ReceiverStream::new(lines))
}

fn is_known(state: &State, target: &str) -> bool {
    state.services.values().any(|service| service.name() == target)
        || state.tasks.keys().any(|task| is_target(state, *task, target))
}

/// Whether a task is what a person named: itself, by name or id, or its service.
pub(super) fn is_target(state: &State, task: TaskId, target: &str) -> bool {
    let service = state.services.get(&task.service);
    service.is_some_and(|service| service.name() == target)
        || state.task_name(task) == target
        || task.to_string() == target
}

/// The wanted tasks that ever came to a node, by node.
fn by_node(state: &State, target: &str) -> BTreeMap<NodeId, BTreeSet<TaskId>> {
    let mut nodes: BTreeMap<NodeId, BTreeSet<TaskId>> = BTreeMap::new();
    for task in state.tasks.values().filter(|task| is_target(state, task.id, target)) {
        if let Some(node) = task.node.filter(|_| task.status.state >= TaskState::Assigned) {
            nodes.entry(node).or_default().insert(task.id);
        }
    }
    nodes
}

async fn gather(
    controller: Arc<Controller>,
    request: wire::LogsRequest,
    sender: mpsc::Sender<Result<wire::LogLine, Status>>,
) {
    let mut views = controller.hub.follow();
    let mut asked = BTreeSet::new();
    let mut streams = JoinSet::new();
    loop {
        let state = views.borrow_and_update().state.clone();
        for (node, mut tasks) in by_node(&state, &request.target) {
            tasks.retain(|task| asked.insert(*task));
            let found = state.nodes.get(&node).map(|node| Node::clone(node));
            if let Some(node) = found.filter(|_| !tasks.is_empty()) {
                let names = tasks.iter().map(|task| (task.to_string(), state.task_name(*task)));
                let (controller, sender) = (Arc::clone(&controller), sender.clone());
                streams.spawn(from_node(
                    controller,
                    request.clone(),
                    node,
                    names.collect(),
                    sender,
                ));
            }
        }
        if !request.follow {
            while streams.join_next().await.is_some() {}
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = views.changed() => if changed.is_err() { return },
            // Forgets ended streams.
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn from_node(
    controller: Arc<Controller>,
    request: wire::LogsRequest,
    node: Node,
    names: BTreeMap<String, String>,
    sender: mpsc::Sender<Result<wire::LogLine, Status>>,
) {
    let host = node.description.hostname.clone();
    let ask = wire::AgentLogsRequest {
        tasks: names.keys().cloned().collect(),
        follow: request.follow,
        tail: request.tail,
        since: request.since,
    };
    let opened = async { Ok(controller.agent(&node).await?.logs(ask).await?.into_inner()) };
    let failed = match opened.await {
        Ok(mut lines) => loop {
            let line = tokio::select! {
                line = lines.message() => line,
                () = sender.closed() => return,
            };
            match line {
                Ok(Some(mut line)) => {
                    line.node.clone_from(&host);
                    if let Some(name) = names.get(&line.task_id) {
                        line.task_name.clone_from(name);
                    }
                    if sender.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => break status,
            }
        },
        Err(status) => status,
    };
    let why = failed.message().lines().next().unwrap_or_default();
    let notice = format!("no logs from node {host}: {why}");
    // An error means that the reader is gone.
    let _ = sender.send(Ok(notice_line(&host, &notice))).await;
}

fn notice_line(node: &str, text: &str) -> wire::LogLine {
    wire::LogLine {
        node: node.to_owned(),
        stream: String::from("notice"),
        line: text.as_bytes().to_vec(),
        ..wire::LogLine::default()
    }
}
