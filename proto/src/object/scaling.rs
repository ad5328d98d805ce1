use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::spec::Decimal;

/// The last change of the number of a service's tasks, where that is scaled by what is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// When, in cluster time.
    pub at: Timestamp,
    /// How many there were.
    pub from: u32,
    /// How many there have been since.
    pub to: u32,
    /// Why, for a person.
    pub reason: String,
}

/// What was measured of a running task; `None` where it could not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskUsage {
    /// Thousandths of a CPU, on average since it was measured before.
    pub millicpus: Option<u64>,
    /// Bytes of memory, without what the kernel could give back at once.
    pub memory: Option<u64>,
    /// The number that it tells.
    pub scraped: Option<Decimal>,
    /// New connections a second, on average since it was measured before.
    pub requests: Option<Decimal>,
    /// Connections that are open; only asked for while no new one comes.
    pub connections: Option<u64>,
}

/// What a target of scaling is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMetric {
    /// A share of CPUs, in percent.
    Cpu,
    /// A share of memory, in percent.
    Memory,
    /// A number that tasks tell.
    Scraped,
    /// New connections a second.
    Requests,
}

impl ScaleMetric {
    /// The word in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Scraped => "scrape",
            Self::Requests => "requests",
        }
    }

    /// What stands behind its numbers.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::Memory => "%",
            Self::Scraped => "",
            Self::Requests => "/s",
        }
    }
}

/// A target beside what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetReport {
    /// What it is about.
    pub metric: ScaleMetric,
    /// What one task should have.
    pub target: Decimal,
    /// What it has, on average of those that were measured; `None` where none was.
    pub measured: Option<Decimal>,
    /// How many were measured.
    pub tasks: u32,
}

/// How a service is that is scaled by what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingReport {
    /// Its full name.
    pub service: String,
    /// How many tasks it shall have.
    pub replicas: u32,
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Each target.
    pub targets: Vec<TargetReport>,
    /// Running tasks whose numbers count.
    pub counted: u32,
    /// How many tasks there should be by what is measured now; `None` where nothing is.
    pub wanted: Option<u32>,
    /// Why it is not scaled to that.
    pub held: Option<String>,
}
