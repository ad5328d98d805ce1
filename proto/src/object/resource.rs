use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What there is of a kind of resource: on a node, or given to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenericResource {
    /// So many, one like the other.
    Count(u64),
    /// Each with a name of its own.
    Named(BTreeSet<String>),
}

/// Resources by their kind, in lower case: `gpu`.
pub type GenericResources = BTreeMap<String, GenericResource>;

impl GenericResource {
    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Named(names) => u64::try_from(names.len()).unwrap_or(u64::MAX),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for GenericResource {
    /// `4`, or `uuid1,uuid2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Named(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// Parts of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostShare {
    /// CPUs in thousandths.
    pub millicpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl HostShare {
    /// What is left of it without another; never less than nothing.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            millicpus: self.millicpus.saturating_sub(other.millicpus),
            memory: self.memory.saturating_sub(other.memory),
            pids: self.pids.saturating_sub(other.pids),
        }
    }
}
