//! The leader's own sight of the agents. It is not replicated: a new leader starts blind and gives everybody time.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::id::{NetworkId, NodeId, TaskId, Timestamp};

use super::autoscale::Usage;
use super::image::Images;
use crate::core::planted::Planted;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// A fault for the simulation to find.
    pub planted: Planted,
    /// Since when this leader could have heard anybody.
    pub since: Timestamp,
    /// When each node was heard last.
    pub heard: BTreeMap<NodeId, Timestamp>,
    /// The version of each network that stands on a node.
    pub confirmed: BTreeMap<(NetworkId, NodeId), u64>,
    /// Networks that are gone from a node.
    pub gone_networks: BTreeSet<(NetworkId, NodeId)>,
    /// Tasks that are gone from their nodes.
    pub gone_tasks: BTreeSet<TaskId>,
    /// What was measured of tasks of services that are scaled by it.
    pub usage: Usage,
    /// Which images lie on which nodes.
    pub images: Images,
}

impl Observed {
    /// Since when a node is silent, as far as this leader can know: one that it has not heard yet may have spoken until
    /// it began to lead.
    pub fn silent_since(&self, node: NodeId) -> Timestamp {
        self.heard.get(&node).copied().unwrap_or_default().max(self.since)
    }
}
