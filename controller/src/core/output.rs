//! What a core wants done outside.

use std::sync::Arc;

use swarm_proto::id::RaftId;

use super::command::{CommandDone, Refusal};
use super::session::ToAgent;
use super::state::{Event, State};

/// Something to do outside, in the order given.
#[derive(Debug, Clone)]
pub enum Output {
    /// Deliver messages to another controller, in order; losing them is allowed.
    Send {
        /// To whom.
        to: RaftId,
        /// Encoded `eraftpb.Message`s.
        messages: Vec<Vec<u8>>,
    },
    /// Deliver a snapshot to another controller, beside the messages; tell its fate by `Input::SnapshotSent`.
    SendSnapshot {
        /// To whom.
        to: RaftId,
        /// What to deliver.
        snapshot: SnapshotMessage,
    },
    /// Write to disk, in order and each batch wholly or not at all; then say `Input::Persisted`.
    Persist(DiskBatch),
    /// Answers a command.
    Reply {
        /// Whose.
        token: u64,
        /// How it went.
        result: Result<CommandDone, Refusal>,
    },
    /// A read may now look at the last `Applied` state.
    ReadReady {
        /// Whose.
        token: u64,
    },
    /// No leader answered in time: the read must be tried again or answered as stale.
    ReadFailed {
        /// Whose.
        token: u64,
    },
    /// Speak to an agent.
    SessionSend {
        /// Which session.
        session: u64,
        /// What to say.
        message: ToAgent,
    },
    /// End a session.
    SessionEnd {
        /// Which one.
        session: u64,
        /// Why, for a person.
        reason: String,
    },
    /// The state moved on.
    Applied {
        /// The state now.
        state: Arc<State>,
        /// What changed since the last one, in order.
        events: Vec<Event>,
    },
    /// Somebody else leads now, or nobody.
    LeaderChanged {
        /// Who; `None` while nobody is known.
        leader: Option<RaftId>,
    },
    /// The members of the Raft group changed.
    MembersChanged(Members),
    /// Whether the group goes on without this member: it has no vote, and another one leads that knows so.
    Spared(bool),
    /// The core must not go on: stop the process at once.
    Fatal(String),
}

/// A message that carries a snapshot, which has yet to be made of its state: that takes time in proportion to it.
#[derive(Debug, Clone)]
pub struct SnapshotMessage {
    /// The encoded `eraftpb.Message`, whose snapshot lacks its data.
    pub message: Vec<u8>,
    /// The state that the data stands for.
    pub state: Box<State>,
}

impl SnapshotMessage {
    /// The data that the message lacks. With both, `Input::PeerSnapshot` can be made at the other end.
    pub fn data(&self) -> Vec<u8> {
        self.state.to_bytes()
    }

    /// The whole message, as `Input::PeerMessage` takes it.
    pub fn encode(&self) -> Vec<u8> {
        super::member::snapshot::with_data(&self.message, self.data())
    }
}

/// The Raft group's members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Who votes.
    pub voters: Vec<RaftId>,
    /// Who only follows.
    pub learners: Vec<RaftId>,
}

/// One atomic, ordered write. `data` fields are opaque to the disk.
#[derive(Debug, Clone)]
pub struct DiskBatch {
    /// Counts the batches of this run of the core, from 1.
    pub number: u64,
    /// First remove all entries with this index or a higher one (0: all).
    pub truncate_from: Option<u64>,
    /// Then store the snapshot in place of the one before. One without `truncate_from` may be stored later than all
    /// that follows, and the entries up to `compact_to` removed with it.
    pub snapshot: Option<DiskSnapshot>,
    /// Then remove all entries up to and with this index; may also be done later, in small slices.
    pub compact_to: Option<u64>,
    /// Then add entries: contiguous and ascending.
    pub entries: Vec<DiskEntry>,
    /// Then replace the hard state.
    pub hard_state: Option<Vec<u8>>,
}

/// An entry of the log on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskEntry {
    /// Its place.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// The encoded `eraftpb.Entry`.
    pub data: Vec<u8>,
}

/// A snapshot on disk, which stands for all entries up to its index.
#[derive(Debug, Clone)]
pub struct DiskSnapshot {
    /// The last index it stands for.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Its content.
    pub body: SnapshotBody,
}

/// A snapshot's content: encoded when it came from outside, else encoded by the disk thread.
#[derive(Debug, Clone)]
pub enum SnapshotBody {
    /// The encoded `eraftpb.Snapshot`.
    Encoded(Vec<u8>),
    /// The state, to be encoded off the Raft thread with [`DiskSnapshot::encode`].
    State {
        /// The state at the index.
        state: Box<State>,
        /// The encoded `eraftpb.ConfState` at the index.
        conf_state: Vec<u8>,
    },
}

impl DiskSnapshot {
    /// The encoded `eraftpb.Snapshot`; takes time in proportion to the state.
    pub fn encode(&self) -> Vec<u8> {
        match &self.body {
            SnapshotBody::Encoded(bytes) => bytes.clone(),
            SnapshotBody::State { state, conf_state } => {
                super::member::snapshot::encode(state, self.term, conf_state)
            }
        }
    }
}

/// What a disk held when the process started.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The last hard state.
    pub hard_state: Option<Vec<u8>>,
    /// Index, term and encoded content of the last snapshot.
    pub snapshot: Option<(u64, u64, Vec<u8>)>,
    /// All entries, ascending without a gap.
    pub entries: Vec<DiskEntry>,
}
