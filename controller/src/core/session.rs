//! What an agent and the leader say to each other, as domain types.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_proto::assignment::{AssignmentDiff, VolumeReport};
use swarm_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use swarm_proto::object::{HeldImage, NodeDescription, TaskStatus, TaskUsage};
use swarm_proto::spec::ContentId;

use super::state::Content;

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// First of all.
    Hello {
        /// Random, made at each connect.
        nonce: String,
        /// What the agent found on its host.
        description: NodeDescription,
        /// All tasks that the agent has.
        statuses: Vec<(TaskId, TaskStatus)>,
        /// All volumes that the host holds.
        volumes: Vec<VolumeReport>,
        /// Whether it takes what changed of a network, instead of the whole.
        takes_network_changes: bool,
    },
    /// It is alive.
    Heartbeat,
    /// Tasks' states changed.
    Statuses(Vec<(TaskId, TaskStatus)>),
    /// What running tasks that shall be measured use now.
    Usage(Vec<(TaskId, TaskUsage)>),
    /// Connections wait for services that have no task that serves.
    Demand(Vec<ServiceId>),
    /// All images that are whole on the host.
    Images(Vec<HeldImage>),
    /// What is on the host changed.
    Description(NodeDescription),
    /// All volumes that the host holds.
    Volumes(Vec<VolumeReport>),
    /// What now stands, or is gone, on the host.
    Confirmation {
        /// Networks with the version that stands.
        networks: BTreeMap<NetworkId, u64>,
        /// Networks that were removed without rest.
        removed_networks: Vec<NetworkId>,
        /// Tasks that were removed without rest.
        removed_tasks: Vec<TaskId>,
    },
}

/// What the leader says.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    /// Answers the hello.
    Welcome {
        /// The node's identity.
        node: NodeId,
        /// How often to report.
        heartbeat: Duration,
        /// Controllers to try after this one, `host:port`.
        controllers: Vec<String>,
        /// The UDP port of the tunnels between hosts.
        vxlan_port: u16,
    },
    /// What to make true.
    Assignments {
        /// The set replaces everything; else it changes what the last message left.
        complete: bool,
        /// Counts the messages of this session, from 1.
        sequence: u64,
        /// The set or the change.
        diff: AssignmentDiff,
        /// Secrets and configs that it speaks of and that this session has not carried yet: they go before it.
        contents: Vec<(ContentId, Content)>,
    },
    /// Answers each heartbeat.
    Alive {
        /// Controllers to try after this one, `host:port`.
        controllers: Vec<String>,
    },
}
