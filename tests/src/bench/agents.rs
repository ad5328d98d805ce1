//! Simulated nodes: sessions as a controller relays them, many over each connection. They say at once that what they are
//! told runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Slots of which a task failed here.
    failed: BTreeSet<String>,
}

impl Held {
    fn new(node: NodeId) -> Self {
        Self { node, tasks: BTreeSet::new(), failed: BTreeSet::new() }
    }
}

/// What all nodes together were told.
#[derive(Default)]
struct Board {
    tasks: AtomicU64,
    stops: AtomicU64,
    /// Places on networks that each node knows.
    peers: Mutex<BTreeMap<NodeId, usize>>,
    /// All that the first node was told.
    first: Mutex<Vec<wire::Assignments>>,
    /// Tasks of the second node that shall fail.
    failures: AtomicU64,
    more: Notify,
    fail: Notify,
}

/// What others changed is there whole: a bench that panicked has no figures.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agents {
    /// Opens the sessions of so many nodes with the leader, and waits until each was welcomed.
    pub async fn start(leader: &Host, nodes: u32) -> Outcome<Self> {
        let node = |number: u32| NodeId(FIRST + u64::from(number));
        let nodes = (0..nodes).map(|number| Held::new(node(number)));
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
        let count = |board: &Board| board.tasks.load(Ordering::Relaxed);
        let lacks = |board: &Board| format!("{} of {tasks} tasks have a node", count(board));
        self.until(|board| count(board) >= tasks, lacks).await
    }

    /// Waits until so many nodes know at least so many places on their networks.
    pub async fn know(&mut self, nodes: usize, peers: usize) -> Outcome<()> {
        let know =
            |board: &Board| locked(&board.peers).values().filter(|known| **known >= peers).count();
        let lacks = |board: &Board| format!("{} of {nodes} nodes know {peers} places", know(board));
        self.until(|board| know(board) >= nodes, lacks).await
    }

    /// All that the first node was told since this was asked last.
    pub fn told_to_first(&self) -> Vec<wire::Assignments> {
        std::mem::take(&mut locked(&self.board.first))
    }

    /// Lets a task of the second node fail.
    pub fn fail_one(&self) {
        self.board.failures.fetch_add(1, Ordering::Relaxed);
        self.board.fail.notify_one();
    }

    async fn until(
        &mut self,
        reached: impl Fn(&Board) -> bool,
        lacks: impl Fn(&Board) -> String,
    ) -> Outcome<()> {
        let all = async {
            loop {
                let more = self.board.more.notified();
                if reached(&self.board) {
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
            () = tokio::time::sleep(PATIENCE) => Err(lacks(&self.board).into()),
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
        takes_network_changes: true,
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
        let board = Arc::clone(&self.board);
        loop {
            let answer = tokio::select! {
                heard = self.heard.message() => match heard {
                    Ok(Some(message)) => self.hear(message),
                    Ok(None) => return (self.held, self.farewell),
                    Err(status) => return (self.held, status.to_string()),
                },
                _ = heartbeat.tick() => vec![Say::Heartbeat(wire::Heartbeat {})],
                () = board.fail.notified(), if self.held.node.0 == FIRST + 1 => self.fail(),
            };
            for message in answer {
                let message = wire::AgentMessage { message: Some(message), relayed_node: 0 };
                if self.say.send(message).await.is_err() {
                    return (self.held, String::from("nobody listens"));
                }
            }
        }
    }

    fn is_first(&self) -> bool {
        self.held.node.0 == FIRST
    }

    fn fail(&mut self) -> Vec<Say> {
        let count = self.board.failures.swap(0, Ordering::Relaxed);
        // Each slot once: its next task would wait longer each time.
        let slot = |task: &str| task.rsplit_once('.').map(|(slot, _)| slot.to_owned());
        let unfailed =
            |task: &&String| !slot(task).is_some_and(|it| self.held.failed.contains(&it));
        let first = self.held.tasks.iter().filter(unfailed);
        let failed: Vec<_> = first.take(usize::try_from(count).unwrap_or(0)).cloned().collect();
        self.held.failed.extend(failed.iter().filter_map(|task| slot(task)));
        self.held.tasks.retain(|task| !failed.contains(task));
        let statuses = failed.iter().map(|task| report(task, TaskState::Failed)).collect();
        vec![Say::Statuses(wire::StatusReport { statuses })]
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
        if self.is_first() {
            locked(&self.board.first).push(assignments.clone());
        }
        let diff = assignments.diff.unwrap_or_default();
        let mut answers = self.hear_of_networks(&diff.networks, &diff.network_changes);
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
        if !statuses.is_empty() {
            answers.push(Say::Statuses(wire::StatusReport { statuses }));
        }
        answers
    }

    /// Says at once that each network stands as it was told.
    fn hear_of_networks(
        &self,
        networks: &[wire::NetworkAssignment],
        changes: &[wire::NetworkChange],
    ) -> Vec<Say> {
        let whole = networks.iter().map(|network| (network.id, network.version));
        let changed = changes.iter().map(|change| (change.id, change.version));
        let networks_now: BTreeMap<u64, u64> = whole.chain(changed).collect();
        if networks_now.is_empty() {
            return Vec::new();
        }
        let mut peers = locked(&self.board.peers);
        let known = peers.entry(self.held.node).or_default();
        for network in networks {
            *known = network.peers.len();
        }
        for change in changes {
            *known = *known + change.added_peers.len() - change.removed_peers.len();
        }
        drop(peers);
        self.board.more.notify_waiters();
        let networks = networks_now;
        vec![Say::Confirmation(wire::Confirmation { networks, ..Default::default() })]
    }
}
