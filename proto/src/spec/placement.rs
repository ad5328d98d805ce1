use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Constraint, is_default};
use crate::object::Node;
use crate::version::ClusterVersion;

/// Nodes that count as one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Each node is a place of its own.
    #[default]
    Node,
    /// `node.labels.X`: nodes with the same value of a label that operators set. Those without it are one place.
    NodeLabel(String),
    /// `engine.labels.X`: nodes with the same value of a label from the agent's configuration.
    EngineLabel(String),
}

impl Domain {
    /// What nodes of one place have in common; `None` where each is its own.
    pub fn value<'a>(&self, node: &'a Node) -> Option<&'a str> {
        let value = match self {
            Self::Node => return None,
            Self::NodeLabel(label) => node.labels.get(label),
            Self::EngineLabel(label) => node.description.engine_labels.get(label),
        };
        Some(value.map_or("", String::as_str))
    }

    /// Whether two nodes are in one place.
    pub fn is_shared(&self, one: &Node, other: &Node) -> bool {
        match self {
            Self::Node => one.id == other.id,
            _ => self.value(one) == self.value(other),
        }
    }

    /// Reads `node.labels.X` and `engine.labels.X`; the part before the label's name compares without case.
    pub fn label(text: &str) -> Option<Self> {
        let after = |prefix: &str| {
            let matches = text.get(..prefix.len())?.eq_ignore_ascii_case(prefix);
            let name = text.get(prefix.len()..).filter(|_| matches)?;
            (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned())
        };
        after("node.labels.")
            .map(Self::NodeLabel)
            .or_else(|| after("engine.labels.").map(Self::EngineLabel))
    }
}

impl fmt::Display for Domain {
    /// As a user writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::NodeLabel(label) => write!(f, "node.labels.{label}"),
            Self::EngineLabel(label) => write!(f, "engine.labels.{label}"),
        }
    }
}

/// Another service whose tasks attract or repel those of a service, when they are placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// Its key in the same stack; the service itself, too.
    pub service: String,
    /// How near.
    pub within: Domain,
}

/// Which nodes may and should run a service's tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Labels over whose values tasks are spread, most important first.
    pub spread: Vec<Domain>,
    /// At most this many tasks of the service on one node; `None` is no limit.
    pub max_replicas_per_node: Option<u32>,
    /// Services that must have a task in the same place (`x-swarm: placement: near`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub near: Vec<Affinity>,
    /// Services that must have none there, and for whose tasks this one's count likewise (`x-swarm: placement: apart`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub apart: Vec<Affinity>,
}

impl Placement {
    /// Whether a node meets all constraints.
    pub fn allows(&self, node: &Node) -> bool {
        self.constraints.iter().all(|constraint| constraint.holds(node))
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let is_plain = |domain: &Domain| matches!(domain, Domain::NodeLabel(_));
        let own =
            if self.near.is_empty() && self.apart.is_empty() && self.spread.iter().all(is_plain) {
                ClusterVersion::FIRST
            } else {
                ClusterVersion(4)
            };
        self.constraints.iter().map(Constraint::needs).fold(own, Ord::max)
    }
}
