//! Makes as many slots as a replicated service asks for, and stops those that are too many.

use std::collections::BTreeMap;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NodeId, Slot, Timestamp};
use swarm_proto::object::Service;
use swarm_proto::spec::ServiceMode;

use super::slot::{Next, SlotView, first_version, next_task, next_version, slots, stop};
use super::{Observed, Plan};
use crate::core::state::State;

/// New tasks in one pass: more come with the next.
const NEW_TASKS: usize = 500;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.unsettled {
        let Some(service) = state.services.get(id).filter(|service| !service.removing) else {
            continue;
        };
        if let ServiceMode::Replicated { replicas } = service.spec.mode {
            replicate(state, service, replicas, now, &mut plan);
        }
    }
    plan
}

fn replicate(state: &State, service: &Service, replicas: u32, now: Timestamp, plan: &mut Plan) {
    let slots = slots(state, service);
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    // Slots of nodes are left from when the service was global.
    for (slot, view) in &slots {
        if matches!(slot, Slot::Node(_)) && view.wanted().next().is_some() {
            plan.add(state, &read, stop(view));
        }
    }
    let is_active = |(slot, view): &(&Slot, &SlotView<'_>)| {
        matches!(slot, Slot::Replica(_)) && view.is_active()
    };
    let active: BTreeMap<Slot, &SlotView<'_>> =
        slots.iter().filter(is_active).map(|(slot, view)| (*slot, view)).collect();
    let wanted = replicas as usize;
    if active.len() < wanted {
        let free = (1..).map(Slot::Replica).filter(|slot| !active.contains_key(slot));
        let missing = (wanted - active.len()).min(NEW_TASKS);
        for slot in free.take(missing) {
            let view = slots.get(&slot);
            let version = match view {
                Some(_) => next_version(state, service, view),
                None => first_version(state, service, &slots),
            };
            let held = view.is_some_and(SlotView::is_alive);
            let next = Next { held, ..Next::of_version(version) };
            plan.add(state, &read, vec![next_task(state, service, slot, next, now)]);
        }
    }
    for slot in surplus(state, &active, wanted) {
        if let Some(view) = active.get(&slot) {
            plan.add(state, &read, stop(view));
        }
    }
}

/// Which slots are too many: first those that do not run, then those on the nodes with the most tasks of the service,
/// then those with the highest numbers.
fn surplus(state: &State, active: &BTreeMap<Slot, &SlotView<'_>>, wanted: usize) -> Vec<Slot> {
    let mut on_node: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    let mut left: BTreeMap<Slot, (bool, Option<NodeId>)> = BTreeMap::new();
    for (slot, view) in active {
        let newest = view.newest();
        let node = newest.and_then(|task| task.node);
        *on_node.entry(node).or_default() += 1;
        left.insert(*slot, (view.serves(state), node));
    }
    let mut chosen = Vec::new();
    while left.len() > wanted {
        let crowd = |node: &Option<NodeId>| on_node.get(node).copied().unwrap_or(0);
        let worst = left.iter().max_by_key(|(slot, (runs, node))| (!runs, crowd(node), **slot));
        let Some((slot, node)) = worst.map(|(slot, (_, node))| (*slot, *node)) else { break };
        left.remove(&slot);
        *on_node.entry(node).or_default() -= 1;
        chosen.push(slot);
    }
    chosen
}
