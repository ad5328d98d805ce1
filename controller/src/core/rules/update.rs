//! Brings a changed spec in: exchanges the tasks of the older spec, and those on nodes that it no longer allows, some
//! slots at a time, after the services that it depends on.

use std::collections::BTreeMap;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Service, Task, TaskState};
use swarm_proto::spec::UpdateOrder;

use super::dependency::is_updated_later;
use super::slot::{SlotView, next_task, slots};
use super::{Observed, Plan};
use crate::core::state::{State, Stored};

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.unsettled {
        let Some(service) = state.services.get(id).filter(|service| !service.removing) else {
            continue;
        };
        if service.spec.mode.is_job() {
            continue;
        }
        let mut slots = slots(state, service);
        slots.retain(|slot, _| !matches!(slot, Slot::OneOff(_)));
        finish_overlaps(state, &slots, &mut plan);
        if is_updated_later(state, service) {
            continue;
        }
        exchange(state, service, &slots, now, &mut plan);
    }
    plan
}

/// With start-first, the old task stops once the new one runs.
fn finish_overlaps(state: &State, slots: &BTreeMap<Slot, SlotView<'_>>, plan: &mut Plan) {
    for view in slots.values() {
        let Some(newest) = view.open() else { continue };
        if newest.status.state != TaskState::Running {
            continue;
        }
        for old in view.predecessors().filter(|old| old.desired <= TaskState::Running) {
            let read = [(ObjectId::Task(newest.id), Counter::Status)];
            let desired = TaskState::Shutdown;
            plan.add(state, &read, vec![Action::SetTaskDesired { task: old.id, desired }]);
        }
    }
}

fn exchange(
    state: &State,
    service: &Service,
    slots: &BTreeMap<Slot, SlotView<'_>>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let active = slots.iter().filter(|(_, view)| view.is_active());
    let newest: Vec<(Slot, &SlotView<'_>, &Stored<Task>)> =
        active.filter_map(|(slot, view)| Some((*slot, view, view.newest()?))).collect();
    let is_old = |task: &Task| !state.is_current(task);
    let mut old: Vec<_> = newest.iter().filter(|(_, _, task)| is_old(task)).collect();
    if old.is_empty() {
        return;
    }
    // What does not run yet anyway goes first: exchanging it costs nothing.
    old.sort_by_key(|(slot, _, task)| (task.status.state == TaskState::Running, *slot));
    let under_way = newest.iter().filter(|(_, _, task)| is_under_way(state, service, task));
    let policy = &service.spec.update;
    let at_once = match policy.parallelism {
        0 => usize::MAX,
        some => (some as usize).saturating_sub(under_way.count()),
    };
    let done = newest.iter().filter(|(_, _, task)| !is_old(task));
    let last = done.map(|(_, _, task)| task.status.since).max();
    let next_batch = last.map(|last| last.after(policy.delay)).filter(|_| !policy.delay.is_zero());
    if let Some(at) = next_batch.filter(|at| *at > now) {
        plan.wake(at);
        return;
    }
    for (slot, view, task) in old.into_iter().take(at_once) {
        exchange_one(state, service, *slot, view, task, now, plan);
    }
}

/// Whether a slot's new task does not run yet, or failed: the rollout goes no further then. New slots do not count.
fn is_under_way(state: &State, service: &Service, newest: &Task) -> bool {
    newest.spec_version == service.spec_version
        && ![1, state.next.generation + 1].contains(&newest.id.generation)
        && !matches!(newest.status.state, TaskState::Running | TaskState::Complete)
}

fn exchange_one(
    state: &State,
    service: &Service,
    slot: Slot,
    view: &SlotView<'_>,
    old: &Stored<Task>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let read = [
        (ObjectId::Service(service.id), Counter::Spec),
        (ObjectId::Task(old.id), Counter::Desired),
    ];
    let overlap = service.spec.update.order == UpdateOrder::StartFirst
        && old.status.state == TaskState::Running;
    let mut actions = Vec::new();
    if !overlap {
        for task in view.wanted() {
            let desired = TaskState::Shutdown;
            actions.push(Action::SetTaskDesired { task: task.id, desired });
        }
    }
    let held = !overlap
        && view.tasks.iter().any(|task| !task.status.state.is_terminal() && task.node.is_some());
    actions.push(next_task(state, service, slot, None, held, now));
    plan.add(state, &read, actions);
}
