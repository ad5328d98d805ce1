//! Agents' sessions. They live on the leader; another controller relays them, byte for byte but for the node, which
//! only the agent's certificate can tell.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use swarm_proto::assignment::VolumeReport;
use swarm_proto::convert::{ConvertError, Fields};
use swarm_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use swarm_proto::object::{Incarnation, TaskStatus};
use swarm_proto::transport::{MAX_MESSAGE, known_peer};
use swarm_proto::wire;
use swarm_proto::wire::agent_message::Message as Spoken;
use swarm_proto::wire::control_client::ControlClient;
use swarm_proto::wire::controller_message::Message as Said;
use swarm_proto::wire::dispatcher_server::Dispatcher;
use swarm_proto::wire::raft_client::RaftClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::controller::{Controller, LEADER_PATIENCE, Leader};
use super::incarnation;
use super::raft_thread::{Session, ToSession};
use super::refusal::Refusal;
use crate::core::{FromAgent, ToAgent};

/// Messages between the core's own queue and the connection.
const QUEUE: usize = 16;

/// Between two looks at the leader.
const PAUSE: Duration = Duration::from_millis(50);

type Messages = Pin<Box<dyn Stream<Item = Result<wire::ControllerMessage, Status>> + Send>>;

/// Serves agents.
pub struct DispatcherService(pub Arc<Controller>);

#[tonic::async_trait]
impl Dispatcher for DispatcherService {
    type SessionStream = Messages;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let peer = known_peer(&request)?;
        let node = peer.node_id.ok_or_else(|| Refusal::denied("no node's certificate"))?;
        incarnation::check_agent(&self.0.hub, request.metadata())?;
        let spoken = request.into_inner();
        let leader = reachable_leader(&self.0).await?;
        let messages: Messages = match leader {
            Leader::Here => Box::pin(serve(Arc::clone(&self.0), node, spoken.boxed()).await),
            Leader::There { raft_id, address } => {
                let relay = relay(Arc::clone(&self.0), node, spoken, address.clone()).await?;
                Box::pin(until_leader_lost(Arc::clone(&self.0), raft_id, relay))
            }
        };
        Ok(Response::new(messages))
    }
}

/// Waits for a leader that answers: a session's messages can be passed on only once.
async fn reachable_leader(controller: &Controller) -> Result<Leader, Status> {
    let deadline = Instant::now() + LEADER_PATIENCE;
    loop {
        let leader = controller.leader(deadline).await?;
        let Leader::There { address, .. } = &leader else { return Ok(leader) };
        let mut there = ControlClient::new(controller.leader_channel(address));
        let asked = timeout(PAUSE * 10, there.get_version(wire::GetVersionRequest {})).await;
        match asked {
            Ok(Ok(version)) if version.get_ref().leader == version.get_ref().raft_id => {
                return Ok(leader);
            }
            _ if Instant::now() >= deadline => return Err(controller.no_leader()),
            _ => sleep(PAUSE).await,
        }
    }
}

/// Serves a session that another controller relays; the first message names the node.
pub async fn relayed(
    controller: Arc<Controller>,
    mut spoken: Streaming<wire::AgentMessage>,
) -> Result<Messages, Status> {
    if controller.leader_of(&controller.hub.view()) != Some(Leader::Here) {
        return Err(Refusal::unavailable("this controller does not lead").into());
    }
    let first = spoken.message().await?;
    let first = first.ok_or_else(|| Refusal::invalid("a session without a message"))?;
    if first.relayed_node == 0 {
        return Err(Refusal::invalid("a relayed session must name its node").into());
    }
    let node = NodeId(first.relayed_node);
    let spoken = futures_util::stream::once(async { Ok(first) }).chain(spoken);
    Ok(Box::pin(serve(controller, node, spoken.boxed()).await))
}

/// Connects an agent's stream with the core.
async fn serve(
    controller: Arc<Controller>,
    node: NodeId,
    mut spoken: Pin<Box<dyn Stream<Item = Result<wire::AgentMessage, Status>> + Send>>,
) -> ReceiverStream<Result<wire::ControllerMessage, Status>> {
    let Session { mut messages, closer } = controller.core.open_session(node).await;
    let (sender, answers) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let speak = async {
            loop {
                let Some(message) = messages.recv().await else {
                    return goodbye(
                        &controller,
                        "this session's messages piled up, or the controller stops",
                    );
                };
                let said = match message {
                    ToSession::Message(message) => {
                        if !send_contents(&sender, &message).await {
                            return goodbye(&controller, "the agent is gone");
                        }
                        to_wire(&controller, message)
                    }
                    ToSession::End(reason) => return goodbye(&controller, &reason),
                };
                if sender.send(Ok(said)).await.is_err() {
                    return goodbye(&controller, "the agent is gone");
                }
            }
        };
        let hear = async {
            while let Some(message) = spoken.next().await {
                let message = match message.map(|message| message.message) {
                    Ok(Some(message)) => message,
                    Ok(None) => continue,
                    Err(status) => return tracing::debug!(%node, %status, "session broke off"),
                };
                match from_wire(message) {
                    Ok(message) => closer.heard(message).await,
                    Err(error) => {
                        tracing::warn!(%node, %error, "an agent sent a damaged message");
                        return;
                    }
                }
            }
        };
        let last = tokio::select! {
            goodbye = speak => Some(goodbye),
            () = hear => None,
            () = sender.closed() => None,
        };
        drop(closer);
        if let Some(goodbye) = last {
            // An error means that the agent is gone already.
            let _ = sender.send(Ok(goodbye)).await;
        }
    });
    ReceiverStream::new(answers)
}

