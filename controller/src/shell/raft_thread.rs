//! The thread that owns the core: it drains what waits, hands it to the core, and carries out what the core wants.
//! It never waits for the disk, a peer, an agent or a client.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use swarm_proto::id::{NodeId, RaftId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::disk::Store;
use super::disk_thread::{DiskThread, News};
use super::fatal::{die, vital_thread};
use super::hub::Hub;
use crate::core::{
    Command, CommandDone, Core, FromAgent, Input, Output, Program, Refusal, RefusalKind,
    SnapshotMessage, State, Status, ToAgent,
};

/// Requests that may wait for the core.
const QUEUE: usize = 4096;
/// Requests handled between two looks at the clock.
const DRAIN: usize = 256;

/// Where messages to other controllers go.
pub trait Transmit: Send {
    /// Queues messages; false when they are lost.
    fn send(&mut self, to: RaftId, messages: Vec<Vec<u8>>) -> bool;

    /// Sends the message that carries a snapshot and tells its fate later.
    fn send_snapshot(&mut self, to: RaftId, snapshot: SnapshotMessage);
}

/// What an agent's session is told.
#[derive(Debug)]
pub enum ToSession {
    /// A message for the agent.
    Message(ToAgent),
    /// The session is over, for this reason.
    End(String),
}

/// Where a session's messages wait; when it is full, the session ends.
const SESSION_QUEUE: usize = 64;

enum Request {
    Input(Input),
    Command {
        request_id: String,
        command: Command,
        reply: oneshot::Sender<Result<CommandDone, Refusal>>,
    },
    Read(oneshot::Sender<bool>),
    Status(oneshot::Sender<Status>),
    OpenSession {
        session: u64,
        node: NodeId,
        outgoing: mpsc::Sender<ToSession>,
    },
    Stop(Duration),
}

/// The way to the core, for as many as want.
#[derive(Clone)]
pub struct CoreHandle {
    requests: mpsc::Sender<Request>,
    sessions: Arc<AtomicU64>,
}

/// The end of the core's queue that its thread reads.
pub struct Requests(mpsc::Receiver<Request>);

/// Makes the core's queue.
pub fn queue() -> (CoreHandle, Requests) {
    let (requests, waiting) = mpsc::channel(QUEUE);
    let handle = CoreHandle { requests, sessions: Arc::new(AtomicU64::new(1)) };
    (handle, Requests(waiting))
}

impl CoreHandle {
    /// Hands over a message of another controller.
    pub async fn peer_message(&self, bytes: Vec<u8>) {
        self.input(Input::PeerMessage { bytes }).await;
    }

    /// Hands over a message of another controller that carries a snapshot, of which this is the state.
    pub async fn peer_snapshot(&self, message: Vec<u8>, state: Box<State>) {
        self.input(Input::PeerSnapshot { message, state }).await;
    }

    /// Tells which program another controller runs.
    pub async fn peer_program(&self, peer: RaftId, program: Program) {
        self.input(Input::PeerProgram { peer, program }).await;
    }

    /// Tells that messages to a controller are being lost.
    pub async fn unreachable(&self, peer: RaftId) {
        self.input(Input::PeerUnreachable(peer)).await;
    }

    /// Tells the fate of a snapshot.
    pub async fn snapshot_sent(&self, to: RaftId, ok: bool) {
        self.input(Input::SnapshotSent { to, ok }).await;
    }

    /// Carries out a command on this controller, if it leads.
    pub async fn command(
        &self,
        request_id: String,
        command: Command,
    ) -> Result<CommandDone, Refusal> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Command { request_id, command, reply };
        if self.requests.try_send(request).is_err() {
            return Err(Refusal::unavailable("this controller has too much to do"));
        }
        let stopped = || Refusal::unavailable("this controller is stopping");
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Waits until this controller's state shows every write acknowledged before now; false when that cannot be known.
    pub async fn read_barrier(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Read(reply)).is_ok() && answer.await.unwrap_or(false)
    }

    /// What the core knows of the Raft group; `None` while the process is stopping.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Status(reply)).ok()?;
        answer.await.ok()
    }

    /// Opens a session for a node whose certificate was seen.
    pub async fn open_session(&self, node: NodeId) -> Session {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (outgoing, messages) = mpsc::channel(SESSION_QUEUE);
        // When the thread is gone, so is `outgoing`, and the session ends by itself.
        let _ = self.requests.send(Request::OpenSession { session, node, outgoing }).await;
        Session { messages, closer: SessionCloser { session, core: self.clone() } }
    }

    /// Stops the core: leadership is handed over, for which at most `patience` is taken.
    pub async fn stop(&self, patience: Duration) {
        let _ = self.requests.send(Request::Stop(patience)).await;
    }

    async fn input(&self, input: Input) {
        // Fails only while the process is stopping.
        let _ = self.requests.send(Request::Input(input)).await;
    }
}

