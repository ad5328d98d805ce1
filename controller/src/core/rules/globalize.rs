//! Gives a global service one slot on each node that may run it.

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Availability, Node, NodeStatus, Service};

use super::slot::{active, first_of, next_task, stop, view_of};
use super::update::canary::Shares;
use super::{Observed, Plan};
use crate::core::state::{State, Stored};

/// New tasks in one pass: more come with the next.
const NEW_TASKS: usize = 500;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.global {
        if let Some(service) = state.services.get(id).filter(|service| !service.removing) {
            globalize(state, service, now, &mut plan);
        }
    }
    plan
}

fn globalize(state: &State, service: &Service, now: Timestamp, plan: &mut Plan) {
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    // Nodes and slots come in the same order.
    let mut nodes = state.nodes.values().filter(|node| is_eligible(service, node)).peekable();
    let mut missing = Vec::new();
    for slot in active(state, service.id) {
        let Slot::Node(node) = slot else {
            plan.add(state, &read, stop(&view_of(state, service.id, slot)));
            continue;
        };
        while let Some(before) = nodes.next_if(|next| next.id < node) {
            missing.push(before);
        }
        if nodes.next_if(|next| next.id == node).is_none() {
            plan.add(state, &read, stop(&view_of(state, service.id, slot)));
        }
    }
    missing.extend(nodes);
    if missing.is_empty() {
        return;
    }
    let all = state.nodes.values().filter(|node| is_eligible(service, node)).count();
    let mut shares = Shares::new(state, service, all);
    let takes_new = |node: &&&Stored<Node>| node.availability == Availability::Active;
    for node in missing.iter().filter(takes_new).take(NEW_TASKS) {
        let slot = Slot::Node(node.id);
        let view = view_of(state, service.id, slot);
        let next = first_of(service, &view, shares.next(&view));
        plan.add(state, &read, vec![next_task(state, service, slot, next, now)]);
    }
}

/// Whether a node keeps the service's task. A paused node keeps what it has and gets nothing new.
fn is_eligible(service: &Service, node: &Node) -> bool {
    node.status == NodeStatus::Ready
        && node.availability != Availability::Drain
        && service.spec.placement.allows(node)
}
