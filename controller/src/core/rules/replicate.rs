//! Makes as many slots as a replicated service asks for, and stops those that are too many.

use std::collections::{BTreeMap, BinaryHeap};

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, Timestamp};
use swarm_proto::object::Service;
use swarm_proto::spec::ServiceMode;

use super::slot::{Next, SlotView, active, first_version, next_task, next_version, stop, view_of};
use super::{Observed, Plan};
use crate::core::state::State;

/// New tasks in one pass: more come with the next.
const NEW_TASKS: usize = 500;
/// Slots that are stopped in one pass.
const STOPPED: usize = 500;

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
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    let (mut used, mut left) = (Vec::new(), Vec::new());
    for slot in active(state, service.id) {
        match slot {
            Slot::Replica(number) => used.push(number),
            Slot::Node(_) => left.push(slot),
            Slot::OneOff(_) => {}
        }
    }
    // Slots of nodes are left from when the service was global.
    for slot in left {
        plan.add(state, &read, stop(&view_of(state, service.id, slot)));
    }
    let wanted = replicas as usize;
    if used.len() < wanted {
        let first = first_version(state, service);
        let missing = (wanted - used.len()).min(NEW_TASKS);
        for slot in free(&used).take(missing).map(Slot::Replica) {
            let view = view_of(state, service.id, slot);
            let version = match view.tasks.is_empty() {
                true => first,
                false => next_version(state, service, Some(&view)),
            };
            let next = Next { held: view.is_alive(), ..Next::of_version(version) };
            plan.add(state, &read, vec![next_task(state, service, slot, next, now)]);
        }
    } else if used.len() > wanted {
        let surplus = (used.len() - wanted).min(STOPPED);
        for view in worst(state, service.id, &used, surplus) {
            plan.add(state, &read, stop(&view));
        }
    }
}

/// Numbers of slots that are not `used`, lowest first.
fn free(used: &[u32]) -> impl Iterator<Item = u32> + '_ {
    let mut used = used.iter().copied().peekable();
    (1..).filter(move |number| used.next_if_eq(number).is_none())
}

/// So many slots that are the first to stop: those that do not run, then those on the nodes with the most tasks of the
/// service, then those with the highest numbers.
fn worst<'a>(
    state: &'a State,
    service: ServiceId,
    used: &[u32],
    count: usize,
) -> Vec<SlotView<'a>> {
    let mut on_node: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    let mut slots = Vec::new();
    for number in used {
        let view = view_of(state, service, Slot::Replica(*number));
        let node = view.newest().and_then(|task| task.node);
        *on_node.entry(node).or_default() += 1;
        slots.push((!view.serves(state), *number, node));
    }
    let crowd = |on_node: &BTreeMap<_, usize>, node| on_node.get(&node).copied().unwrap_or(0);
    let ranked =
        slots.into_iter().map(|(idle, number, node)| (idle, crowd(&on_node, node), number, node));
    let mut heap: BinaryHeap<(bool, usize, u32, Option<NodeId>)> = ranked.collect();
    let mut chosen = Vec::new();
    while chosen.len() < count
        && let Some((idle, before, number, node)) = heap.pop()
    {
        let now = crowd(&on_node, node);
        if now < before {
            // Others of that node were chosen meanwhile.
            heap.push((idle, now, number, node));
            continue;
        }
        on_node.insert(node, now.saturating_sub(1));
        chosen.push(view_of(state, service, Slot::Replica(number)));
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