/// An open session, seen from its stream.
pub struct Session {
    /// What the core says.
    pub messages: mpsc::Receiver<ToSession>,
    /// Closes the session when dropped.
    pub closer: SessionCloser,
}

/// Speaks for the agent, and closes the session when dropped.
pub struct SessionCloser {
    session: u64,
    core: CoreHandle,
}

impl SessionCloser {
    /// Hands over what the agent said.
    pub async fn heard(&self, message: FromAgent) {
        self.core.input(Input::SessionMessage { session: self.session, message }).await;
    }
}

impl Drop for SessionCloser {
    fn drop(&mut self) {
        let (core, session) = (self.core.clone(), self.session);
        let close = async move { core.input(Input::SessionClosed { session }).await };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(close);
        }
    }
}

/// Everything that the thread works with.
struct RaftThread<T> {
    core: Core,
    requests: Requests,
    disk: DiskThread,
    peers: T,
    hub: Arc<Hub>,
    replies: HashMap<u64, oneshot::Sender<Result<CommandDone, Refusal>>>,
    reads: HashMap<u64, oneshot::Sender<bool>>,
    sessions: HashMap<u64, mpsc::Sender<ToSession>>,
    /// What carrying out outputs brought about.
    own: Vec<Input>,
    next_token: u64,
    tick: Duration,
    /// The election time-out that was logged last, in milliseconds.
    election_ms: u64,
}

/// Starts the Raft thread and the disk thread.
pub fn start(
    core: Core,
    tick: Duration,
    (handle, requests): (CoreHandle, Requests),
    store: impl Store + 'static,
    peers: impl Transmit + 'static,
    hub: Arc<Hub>,
) -> io::Result<JoinHandle<()>> {
    let publisher = Arc::clone(&hub);
    let disk = DiskThread::start(store, move |news| {
        // Waits while the core is busy; the core never waits for this thread.
        let tell = |input| {
            let _ = handle.requests.blocking_send(Request::Input(input));
        };
        match news {
            News::Persisted(batch, took) => {
                let micros = publisher.writes.note(took);
                tell(Input::Persisted { batch, micros });
            }
            News::Room(shortage) => {
                if let Some(shortage) = &shortage {
                    tracing::error!("{shortage}: writes wait for room");
                } else {
                    tracing::info!("the disk has room again");
                }
                tell(Input::Room(shortage));
            }
        }
    })?;
    hub.members(core.status().members);
    let election_ms = core.timing().election_ms;
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = RaftThread {
        core,
        requests,
        disk,
        peers,
        hub,
        replies: HashMap::new(),
        reads: HashMap::new(),
        sessions: HashMap::new(),
        own: Vec::new(),
        next_token: 1,
        tick,
        election_ms,
    };
    vital_thread("raft", move || clock.block_on(thread.run()))
}

impl<T: Transmit> RaftThread<T> {
    async fn run(mut self) {
        let mut waiting = Vec::with_capacity(DRAIN);
        let mut inputs = Vec::with_capacity(DRAIN);
        let mut next_tick = Instant::now() + self.tick;
        let mut stop_at: Option<Instant> = None;
        while !self.may_stop(stop_at) {
            tokio::select! {
                biased;
                count = self.requests.0.recv_many(&mut waiting, DRAIN) => if count == 0 { break },
                () = tokio::time::sleep_until(next_tick.into()) => {}
            }
            for request in waiting.drain(..) {
                if let Request::Stop(patience) = request {
                    stop_at = stop_at.or(Some(Instant::now() + patience));
                    inputs.push(Input::StepDown);
                } else {
                    inputs.extend(self.take(request));
                }
            }
            self.handle(inputs.drain(..));
            let now = Instant::now();
            if now >= next_tick {
                // Ticks that this process slept through do not count: nobody could be heard meanwhile.
                next_tick = (next_tick + self.tick).max(now);
                self.handle([Input::Tick]);
                self.log_timing();
            }
        }
        self.requests.0.close();
        drop(self.requests);
        self.disk.finish();
    }