/// Sends the secrets and configs of assignments, each in a message of its own; false when the agent is gone.
async fn send_contents(
    sender: &mpsc::Sender<Result<wire::ControllerMessage, Status>>,
    message: &ToAgent,
) -> bool {
    let ToAgent::Assignments { contents, .. } = message else { return true };
    for (id, content) in contents {
        let Some(bytes) = content.bytes() else { continue };
        let (content, data) = (Some(id.into()), bytes.reveal().to_vec());
        let said = say(Said::Content(wire::Content { content, data }));
        if sender.send(Ok(said)).await.is_err() {
            return false;
        }
    }
    true
}

fn goodbye(controller: &Controller, reason: &str) -> wire::ControllerMessage {
    let view = controller.hub.view();
    let elsewhere = view.leader != Some(controller.raft_id);
    let leader = view.leader_address().filter(|_| elsewhere).unwrap_or_default();
    say(Said::Goodbye(wire::Goodbye { reason: reason.to_owned(), leader }))
}

fn say(said: Said) -> wire::ControllerMessage {
    wire::ControllerMessage { message: Some(said) }
}

/// Passes an agent's session on to the leader.
async fn relay(
    controller: Arc<Controller>,
    node: NodeId,
    spoken: Streaming<wire::AgentMessage>,
    address: String,
) -> Result<Streaming<wire::ControllerMessage>, Status> {
    let marked = until_error(spoken).map(move |mut message| {
        message.relayed_node = node.0;
        message
    });
    let mut leader =
        RaftClient::new(controller.leader_channel(&address)).max_decoding_message_size(MAX_MESSAGE);
    let request = incarnation::stamp(&controller.hub, marked);
    let answer = leader.relay_session(request).await.map_err(|status| {
        let why = format!("the leader at {address} does not take sessions: {}", status.message());
        Status::from(Refusal::unavailable(why))
    })?;
    Ok(answer.into_inner())
}

/// The leader's messages until another leads; then a goodbye, so that the agent looks for the new one at once.
fn until_leader_lost(
    controller: Arc<Controller>,
    raft_id: swarm_proto::id::RaftId,
    relayed: Streaming<wire::ControllerMessage>,
) -> impl Stream<Item = Result<wire::ControllerMessage, Status>> {
    let watched = Arc::clone(&controller);
    let lost = Box::pin(async move { watched.leader_lost(raft_id).await });
    let last = futures_util::stream::once(async move {
        Ok(goodbye(&controller, "the connection to the leader ended"))
    });
    until_error(relayed.take_until(lost)).map(Ok).chain(last)
}

fn until_error<T>(stream: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = T> {
    let whole = stream.take_while(|item| std::future::ready(item.is_ok()));
    whole.filter_map(|item| std::future::ready(item.ok()))
}

fn to_wire(controller: &Controller, message: ToAgent) -> wire::ControllerMessage {
    // By node, for agents let in only these.
    let nodes = || controller.hub.controllers().iter().map(|(_, node, _)| node.0).collect();
    say(match message {
        ToAgent::Welcome { node, heartbeat, controllers, vxlan_port } => {
            Said::Welcome(wire::Welcome {
                node_id: node.0,
                heartbeat_milliseconds: u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX),
                controllers,
                controller_nodes: nodes(),
                vxlan_port: vxlan_port.into(),
                roots: controller.roots(),
                incarnation: incarnation::own(&controller.hub.view())
                    .and_then(Incarnation::to_wire),
            })
        }
        ToAgent::Assignments { complete, sequence, diff, contents: _ } => {
            let diff = Some(wire::AssignmentDiff::from(&diff));
            Said::Assignments(wire::Assignments { complete, sequence, diff })
        }
        ToAgent::Alive { controllers } => {
            let roots = controller.roots();
            Said::Alive(wire::Alive { controllers, controller_nodes: nodes(), roots })
        }
    })
}

fn from_wire(message: Spoken) -> Result<FromAgent, ConvertError> {
    Ok(match message {
        Spoken::Hello(hello) => FromAgent::Hello {
            nonce: hello.session,
            description: Fields("Hello").required("description", hello.description)?,
            statuses: statuses("Hello", hello.statuses)?,
            volumes: volumes("Hello", hello.volumes)?,
            takes_network_changes: hello.takes_network_changes,
        },
        Spoken::Heartbeat(_) => FromAgent::Heartbeat,
        Spoken::Statuses(report) => FromAgent::Statuses(statuses("StatusReport", report.statuses)?),
        Spoken::Usage(report) => {
            FromAgent::Usage(Fields("UsageReport").list("tasks", report.tasks)?)
        }
        Spoken::Demand(demand) => {
            FromAgent::Demand(demand.services.into_iter().map(ServiceId).collect())
        }
        Spoken::Images(report) => {
            FromAgent::Images(Fields("ImagesReport").list("images", report.images)?)
        }
        Spoken::Description(description) => FromAgent::Description(description.try_into()?),
        Spoken::Volumes(report) => FromAgent::Volumes(volumes("VolumesReport", report.volumes)?),
        Spoken::Confirmation(confirmation) => FromAgent::Confirmation {
            networks: confirmation
                .networks
                .into_iter()
                .map(|(network, version)| (NetworkId(network), version))
                .collect(),
            removed_networks: confirmation.removed_networks.into_iter().map(NetworkId).collect(),
            removed_tasks: Fields("Confirmation")
                .texts("removed_tasks", &confirmation.removed_tasks)?,
        },
    })
}

fn statuses(
    message: &'static str,
    reports: Vec<wire::TaskStatusReport>,
) -> Result<Vec<(TaskId, TaskStatus)>, ConvertError> {
    Fields(message).list("statuses", reports)
}

fn volumes(
    message: &'static str,
    reports: Vec<wire::VolumeReport>,
) -> Result<Vec<VolumeReport>, ConvertError> {
    Fields(message).list("volumes", reports)
}
