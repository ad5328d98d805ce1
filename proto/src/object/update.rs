use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{TaskId, Timestamp};
use crate::spec::is_default;

/// Where a service's update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Tasks are being exchanged for those of the new spec.
    Updating,
    /// Its canary runs, or clients were led to its tasks and the old ones stand by: it ends once somebody promotes it, or
    /// after its time.
    Held,
    /// It failed, or somebody stopped it: it goes no further by itself.
    Paused,
    /// It ended well.
    Completed,
    /// Tasks are being exchanged for those of the previous spec.
    RollbackStarted,
    /// The rollback failed, or somebody stopped it.
    RollbackPaused,
    /// The rollback ended well.
    RollbackCompleted,
}

impl UpdateState {
    /// Whether tasks are being exchanged.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

    /// Whether it has neither ended nor stopped: failures of its tasks count.
    pub fn is_open(self) -> bool {
        self.is_under_way() || self == Self::Held
    }

    /// Whether it stopped before its end.
    pub fn is_paused(self) -> bool {
        matches!(self, Self::Paused | Self::RollbackPaused)
    }

    /// Whether the previous spec is being brought back, or was.
    pub fn is_rollback(self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }

    /// The name in texts: Swarm's, where it has the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether an update leads clients from all old tasks to all new ones at once, and when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It leads them over one by one.
    #[default]
    None,
    /// The new ones stand by.
    Due,
    /// It did at this time, and the old ones stand by.
    Done(Timestamp),
}

/// How far a service's update is. Times are cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// Counts the service's updates, and each time that one goes on after a pause.
    pub number: u64,
    /// Where it stands.
    pub state: UpdateState,
    /// When it began, or went on.
    pub started_at: Timestamp,
    /// When it ended or stopped.
    pub finished_at: Option<Timestamp>,
    /// Why it stands there, for a person. Empty when there is nothing to say.
    pub message: String,
    /// Slots that had to be exchanged when it began.
    pub slots: u32,
    /// Slots whose new task failed.
    pub failures: u32,
    /// When the last of its tasks came to run.
    pub ran_at: Option<Timestamp>,
    /// The task that failed last.
    pub failed: Option<TaskId>,
    /// It goes on beyond the canary.
    #[serde(default)]
    pub promoted: bool,
    /// Whether it is blue-green, and how far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub switch: Switch,
}

impl UpdateStatus {
    /// An update that begins now.
    pub fn begin(number: u64, state: UpdateState, slots: u32, now: Timestamp) -> Self {
        Self {
            number,
            state,
            started_at: now,
            finished_at: None,
            message: String::new(),
            slots,
            failures: 0,
            ran_at: None,
            failed: None,
            promoted: false,
            switch: Switch::None,
        }
    }

    /// The same update as it goes on now: what failed before is not counted any more.
    #[must_use]
    pub fn again(&self, state: UpdateState, slots: u32, now: Timestamp) -> Self {
        let Self { promoted, switch, .. } = *self;
        Self { promoted, switch, ..Self::begin(self.number + 1, state, slots, now) }
    }

    /// The same update, at its end or stopped.
    #[must_use]
    pub fn finish(&self, state: UpdateState, message: String, now: Timestamp) -> Self {
        Self { state, message, finished_at: Some(now), ..self.clone() }
    }
}