    fn log_timing(&mut self) {
        if self.core.election_ms() != self.election_ms {
            let timing = self.core.timing();
            tracing::info!(
                election_ms = timing.election_ms,
                before_ms = self.election_ms,
                slowest_sync_us = timing.slowest_sync,
                round_trip_ms = timing.round_trip_ms,
                "the election time-out follows disks and network"
            );
            self.election_ms = timing.election_ms;
        }
    }

    /// When stopping: leadership has gone elsewhere, or cannot go, or the patience is over.
    fn may_stop(&self, stop_at: Option<Instant>) -> bool {
        stop_at.is_some_and(|end| {
            let status = self.core.status();
            !status.leading || status.members.voters.len() < 2 || Instant::now() >= end
        })
    }

    /// What a request is to the core; `None` when it was answered or comes to nothing.
    fn take(&mut self, request: Request) -> Option<Input> {
        match request {
            Request::Input(input) => Some(input),
            Request::Command { request_id, command, reply } => {
                let token = self.token();
                self.replies.insert(token, reply);
                Some(Input::Command { token, request_id, command })
            }
            Request::Read(reply) => {
                let token = self.token();
                self.reads.insert(token, reply);
                Some(Input::ReadBarrier { token })
            }
            Request::Status(reply) => {
                // Nobody waits any more when the client went away.
                let _ = reply.send(self.core.status());
                None
            }
            Request::OpenSession { session, node, outgoing } => {
                self.sessions.insert(session, outgoing);
                Some(Input::SessionOpened { session, node })
            }
            Request::Stop(_) => None,
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Hands inputs to the core, and then what they brought about.
    fn handle(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.own.extend(inputs);
        while !self.own.is_empty() {
            let inputs = std::mem::take(&mut self.own);
            for input in &inputs {
                if let Input::SessionClosed { session } = input {
                    self.sessions.remove(session);
                }
            }
            for output in self.core.handle_all(inputs, now()) {
                self.carry_out(output);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::SendSnapshot { to, snapshot } => self.peers.send_snapshot(to, snapshot),
            Output::Send { to, messages } => {
                if !self.peers.send(to, messages) {
                    self.own.push(Input::PeerUnreachable(to));
                }
            }
            Output::Persist(batch) => self.disk.write(batch),
            Output::Reply { token, result } => self.reply(token, result),
            Output::ReadReady { token } => self.read(token, true),
            Output::ReadFailed { token } => self.read(token, false),
            Output::SessionSend { session, message } => {
                self.tell_session(session, ToSession::Message(message));
            }
            Output::SessionEnd { session, reason } => {
                self.tell_session(session, ToSession::End(reason));
                self.sessions.remove(&session);
            }
            Output::Applied { state, events } => self.hub.applied(state, events),
            Output::LeaderChanged { leader } => {
                tracing::info!(leader = leader.map(|id| id.0), "leader changed");
                self.hub.leader(leader);
            }
            Output::MembersChanged(members) => {
                tracing::info!(?members, "members changed");
                self.hub.members(members);
            }
            Output::Spared(spared) => self.hub.spared(spared),
            Output::Fatal(reason) => die(&reason),
        }
    }

    fn reply(&mut self, token: u64, result: Result<CommandDone, Refusal>) {
        if let Err(refusal) = &result
            && refusal.kind != RefusalKind::Unavailable
        {
            tracing::debug!(%refusal, "refused");
        }
        if let Some(reply) = self.replies.remove(&token) {
            // Nobody waits any more when the client went away.
            let _ = reply.send(result);
        }
    }

    fn read(&mut self, token: u64, ready: bool) {
        if let Some(reply) = self.reads.remove(&token) {
            let _ = reply.send(ready);
        }
    }

    fn tell_session(&mut self, session: u64, message: ToSession) {
        let Some(outgoing) = self.sessions.get(&session) else { return };
        if outgoing.try_send(message).is_err() {
            // A slow agent is cut off; it connects again and gets the complete set.
            self.sessions.remove(&session);
            self.own.push(Input::SessionClosed { session });
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
