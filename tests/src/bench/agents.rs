//! Simulated nodes: sessions as a controller relays them, many over each connection. They say at once that what they are
//! told runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use swarm_proto::id::{NodeId, Timestamp};
use swarm_proto::object::{TaskState, TaskStatus};
use swarm_proto::transport::{CONTROLLER_NAME, Identity, MAX_MESSAGE, Tls, random_hex};
use swarm_proto::wire;
use swarm_proto::wire::agent_message::Message as Say;
use swarm_proto::wire::controller_message::Message as Heard;
use swarm_proto::wire::raft_client::RaftClient;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use super::Outcome;
use super::host::Host;
use super::nodes::{FIRST, description};

/// Connections that all nodes share.
const CONNECTIONS: usize = 32;
/// Sessions that are opened at once.
const AT_ONCE: usize = 64;
/// Messages that wait for the network.
const OUTGOING: usize = 16;
/// How long tasks may take to get their nodes.
const PATIENCE: Duration = Duration::from_mins(10);

/// Nodes in session.
pub struct Agents {
    board: Arc<Board>,
    sessions: JoinSet<(Held, String)>,
}

/// A node, and the tasks that run there.
pub struct Held {
    node: NodeId,
    tasks: BTreeSet<String>,
}

/// What all nodes together were told.
#[derive(Default)]
struct Board {
    tasks: AtomicU64,
    stops: AtomicU64,
    more: Notify,
}

impl Agents {
    /// Opens the sessions of so many nodes with the leader, and waits until each was welcomed.
    pub async fn start(leader: &Host, nodes: u32) -> Outcome<Self> {
        let node = |number: u32| NodeId(FIRST + u64::from(number));
        let nodes = (0..nodes).map(|number| Held { node: node(number), tasks: BTreeSet::new() });
        Self::resume(leader, nodes.collect()).await
    }

    /// The same for nodes that have tasks already.
    pub async fn resume(leader: &Host, nodes: Vec<Held>) -> Outcome<Self> {
        let identity = Identity::load(&leader.folder.join("state"))?.ok_or("no identity")?;
        let tls = Tls::new(&identity.credentials())?;
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(tls.connect(&leader.address, CONTROLLER_NAME).await?);
        }
        let board = Arc::new(Board::default());
        let all = nodes.into_iter().zip(channels.into_iter().cycle());
        let opened = stream::iter(all.map(|(held, channel)| {
            let board = Arc::clone(&board);
            async move { open(channel, held, board).await }
        }));
        let mut opened = opened.buffer_unordered(AT_ONCE);
        let mut sessions = JoinSet::new();
        while let Some(session) = opened.next().await {
            sessions.spawn(session?.run());
        }
        drop(opened);
        Ok(Self { board, sessions })
    }

    /// Waits until all sessions have broken with their controller.
    pub async fn ended(self) -> Vec<Held> {
        self.sessions.join_all().await.into_iter().map(|(held, _)| held).collect()
    }

    /// How often a node was told that a task shall stop.
    pub fn stops(&self) -> u64 {
        self.board.stops.load(Ordering::Relaxed)
    }

    /// Waits until the nodes have been told of so many tasks that they did not have when they began.
    pub async fn told(&mut self, tasks: u64) -> Outcome<()> {
        let all = async {
            loop {
                let more = self.board.more.notified();
                if self.board.tasks.load(Ordering::Relaxed) >= tasks {
                    return;
                }
                more.await;
            }
        };
        tokio::select! {
            () = all => Ok(()),
            ended = self.sessions.join_next() => {
                let why = ended.and_then(Result::ok).map(|(_, why)| why);
                Err(format!("a session ended: {why:?}").into())
            }
            () = tokio::time::sleep(PATIENCE) => {
                let count = self.board.tasks.load(Ordering::Relaxed);
                Err(format!("{count} of {tasks} tasks have a node").into())
            }
        }
    }
}

/// One node's session.
struct Session {
    heard: Streaming<wire::ControllerMessage>,
    say: mpsc::Sender<wire::AgentMessage>,
    heartbeat: Duration,
    held: Held,
    board: Arc<Board>,
    /// Why the controller ends the session.
    farewell: String,
}

async fn open(channel: Channel, held: Held, board: Arc<Board>) -> Outcome<Session> {
    let (say, said) = mpsc::channel(OUTGOING);
    let node = held.node;
    let hello = wire::Hello {
        session: random_hex::<16>()?,
        description: Some((&description(node)).into()),
        statuses: held.tasks.iter().map(|task| report(task, TaskState::Running)).collect(),
        ..wire::Hello::default()
    };
    say.send(wire::AgentMessage { message: Some(Say::Hello(hello)), relayed_node: node.0 }).await?;
    let mut leader = RaftClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let spoken = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut heard = leader.relay_session(spoken).await?.into_inner();
    match heard.message().await?.and_then(|message| message.message) {
        Some(Heard::Welcome(welcome)) => {
            let heartbeat = Duration::from_millis(welcome.heartbeat_milliseconds.into());
            Ok(Session { heard, say, heartbeat, held, board, farewell: String::new() })
        }
        other => Err(format!("no welcome for {node}, but {other:?}").into()),
    }
}

fn report(task: &str, state: TaskState) -> wire::TaskStatusReport {
    let status = TaskStatus::new(state, Timestamp(0));
    wire::TaskStatusReport { task: task.to_owned(), status: Some((&status).into()) }
}

impl Session {
    /// Does what it is told until the session ends; says what it has then, and why it did.
    async fn run(mut self) -> (Held, String) {
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        loop {
            let answer = tokio::select! {
                heard = self.heard.message() => match heard {
                    Ok(Some(message)) => self.hear(message),
                    Ok(None) => return (self.held, self.farewell),
                    Err(status) => return (self.held, status.to_string()),
                },
                _ = heartbeat.tick() => vec![Say::Heartbeat(wire::Heartbeat {})],
            };
            for message in answer {
                let message = wire::AgentMessage { message: Some(message), relayed_node: 0 };
                if self.say.send(message).await.is_err() {
                    return (self.held, String::from("nobody listens"));
                }
            }
        }
    }

    fn hear(&mut self, message: wire::ControllerMessage) -> Vec<Say> {
        let assignments = match message.message {
            Some(Heard::Assignments(assignments)) => assignments,
            Some(Heard::Goodbye(goodbye)) => {
                self.farewell = goodbye.reason;
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        let diff = assignments.diff.unwrap_or_default();
        for task in diff.removed_tasks {
            self.held.tasks.remove(&task);
        }
        let mut statuses = Vec::new();
        let before = self.held.tasks.len();
        for task in diff.tasks {
            let state = match task.desired() {
                wire::TaskState::Running => TaskState::Running,
                wire::TaskState::Ready => TaskState::Ready,
                _ => TaskState::Shutdown,
            };
            if state == TaskState::Shutdown {
                self.board.stops.fetch_add(1, Ordering::Relaxed);
            }
            statuses.push(report(&task.id, state));
            self.held.tasks.insert(task.id);
        }
        let new = self.held.tasks.len() - before;
        if new > 0 {
            self.board.tasks.fetch_add(new as u64, Ordering::Relaxed);
            self.board.more.notify_waiters();
        }
        if statuses.is_empty() {
            Vec::new()
        } else {
            vec![Say::Statuses(wire::StatusReport { statuses })]
        }
    }
}
