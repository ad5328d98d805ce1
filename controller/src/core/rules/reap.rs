//! Forgets: dead tasks beyond the history, tasks that are gone from their nodes, places on networks that a node no
//! longer needs, and addresses that every node has forgotten.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NetworkId, NodeId, TaskId, Timestamp};
use swarm_proto::object::{Network, Node, NodeStatus, Task, TaskState};

use super::{Observed, Plan};
use crate::core::planted::Fault;
use crate::core::state::{State, Stored, is_unfinished};

/// A node that was down for this long has lost its claims: it is fenced off by its own agent's removal of everything
/// on return.
pub(super) const FENCE: Duration = Duration::from_mins(10);

/// See the module.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    trim_histories(state, &mut plan);
    for id in &state.index.removing {
        if let Some(task) = state.tasks.get(id) {
            forget_task(state, observed, task, now, &mut plan);
        }
    }
    release_addresses(state, observed, now, &mut plan);
    plan
}

fn trim_histories(state: &State, plan: &mut Plan) {
    let kept = state.cluster.as_ref().map_or(5, |cluster| cluster.task_history);
    for ((service, slot), _) in state.index.dead.iter().filter(|(_, dead)| **dead > kept) {
        let task = |generation| TaskId { service: *service, slot: *slot, generation };
        let tasks = state.tasks.range(task(0)..=task(u32::MAX)).map(|(_, task)| task);
        let dead: Vec<_> = tasks.filter(|task| !is_unfinished(task)).collect();
        let surplus = dead.len().saturating_sub(kept as usize);
        for task in dead.into_iter().take(surplus) {
            if task.desired < TaskState::Remove {
                let read = [(ObjectId::Task(task.id), Counter::Desired)];
                let desired = TaskState::Remove;
                plan.add(state, &read, vec![Action::SetTaskDesired { task: task.id, desired }]);
            }
        }
    }
}

/// Forgets a task to be removed once its node has, or cannot say so any more.
fn forget_task(
    state: &State,
    observed: &Observed,
    task: &Stored<Task>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let gone = observed.gone_tasks.contains(&task.id);
    let node = task.node.and_then(|id| state.nodes.get(&id));
    let service_goes = state.services.get(&task.id.service).is_none_or(|service| service.removing);
    let forgotten = match node {
        None => true,
        Some(_) if gone => true,
        Some(node) if node.status != NodeStatus::Down => false,
        // Whatever the node still has of it goes when the node returns and is not told of it.
        Some(_) if service_goes || task.status.state != TaskState::Orphaned => {
            task.status.state.is_terminal()
        }
        Some(node) => is_fenced(node, observed, now, plan),
    };
    if forgotten {
        let read = [(ObjectId::Task(task.id), Counter::Desired)];
        plan.add(state, &read, vec![Action::RemoveTask(task.id)]);
    }
}

/// Whether a node was down for so long that it has lost its claims.
fn is_fenced(node: &Node, observed: &Observed, now: Timestamp, plan: &mut Plan) -> bool {
    if observed.planted.has(Fault::ForgetQuarantineOfLostNode) {
        return node.status == NodeStatus::Down;
    }
    let at = node.status_since.after(FENCE);
    if node.status == NodeStatus::Down && at > now {
        plan.wake(at);
    }
    node.status == NodeStatus::Down && at <= now
}

/// Addresses leave quarantine once every node with a place on the network confirmed a version without them.
fn release_addresses(state: &State, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let mut oldest: BTreeMap<NetworkId, u64> = BTreeMap::new();
    let mut released: BTreeMap<NetworkId, Vec<Ipv4Addr>> = BTreeMap::new();
    for ((id, address), since) in &state.quarantine {
        let Some(network) = state.networks.get(id) else { continue };
        let stands = oldest
            .entry(*id)
            .or_insert_with(|| confirmed_by_all(state, network, observed, now, plan));
        if since <= stands || observed.planted.has(Fault::ReuseAddressEarly) {
            released.entry(*id).or_default().push(Ipv4Addr::from(*address));
        }
    }
    for (network, addresses) in released {
        plan.add(state, &[], vec![Action::ReleaseAddresses { network, addresses }]);
    }
}

/// The version of a network that stands on every node that has it.
fn confirmed_by_all(
    state: &State,
    network: &Network,
    observed: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) -> u64 {
    let mut least = u64::MAX;
    for gateway in &network.gateways {
        let Some(node) = state.nodes.get(&gateway.node) else { continue };
        if is_gone(state, observed, network.id, node, now, plan) {
            continue;
        }
        let stands = observed.confirmed.get(&(network.id, node.id)).copied().unwrap_or(0);
        least = least.min(stands);
    }
    least
}

/// Whether a network is gone from a node that does not need it any more.
pub(super) fn is_gone(
    state: &State,
    observed: &Observed,
    network: NetworkId,
    node: &Node,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let unneeded = !state.index.needs(network, node.id);
    (unneeded && observed.gone_networks.contains(&(network, node.id)))
        || is_fenced(node, observed, now, plan)
}

/// Whether a node may lose its place on a network.
pub(super) fn may_leave(
    state: &State,
    observed: &Observed,
    network: &Network,
    node: NodeId,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let Some(node) = state.nodes.get(&node) else { return true };
    let unneeded = !state.index.needs(network.id, node.id);
    let down = node.status == NodeStatus::Down && network.removing;
    unneeded && (down || is_gone(state, observed, network.id, node, now, plan))
}
