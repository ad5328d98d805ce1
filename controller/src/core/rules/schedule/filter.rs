//! Which nodes can run a task, and why the others cannot.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use swarm_proto::id::NodeId;
use swarm_proto::object::{Availability, GenericResources, Node, NodeStatus, Service, Volume};
use swarm_proto::spec::{PortMode, ServiceMode, ServiceSpec, VolumeNodeLost};

use super::affinity;
use super::placed::Placed;
use crate::core::state::{Lack, State};

/// Why a node cannot run a task, in words that fit behind "node".
pub(super) type Reason = String;

/// Everything a filter looks at.
pub(super) struct Question<'a, 'p> {
    pub(super) state: &'a State,
    pub(super) service: &'a Service,
    pub(super) spec: &'a ServiceSpec,
    /// Its tasks run beside the service's own, and take no ports.
    pub(super) is_one_off: bool,
    pub(super) placed: &'p Placed,
}

/// All filters in order; the first refusal is the reason.
pub(super) fn refusal(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    possible(question, node).or_else(|| crowded(question, node))
}

/// Filters whose answer does not depend on the tasks that a node has.
pub(super) fn possible(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    ready(node)
        .or_else(|| unsteady(question, node))
        .or_else(|| constraints(question, node))
        .or_else(|| platform(node))
        .or_else(|| volumes(question, node))
}

/// Filters whose answer depends on the tasks that a node has.
pub(super) fn crowded(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    reservations(question, node)
        .or_else(|| host_ports(question, node))
        .or_else(|| most_replicas(question, node))
        .or_else(|| affinity::refusal(question, node))
}

fn ready(node: &Node) -> Option<Reason> {
    match (node.status, node.availability) {
        (NodeStatus::Down, _) => Some("down".to_owned()),
        (NodeStatus::Unknown, _) => Some("without a running agent yet".to_owned()),
        (_, Availability::Drain) => Some("drained".to_owned()),
        (_, Availability::Pause) => Some("paused".to_owned()),
        (NodeStatus::Ready, Availability::Active) => None,
    }
}

/// One that went down often lately gets nothing new until it was there for a while. Where no node is steadier, each will
/// do.
fn unsteady(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let Question { state, placed, .. } = question;
    if !node.is_unsteady(state.clock) {
        return None;
    }
    let is_steady = |node: &Node| ready(node).is_none() && !node.is_unsteady(state.clock);
    placed
        .has_steady(|| state.nodes.values().any(|node| is_steady(node)))
        .then(|| format!("not steady yet after going down {} times", node.recent_downs.len()))
}

fn constraints(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let all = &question.spec.placement.constraints;
    let broken = all.iter().find(|one| !one.holds(node))?;
    Some(format!("outside of `{broken}`"))
}

fn platform(node: &Node) -> Option<Reason> {
    let os = &node.description.os;
    (!os.is_empty() && os != "linux").then(|| format!("running {os}"))
}

/// The volumes that a service mounts.
pub(in crate::core) fn mounted<'a>(
    state: &'a State,
    stack: &'a str,
    spec: &'a ServiceSpec,
) -> impl Iterator<Item = &'a Volume> + 'a {
    let mounts = spec.container.mounts.iter();
    mounts.filter_map(move |mount| Some(&*state.volume_of(stack, &mount.source)?.object))
}

/// A service with one replica goes to its data: never a silent start with an empty volume.
fn volumes(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let Question { state, service, spec, .. } = question;
    let alone = match spec.mode {
        ServiceMode::Replicated { replicas } => replicas == 1,
        ServiceMode::ReplicatedJob { total, max_concurrent } => total.min(max_concurrent) == 1,
        ServiceMode::Global | ServiceMode::GlobalJob => false,
    };
    for volume in mounted(state, &service.stack, spec) {
        if volume.removing {
            return Some(format!("still removing volume {}", volume.name));
        }
        if !alone || volume.holdings.is_empty() || volume.holdings.contains_key(&node.id) {
            continue;
        }
        let holders = volume.holdings.keys().filter_map(|id| state.nodes.get(id));
        let lost = holders.clone().all(|holder| holder.status == NodeStatus::Down);
        if lost && spec.volume_node_lost == VolumeNodeLost::StartEmpty {
            continue;
        }
        let names = holders.map(|holder| match holder.status {
            NodeStatus::Down => format!("{} (down)", holder.description.hostname),
            _ => holder.description.hostname.clone(),
        });
        let names = names.collect::<Vec<_>>().join(", ");
        return Some(format!("without volume {}, which is on {names}", volume.name));
    }
    None
}

fn reservations(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    given(question, node).err().map(|lack| lack.to_string())
}

/// What a node gives a task of its generic resources, when everything that the task reserves is free there.
pub(super) fn given(question: &Question<'_, '_>, node: &Node) -> Result<GenericResources, Lack> {
    let reserved = question.placed.reserved(question.state, node.id);
    reserved.give(&node.description, &question.spec.container.resources)
}

fn host_ports(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let ports = question.spec.ports.iter().filter(|port| port.mode == PortMode::Host);
    for port in ports.filter(|_| !question.is_one_off) {
        let Some(number) = port.published else { continue };
        let key = (node.id, port.protocol, number);
        let used = question.state.index.host_ports.contains_key(&key)
            || question.placed.uses_port(node.id, port.protocol, number);
        if used {
            return Some(format!("with port {number}/{} in use by a task", port.protocol));
        }
        let listener = node
            .description
            .listeners
            .iter()
            .find(|listener| listener.protocol == port.protocol && listener.port == number);
        if let Some(listener) = listener {
            let owner = &listener.owner;
            return Some(format!("with port {number}/{} in use by {owner}", port.protocol));
        }
    }
    None
}

fn most_replicas(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let most = question.spec.placement.max_replicas_per_node?;
    let has = question.placed.of_service(question.state, question.service.id, node.id);
    (has >= most).then(|| format!("at the service's limit for one node ({most})"))
}

/// Why no node can run a task: each reason with the number of nodes it holds for.
pub(super) fn explain(reasons: &[(NodeId, Reason)], state: &State) -> String {
    let mut counted: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for (node, reason) in reasons {
        counted.entry(reason).or_default().push(*node);
    }
    if counted.is_empty() {
        return "no suitable node: the cluster has no nodes".to_owned();
    }
    let mut text = "no suitable node: ".to_owned();
    for (position, (reason, nodes)) in counted.iter().enumerate() {
        let separator = if position == 0 { "" } else { "; " };
        let name = match nodes.as_slice() {
            [one] => {
                let node = state.nodes.get(one);
                node.map_or_else(String::new, |node| node.description.hostname.clone())
            }
            many => format!("{} nodes", many.len()),
        };
        let verb = if nodes.len() == 1 { "is" } else { "are" };
        let _ = write!(text, "{separator}{name} {verb} {reason}");
    }
    text
}
