//! A cluster's state with many nodes.

use std::net::Ipv4Addr;
use std::time::Duration;

use swarm_controller::core::state::{State, apply};
use swarm_proto::backup;
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, Timestamp};
use swarm_proto::object::{Availability, Node, NodeDescription, NodeStatus, Role};

use super::Outcome;

/// The first simulated node: before it comes the one on which the backup was made.
pub const FIRST: u64 = 2;
/// How often a simulated node speaks: Docker Swarm's default, five times ours, for they all share this machine with the
/// controllers.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A backup with so many nodes more, in turn in zones from `zone1` on (the label `zone`).
pub fn fill(file: &[u8], nodes: u32, zones: u32) -> Outcome<Vec<u8>> {
    let mut backup = backup::decode(file, None)?;
    let mut state = State::from_bytes(&backup.state)?;
    let mut cluster = state.cluster.as_deref().ok_or("no cluster in the backup")?.clone();
    cluster.heartbeat = HEARTBEAT;
    cluster.node_down_after = HEARTBEAT * 4;
    let mut actions = vec![Action::SetCluster(Box::new(cluster))];
    actions.extend((0..nodes).map(|number| {
        let zone = format!("zone{}", number % zones + 1);
        Action::AddNode(Box::new(node(NodeId(FIRST + u64::from(number)), zone, state.clock)))
    }));
    let groups = vec![Group { actions, ..Group::default() }];
    let entry = Entry { time: state.clock, checksum: 0, groups };
    let applied = apply(&mut state, &entry);
    if applied.groups != [true] {
        return Err("the state takes no such nodes".into());
    }
    backup.state = state.to_bytes();
    Ok(backup::encode(&backup))
}

/// Where a simulated node's tunnels would end.
pub fn address(id: NodeId) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    Ipv4Addr::from(first + u32::try_from(id.0).unwrap_or(0))
}

/// What a simulated node says of itself.
pub(super) fn description(id: NodeId) -> NodeDescription {
    NodeDescription {
        hostname: format!("host{id}"),
        address: Some(address(id)),
        os: String::from("linux"),
        arch: String::from("amd64"),
        millicpus: 4_000,
        memory: 32 << 30,
        ..NodeDescription::default()
    }
}

fn node(id: NodeId, zone: String, now: Timestamp) -> Node {
    Node {
        id,
        role: Role::Agent,
        availability: Availability::Active,
        labels: [(String::from("zone"), zone)].into(),
        status: NodeStatus::Ready,
        status_since: now,
        description: description(id),
        raft_id: None,
        controller_address: None,
        joined_at: now,
        recent_downs: Vec::new(),
        declared_lost: false,
    }
}
