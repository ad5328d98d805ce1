use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::spec::is_default;

/// How far a run of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Not over.
    Running,
    /// Every completion that was asked for was reached.
    Complete,
    /// It is over, and some of its places gave up.
    Failed,
    /// Ended before it was over, by a person or by a later run.
    Stopped,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// One run of a job: as many completions as its service asks for. Or one task beside a service's own, as `swarmctl run`
/// makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// Counts the runs of the service, from 1.
    pub number: u64,
    /// The time of the schedule that it is for; no time is run twice. `None` for one that a person or a changed spec began.
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub state: RunState,
    /// Why it failed or was stopped. Empty when there is nothing to say.
    pub message: String,
    /// The version of the service's spec with which it began.
    pub spec_version: u64,
    /// How many completions; `None` is one on each eligible node.
    pub total: Option<u32>,
    /// Its places are the replica slots after this one. Runs that overlap have slots of their own.
    pub slots_after: u32,
    /// Places that completed, once it is over.
    pub completed: u32,
    /// Places that gave up, once it is over.
    pub failed: u32,
    /// One task beside the service's own.
    pub one_off: bool,
    /// Replaces the container's command, for a one-off task.
    pub command: Option<Vec<String>>,
}

impl JobRun {
    /// Whether it is not over.
    pub fn is_active(&self) -> bool {
        self.state == RunState::Running
    }
}

/// The runs of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobRuns {
    /// How many were begun, ever.
    pub started: u64,
    /// Up to when it is decided about the times of the schedule: none of them is run any more.
    pub decided_until: Timestamp,
    /// How many decisions were made to leave times of the schedule out.
    pub skipped: u64,
    /// Those that are not over, and the last of the others, by number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub list: Vec<JobRun>,
}

impl JobRuns {
    /// Finished runs that are kept where the spec says nothing.
    pub const HISTORY: u32 = 10;

    /// A run by its number.
    pub fn get(&self, number: u64) -> Option<&JobRun> {
        self.list.iter().find(|run| run.number == number)
    }

    /// The last run of the service itself, not of one-off tasks.
    pub fn newest(&self) -> Option<&JobRun> {
        self.list.iter().rev().find(|run| !run.one_off)
    }

    /// Runs of the service itself that are not over.
    pub fn active(&self) -> impl Iterator<Item = &JobRun> + '_ {
        self.list.iter().filter(|run| run.is_active() && !run.one_off)
    }
}
