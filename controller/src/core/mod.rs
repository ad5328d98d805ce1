//! The pure core: one controller's Raft member, replicated state, rules and sessions. Same inputs, same outputs:
//! no clock, no randomness, no disk and no network in here.

pub mod command;
pub mod config;
pub mod input;
pub mod output;
pub mod session;
pub mod state;

use swarm_proto::id::{RaftId, Timestamp};
use swarm_proto::object::Cluster;

pub use command::{Command, CommandDone, Refusal, RefusalKind};
pub use config::CoreConfig;
pub use input::Input;
pub use output::{DiskBatch, DiskEntry, DiskSnapshot, Members, Output, Recovered, SnapshotBody};
pub use session::{FromAgent, ToAgent};
pub use state::{Event, State};

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk holds something that does not fit together.
    #[error("the disk's content does not fit together: {0}")]
    Recovered(String),
}

/// What one controller's core knows of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Who leads, as far as this member knows.
    pub leader: Option<RaftId>,
    /// Whether this member leads.
    pub leading: bool,
    /// The term.
    pub term: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The group's members.
    pub members: Members,
}

/// One controller without its surroundings.
pub struct Core {
    state: State,
}

impl Core {
    /// Starts from what the disk held; a new member's disk holds nothing.
    pub fn new(_config: CoreConfig) -> Result<Self, StartError> {
        Ok(Self { state: State::default() })
    }

    /// Takes in what happened at wall-clock time `now`, and says what to do.
    pub fn handle(&mut self, _input: Input, _now: Timestamp) -> Vec<Output> {
        Vec::new()
    }

    /// The applied state; cloning it costs nothing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What this member knows of the group.
    pub fn status(&self) -> Status {
        Status {
            leader: None,
            leading: false,
            term: 0,
            commit: 0,
            applied: self.state.applied,
            members: Members::default(),
        }
    }
}

/// The disk content of a new cluster's first controller: node 1, raft id 1. `swarm-controller init` writes it, then
/// `run` starts from it.
pub fn bootstrap(
    _cluster: Cluster,
    _hostname: &str,
    _controller_address: &str,
    _now: Timestamp,
) -> DiskBatch {
    DiskBatch {
        number: 1,
        truncate_from: Some(0),
        snapshot: None,
        compact_to: None,
        entries: Vec::new(),
        hard_state: None,
        must_sync: true,
    }
}
