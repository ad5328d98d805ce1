use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;

/// What is done to look at a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Nothing: the image's own check is off, too.
    None,
    /// A program in the container, with its arguments; exit code 0 is healthy (compose `[CMD, …]`).
    Command(Vec<String>),
    /// A line for the container's shell (compose `[CMD-SHELL, …]`).
    Shell(String),
    /// A request to the container over HTTP, made by the agent (`x-swarm: health.http`).
    Http(HttpCheck),
    /// A connection to this TCP port of the container, made by the agent (`x-swarm: health.tcp`).
    Tcp(u16),
}

/// A GET request to the container's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// The port in the container.
    pub port: u16,
    /// The path, with what may follow after `?`.
    pub path: String,
    /// The lowest status that counts as healthy.
    pub lowest_status: u16,
    /// The highest one.
    pub highest_status: u16,
}

impl HttpCheck {
    /// Statuses that count as healthy when nothing else is said: success, and leading elsewhere.
    pub const STATUSES: (u16, u16) = (200, 399);
}

/// How and how often a container's health is looked at. What is `None` is as in the image, else the usual, which is
/// Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is done.
    pub test: Option<HealthTest>,
    /// From the end of one check to the next; at least a millisecond, as are the others.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: Option<Duration>,
    /// A check that takes longer has failed.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: Option<Duration>,
    /// So many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: Option<u32>,
    /// Failures in this time after the start do not count.
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: Option<Duration>,
    /// As `interval`, until the first success within `start_period`.
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: Option<Duration>,
}

impl HealthCheck {
    /// The usual time between checks.
    pub const INTERVAL: Duration = Duration::from_secs(30);
    /// The usual time that a check may take.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// The usual number of failures in a row.
    pub const RETRIES: u32 = 3;
    /// The usual time between checks at the start.
    pub const START_INTERVAL: Duration = Duration::from_secs(5);
    /// No duration is shorter, as in Docker's API.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// No check at all.
    pub fn none() -> Self {
        Self { test: Some(HealthTest::None), ..Self::default() }
    }
}
