//! What happens to a core. Each input comes with the wall clock's milliseconds.

use std::fmt;

use swarm_proto::id::{NodeId, RaftId};

use super::command::Command;
use super::session::FromAgent;
use super::state::State;
use super::version::Program;

/// A disk without room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The folder that lies on it.
    pub path: String,
    /// How many bytes are free.
    pub free: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk of {} is full: {} KiB are free", self.path, self.free / 1024)
    }
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// One tick of the Raft clock went by.
    Tick,
    /// A message of another controller arrived, encoded as raft-rs does.
    PeerMessage {
        /// The encoded `eraftpb.Message`.
        bytes: Vec<u8>,
    },
    /// A message of another controller that carries a snapshot arrived, and its data was read.
    PeerSnapshot {
        /// The encoded `eraftpb.Message`, whose snapshot lacks its data.
        message: Vec<u8>,
        /// What the data stands for.
        state: Box<State>,
    },
    /// Another controller said which program it runs; each says it whenever it connects.
    PeerProgram {
        /// Which.
        peer: RaftId,
        /// What it runs.
        program: Program,
    },
    /// Messages to this controller could not be delivered.
    PeerUnreachable(RaftId),
    /// The message that carried a snapshot was delivered, or not.
    SnapshotSent {
        /// To whom.
        to: RaftId,
        /// Whether it arrived.
        ok: bool,
    },
    /// This batch and all with smaller numbers are on disk. Elections are not called sooner than voters' disks allow.
    Persisted {
        /// [`super::output::DiskBatch::number`].
        batch: u64,
        /// Microseconds from the beginning of the last write to its being durable.
        micros: u64,
    },
    /// The disk has little room left: there is a reserve for what is under way. `None`: it has room again.
    Room(Option<Shortage>),
    /// A client's wish. Answered by exactly one [`super::output::Output::Reply`] with the same token.
    Command {
        /// Chosen by the caller, unique while it is unanswered.
        token: u64,
        /// The client's own identity of the request: the same one is applied once.
        request_id: String,
        /// The wish.
        command: Command,
    },
    /// A linearizable read wants to begin. Answered by `ReadReady` or `ReadFailed` with the same token.
    ReadBarrier {
        /// Chosen by the caller, unique while it is unanswered.
        token: u64,
    },
    /// An agent opened a session (perhaps through a relaying follower).
    SessionOpened {
        /// Chosen by the caller, never used twice.
        session: u64,
        /// Whose certificate was seen.
        node: NodeId,
    },
    /// An agent spoke. The first message of a session is [`FromAgent::Hello`].
    SessionMessage {
        /// Which session.
        session: u64,
        /// What it said.
        message: FromAgent,
    },
    /// A session broke off.
    SessionClosed {
        /// Which one.
        session: u64,
    },
    /// Shut down in good order: a leader hands its leadership to another controller.
    StepDown,
}
