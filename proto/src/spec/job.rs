use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, ScheduleError};

/// What becomes of times of a schedule at which no controller could start a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissedRuns {
    /// They are left out.
    #[default]
    Skip,
    /// The last of them is made up for.
    RunOnce,
    /// All are made up for, up to the hundred last.
    RunAll,
}

impl MissedRuns {
    /// As a user writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunOnce => "run-once",
            Self::RunAll => "run-all",
        }
    }
}

/// What happens when a run is due while an earlier one is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The later one is left out; one that makes up for a missed one waits.
    #[default]
    Forbid,
    /// The earlier one is stopped.
    Replace,
}

impl Concurrency {
    /// As a user writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Forbid => "forbid",
            Self::Replace => "replace",
        }
    }
}

/// When a job runs by itself (`x-swarm: job`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSchedule {
    /// A cron expression or a period, as [`Schedule`] reads it.
    pub expression: String,
    /// A name of the IANA database.
    pub time_zone: String,
    /// What becomes of missed times.
    pub missed: MissedRuns,
    /// What happens when runs would overlap.
    pub concurrency: Concurrency,
}

impl JobSchedule {
    /// Where nothing is said.
    pub const TIME_ZONE: &'static str = "UTC";

    /// Its times.
    pub fn times(&self) -> Result<Schedule, ScheduleError> {
        Schedule::new(&self.expression, &self.time_zone)
    }
}

impl fmt::Display for JobSchedule {
    /// As a table shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)?;
        if self.time_zone == Self::TIME_ZONE { Ok(()) } else { write!(f, " {}", self.time_zone) }
    }
}
