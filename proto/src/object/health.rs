use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// What the checks of a task's health say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// The health of a task whose health is looked at, as its agent reports it: with each change of its state, not with
/// each check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHealth {
    /// What the checks say.
    pub state: HealthState,
    /// Since when.
    pub since: Timestamp,
    /// Failures in a row when it was reported.
    pub failures: u32,
    /// The end of what the last failed check wrote, or why it failed; empty after a success.
    pub output: String,
}

impl TaskHealth {
    /// Bytes of a check's output that travel to the controllers.
    pub const OUTPUT: usize = 512;

    /// Of a task that has just started.
    pub fn starting(since: Timestamp) -> Self {
        Self { state: HealthState::Starting, since, failures: 0, output: String::new() }
    }
}
