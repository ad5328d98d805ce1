//! Makes as many slots as a replicated service asks for, and stops those that are too many.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, Timestamp};
use swarm_proto::object::Service;
use swarm_proto::spec::ServiceMode;

use super::slot::{SlotView, active, first_of, next_task, stop, view_of};
use super::update::canary::{self, Shares};
use super::{Observed, Plan};
use crate::core::state::State;

/// New tasks in one pass: more come with the next.
const NEW_TASKS: usize = 500;
/// Slots that are stopped in one pass.
const STOPPED: usize = 500;

/// What may still be done in a pass, for all services together.
struct Budget {
    new: usize,
    stopped: usize,
}

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut budget = Budget { new: NEW_TASKS, stopped: STOPPED };
    for id in &state.index.unsettled {
        let Some(service) = state.services.get(id).filter(|service| !service.removing) else {
            continue;
        };
        let ServiceMode::Replicated { replicas } = service.spec.mode else { continue };
        if budget.has_room(state, *id, replicas) {
            replicate(state, service, replicas, now, &mut budget, &mut plan);
        }
    }
    plan
}

impl Budget {
    /// Whether a service has too few or too many slots, and something may be done about it: else nobody goes through them.
    fn has_room(&self, state: &State, service: ServiceId, replicas: u32) -> bool {
        let used = state.index.counts.get(&service).map_or(0, |counts| counts.used);
        match used.cmp(&replicas) {
            Ordering::Less => self.new > 0,
            Ordering::Greater => self.stopped > 0,
            Ordering::Equal => has_slots_of_nodes(state, service),
        }
    }
}

/// Whether a service has slots that are left from when it was global.
fn has_slots_of_nodes(state: &State, service: ServiceId) -> bool {
    let of_node = |node| (service, Slot::Node(NodeId(node)));
    state.index.slots.range(of_node(0)..=of_node(u64::MAX)).next().is_some()
}

fn replicate(
    state: &State,
    service: &Service,
    replicas: u32,
    now: Timestamp,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    let (mut used, mut left) = (Vec::new(), Vec::new());
    for slot in active(state, service.id) {
        if let Slot::Replica(number) = slot {
            used.push(number);
        } else {
            left.push(slot);
        }
    }
    // Slots of nodes are left from when the service was global.
    for slot in left {
        plan.add(state, &read, stop(&view_of(state, service.id, slot)));
    }
    let wanted = replicas as usize;
    if used.len() < wanted {
        let mut shares = Shares::new(state, service, wanted);
        let missing = (wanted - used.len()).min(budget.new);
        budget.new -= missing;
        for slot in free(&used).take(missing).map(Slot::Replica) {
            let view = view_of(state, service.id, slot);
            let next = first_of(service, &view, shares.next(&view));
            plan.add(state, &read, vec![next_task(state, service, slot, next, now)]);
        }
    } else if used.len() > wanted {
        let surplus = (used.len() - wanted).min(budget.stopped);
        budget.stopped -= surplus;
        for view in worst(state, service, &used, wanted, surplus) {
            plan.add(state, &read, stop(&view));
        }
    }
}

/// Numbers of slots that are not `used`, lowest first.
fn free(used: &[u32]) -> impl Iterator<Item = u32> + '_ {
    let mut used = used.iter().copied().peekable();
    (1..).filter(move |number| used.next_if_eq(number).is_none())
}

/// What makes a slot the first to stop; more is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_idle: bool,
    /// Of a canary and the rest, it belongs to what is more than its share.
    exceeds: bool,
    /// Tasks of the service on its node.
    crowd: usize,
    number: u32,
    is_new: bool,
    node: Option<NodeId>,
}

/// So many slots that are the first to stop: those that do not run, then, of a canary and the rest, what is more than its
/// share, then those on the nodes with the most tasks of the service, then those with the highest numbers.
fn worst<'a>(
    state: &'a State,
    service: &Service,
    used: &[u32],
    wanted: usize,
    count: usize,
) -> Vec<SlotView<'a>> {
    let mut crowds: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    let (mut new, mut old) = (0, 0);
    let mut slots = Vec::new();
    for number in used {
        let view = view_of(state, service.id, Slot::Replica(*number));
        let node = view.newest().and_then(|task| task.node);
        let is_new = view.has_version(service.spec_version);
        *if is_new { &mut new } else { &mut old } += 1;
        *crowds.entry(node).or_default() += 1;
        let (is_idle, number) = (!view.serves(state), *number);
        slots.push(Rank { is_idle, exceeds: true, crowd: used.len(), number, is_new, node });
    }
    let bound = canary::bound(service, wanted);
    let mut heap = BinaryHeap::from(slots);
    let mut chosen = Vec::new();
    while chosen.len() < count
        && let Some(top) = heap.pop()
    {
        let exceeds = match bound {
            Some(bound) if top.is_new => new > bound,
            Some(bound) => old > wanted.saturating_sub(bound),
            None => false,
        };
        let crowd = crowds.get(&top.node).copied().unwrap_or(0);
        let now = Rank { exceeds, crowd, ..top };
        if now < top {
            // As more are chosen, the others only become better.
            heap.push(now);
            continue;
        }
        *if top.is_new { &mut new } else { &mut old } -= 1;
        crowds.insert(top.node, crowd.saturating_sub(1));
        chosen.push(view_of(state, service.id, Slot::Replica(top.number)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_numbers_fill_the_gaps_first() {
        let free = |used: &[u32]| free(used).take(3).collect::<Vec<_>>();
        assert_eq!(free(&[]), [1, 2, 3]);
        assert_eq!(free(&[1, 2, 4, 6]), [3, 5, 7]);
        assert_eq!(free(&[2]), [1, 3, 4]);
    }
}
