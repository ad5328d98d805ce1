//! Gives a global service one slot on each node that may run it.

use std::collections::BTreeSet;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NodeId, Slot, Timestamp};
use swarm_proto::object::{Availability, Node, NodeStatus, Service};

use super::slot::{Next, SlotView, next_task, next_version, slots, stop};
use super::{Observed, Plan};
use crate::core::state::State;

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
    let eligible = state.nodes.values().filter(|node| is_eligible(service, node));
    let wanted: BTreeSet<NodeId> = eligible.map(|node| node.id).collect();
    let slots = slots(state, service);
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    for node in &wanted {
        let slot = Slot::Node(*node);
        let view = slots.get(&slot);
        let takes_new =
            state.nodes.get(node).is_some_and(|node| node.availability == Availability::Active);
        if !view.is_some_and(SlotView::is_active) && takes_new {
            let next = Next {
                held: view.is_some_and(SlotView::is_alive),
                ..Next::of_version(next_version(state, service, view))
            };
            plan.add(state, &read, vec![next_task(state, service, slot, next, now)]);
        }
    }
    for (slot, view) in &slots {
        let unwanted = match slot {
            Slot::Node(node) => !wanted.contains(node),
            Slot::Replica(_) => true,
            Slot::OneOff(_) => false,
        };
        if unwanted && view.wanted().next().is_some() {
            plan.add(state, &read, stop(view));
        }
    }
}

/// Whether a node keeps the service's task. A paused node keeps what it has and gets nothing new.
fn is_eligible(service: &Service, node: &Node) -> bool {
    node.status == NodeStatus::Ready
        && node.availability != Availability::Drain
        && service.spec.placement.allows(node)
}
