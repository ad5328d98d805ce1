use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{GenericResources, HostShare};
use crate::id::{NodeId, RaftId, Timestamp};
use crate::spec::{Protocol, is_default};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs a controller, and usually an agent.
    Controller,
    /// Runs only an agent.
    Agent,
}

/// Whether a node takes tasks; the operator's wish.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Takes tasks.
    #[default]
    Active,
    /// Keeps its tasks, takes no new ones.
    Pause,
    /// Its tasks move away.
    Drain,
}

/// What the leader knows of a node's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Has joined, its agent has not been heard yet.
    Unknown,
    /// Its agent is in touch.
    Ready,
    /// Its agent has not been heard for the whole grace period.
    Down,
}

/// A socket that listens on a host outside of any container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address it is bound to; `0.0.0.0` is every one.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// The program that owns it: `sshd`.
    pub owner: String,
}

/// What an agent found on its host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeDescription {
    /// The host's name.
    pub hostname: String,
    /// The address at which other hosts reach it: VXLAN tunnels and the agent's own port.
    pub address: Option<Ipv4Addr>,
    /// The agent's own port, 2387 by default.
    pub agent_port: u16,
    /// `linux`
    pub os: String,
    /// As in image indexes: `amd64`, `arm64`.
    pub arch: String,
    /// CPUs in thousandths.
    pub millicpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// The agent's version.
    pub agent_version: String,
    /// Labels from `agent.toml` (`engine.labels.*` in constraints).
    pub engine_labels: BTreeMap<String, String>,
    /// IPv4 prefixes that the host routes, which the allocator keeps clear of: address and prefix length.
    pub routed_prefixes: Vec<(Ipv4Addr, u8)>,
    /// What already listens, with its owner.
    pub listeners: Vec<Listener>,
    /// What on this host would get in our way, each a sentence for a person ("chain `FORWARD` of `filter` drops …").
    pub warnings: Vec<String>,
    /// The digest of the root certificates that its agent trusts; empty when it tells none.
    #[serde(default)]
    pub roots: String,
    /// Processes and threads that the host can have; 0 where its agent does not say.
    #[serde(default)]
    pub pids: u64,
    /// What it counts or names beside that, as its agent's configuration says.
    #[serde(default)]
    pub generic_resources: GenericResources,
    /// What is kept for the host itself.
    #[serde(default)]
    pub reserve: HostShare,
}

impl NodeDescription {
    /// All that the host has.
    pub fn capacity(&self) -> HostShare {
        HostShare { millicpus: self.millicpus, memory: self.memory, pids: self.pids }
    }

    /// What tasks may reserve of it.
    pub fn for_tasks(&self) -> HostShare {
        self.capacity().without(self.reserve)
    }

    /// Whether it says what cluster version 4 brought.
    pub fn is_later(&self) -> bool {
        *self != self.clone().earlier()
    }

    /// Without what cluster version 4 brought.
    #[must_use]
    pub fn earlier(self) -> Self {
        let reserve = HostShare::default();
        Self { pids: 0, generic_resources: GenericResources::new(), reserve, ..self }
    }
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity, also in its certificate.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// The operator's wish.
    pub availability: Availability,
    /// The operator's labels (`node.labels.*`).
    pub labels: BTreeMap<String, String>,
    /// What the leader knows.
    pub status: NodeStatus,
    /// When the status changed last.
    pub status_since: Timestamp,
    /// What the agent found.
    pub description: NodeDescription,
    /// Its member of the Raft group, when it runs a controller.
    pub raft_id: Option<RaftId>,
    /// `host:port` at which other controllers and agents reach its controller.
    pub controller_address: Option<String>,
    /// When it joined.
    pub joined_at: Timestamp,
    /// An operator said that it is lost, and has not been heard since.
    #[serde(default, skip_serializing_if = "is_default")]
    pub declared_lost: bool,
    /// When it went down lately, oldest first; at most [`Node::DOWNS_KEPT`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub recent_downs: Vec<Timestamp>,
}

impl Node {
    /// How many times of going down are remembered.
    pub const DOWNS_KEPT: usize = 8;
    /// A node flaps that went down so often ...
    pub const FLAPS: usize = 3;
    /// ... within this time before it came back.
    pub const FLAPPING: Duration = Duration::from_mins(10);
    /// It gets new tasks again once it was there for so long.
    pub const STEADY: Duration = Duration::from_mins(1);

    /// From when on a node that flapped counts as steady again; `None` when it is there and did not flap, or is not
    /// there.
    pub fn steady_at(&self) -> Option<Timestamp> {
        let lately = |at: &&Timestamp| self.status_since.since(**at) <= Self::FLAPPING;
        let flapped = self.recent_downs.iter().filter(lately).count() >= Self::FLAPS;
        (flapped && self.status == NodeStatus::Ready).then(|| self.status_since.after(Self::STEADY))
    }

    /// Whether it came back so lately, after going down often, that it should get no new tasks yet.
    pub fn is_unsteady(&self, now: Timestamp) -> bool {
        self.steady_at().is_some_and(|at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(status: NodeStatus, since: u64, downs: &[u64]) -> Node {
        Node {
            id: NodeId(1),
            role: Role::Agent,
            availability: Availability::Active,
            labels: BTreeMap::new(),
            status,
            status_since: Timestamp(since * 1_000),
            description: NodeDescription::default(),
            raft_id: None,
            controller_address: None,
            joined_at: Timestamp(0),
            declared_lost: false,
            recent_downs: downs.iter().map(|at| Timestamp(at * 1_000)).collect(),
        }
    }

    #[test]
    fn a_node_that_went_down_often_is_steady_after_a_minute() {
        let flapped = node(NodeStatus::Ready, 1_000, &[500, 700, 990]);
        assert_eq!(flapped.steady_at(), Some(Timestamp(1_060_000)));
        assert!(flapped.is_unsteady(Timestamp(1_059_999)));
        assert!(!flapped.is_unsteady(Timestamp(1_060_000)));
        assert_eq!(node(NodeStatus::Ready, 1_000, &[700, 990]).steady_at(), None, "twice");
        assert_eq!(node(NodeStatus::Ready, 1_000, &[399, 700, 990]).steady_at(), None, "long ago");
        assert_eq!(node(NodeStatus::Down, 1_000, &[500, 700, 1_000]).steady_at(), None);
    }
}
