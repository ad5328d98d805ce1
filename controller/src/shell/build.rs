//! Builds of images: finds a node, and carries the streams between a person and its agent.

use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::Digest;
use swarm_proto::object::{Availability, Node, NodeStatus};
use swarm_proto::transport::{MAX_MESSAGE, Peer};
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use swarm_proto::wire::builds_client::BuildsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::audit::Audit;
use super::controller::Controller;
use super::refusal::Refusal;
use super::registry;
use super::relay::{self, Answers, QUEUE, Sender};
use crate::core::State;

/// How long an agent may not know this controller yet, and how often it is asked meanwhile.
const HEARS_WITHIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(250);

/// What comes back from a build.
pub type Outputs = Answers<wire::BuildOutput>;

/// Builds an image for `who`; see [`relay::answer`].
pub fn build(
    controller: Arc<Controller>,
    input: Streaming<wire::BuildInput>,
    who: Peer,
) -> Outputs {
    relay::answer(|sender| async move { carry(&controller, input, &who, &sender).await })
}

async fn carry(
    controller: &Controller,
    mut input: Streaming<wire::BuildInput>,
    who: &Peer,
    sender: &Sender<wire::BuildOutput>,
) -> Result<(), Status> {
    let first = relay::first(&mut input).await?;
    let Some(Input::Start(mut start)) = first.and_then(|message| message.input) else {
        return Err(Refusal::invalid("the first message must say what to build").into());
    };
    let state = Arc::clone(&controller.read_soon().await.0.state);
    let node = choose(&state, &start.node, &start.names)?;
    let host = node.description.hostname.clone();
    // Arguments and secrets stay out of the log.
    let image = start.names.first().map_or("an image without a name", String::as_str);
    start.logins = registry::logins_at(&state, &start.registries);
    let audit = Audit::by(who, "Build", format!("{image} on {host}"));
    let (forward, outputs) = audit.answer(open(controller, &node, start).await)?.into_inner();
    let started = Output::Started(wire::BuildStarted { node: host.clone() });
    if sender.send(Ok(wire::BuildOutput { output: Some(started) })).await.is_err() {
        return Ok(());
    }
    relay::carry(input, forward, outputs, sender, |status| failed(&host, status)).await
}

/// Begins a build on a node. Its agent hears of a controller that is new within a heartbeat, and refuses it until then.
async fn open(
    controller: &Controller,
    node: &Node,
    start: wire::BuildStart,
) -> Result<(mpsc::Sender<wire::BuildInput>, Streaming<wire::BuildOutput>), Status> {
    let mut agent = controller.builds(node).await?;
    let mut left = HEARS_WITHIN;
    loop {
        let (forward, forwarded) = mpsc::channel(QUEUE);
        // There is room: nothing was sent yet.
        let _ = forward.try_send(wire::BuildInput { input: Some(Input::Start(start.clone())) });
        match agent.build(ReceiverStream::new(forwarded)).await {
            Ok(outputs) => return Ok((forward, outputs.into_inner())),
            Err(status) if status.code() == Code::PermissionDenied && !left.is_zero() => {
                left = left.saturating_sub(PAUSE);
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => return Err(failed(&node.description.hostname, status)),
        }
    }
}

impl Controller {
    /// The builds of a node's agent.
    async fn builds(&self, node: &Node) -> Result<BuildsClient<Channel>, Status> {
        // Not as something to try again: what a person sent for the build is gone.
        let channel = self.agent_channel(node).await;
        let channel = channel.map_err(|status| Refusal::conflict(status.message()))?;
        Ok(BuildsClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }
}

/// What an agent's refusal is to a person. A build that failed says why itself; a connection that broke does not.
fn failed(host: &str, status: Status) -> Status {
    let why = status.message().lines().next().unwrap_or_default();
    match status.code() {
        Code::Unimplemented => {
            Refusal::conflict(format!("the agent of node {host} is too old to build images"))
                .hint("upgrade that host, or name another one with `--node`")
                .into()
        }
        Code::Unavailable | Code::Unknown | Code::Cancelled => {
            Refusal::conflict(format!("the build on node {host} was lost: {why}"))
                .hint("what it had done is kept there: run it again")
                .into()
        }
        _ => status,
    }
}

/// The node that is named, or one that takes tasks: the same for the same name of an image as long as the nodes stay, for
/// it has what earlier builds left.
fn choose(state: &State, named: &str, names: &[String]) -> Result<Node, Status> {
    if !named.is_empty() {
        let node = state.find_node(named).ok_or_else(|| {
            Refusal::not_found(format!("there is no node `{named}`")).hint("see `swarmctl node ls`")
        })?;
        if node.status != NodeStatus::Ready {
            let why = format!("node {} is not ready", node.description.hostname);
            return Err(Refusal::conflict(why).hint("see `swarmctl node ls`").into());
        }
        return Ok(Node::clone(node));
    }
    let takes = |node: &&Node| {
        node.status == NodeStatus::Ready && node.availability == Availability::Active
    };
    let name = names.first().map(String::as_str).unwrap_or_default();
    let rank = |node: &&Node| {
        let id = node.id.to_string();
        Digest::of([name.as_bytes(), b"\0", id.as_bytes()]).to_string()
    };
    let nodes = state.nodes.values().map(|node| &**node).filter(takes);
    let chosen = nodes.min_by_key(rank).cloned();
    chosen.ok_or_else(|| {
        Refusal::conflict("no node is ready to build an image")
            .hint("see `swarmctl node ls`; a node must be ready and active, or named with `--node`")
            .into()
    })
}
