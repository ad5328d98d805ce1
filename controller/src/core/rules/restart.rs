//! Replaces tasks that ended by themselves, as their restart policy says, and lets held tasks start in time.

use std::collections::BTreeSet;
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Service, Task, TaskState};
use swarm_proto::spec::{RestartCondition, RestartPolicy};

use super::slot::{Next, SlotView, next_task, stop_task, successor_version, view_of};
use super::update::switch::switching;
use super::{Observed, Plan, update};
use crate::core::state::{SlotHistory, State, Stored, ids_of};

/// The delay between failures doubles up to this, or to the policy's own delay if that is longer.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// What is doubled when the policy has no delay.
const SHORTEST_DELAY: Duration = Duration::from_millis(100);

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
        // Each slot once, though several of its tasks may be over.
        let due = state.index.due.range(ids_of(*id)).map(|task| task.slot);
        let due: BTreeSet<Slot> = due.collect();
        for slot in due {
            let view = view_of(state, *id, slot);
            for side in view.sides() {
                let Some(newest) = side.newest().filter(|_| side.is_active()) else { continue };
                if newest.standby && switching(service).is_none() {
                    // It is dropped.
                    continue;
                }
                if newest.status.state.is_terminal() {
                    replace(state, service, newest, (&view, &side), now, &mut plan);
                } else if newest.desired == TaskState::Ready {
                    release(state, service, newest, &view, now, &mut plan);
                }
            }
        }
    }
    plan
}

/// Makes the next task of a slot, or of a side of it, whose task ended by itself, unless the policy says that it was the
/// last.
fn replace(
    state: &State,
    service: &Service,
    ended: &Stored<Task>,
    (view, side): (&SlotView<'_>, &SlotView<'_>),
    now: Timestamp,
    plan: &mut Plan,
) {
    let slot = ended.id.slot;
    let history = state.history((service.id, slot));
    let policy = &service.spec.restart;
    let read = read_of(service, ended);
    if is_begun_in_vain(service, ended, view) {
        return plan.add(state, &read, vec![stop_task(ended)]);
    }
    // What the update exchanges anyway is left to it.
    let version = successor_version(state, service, side);
    let is_apart = switching(service).is_some();
    let leaves = update::leaves_slots(service) && !is_apart;
    let is_exchanged = version != ended.spec_version && !leaves;
    if is_exchanged || !may_restart(policy, ended, &history, now) {
        return;
    }
    let start_after = ended_at(ended, &history).after(delay(policy, history.failures));
    let left = if is_apart { side } else { view };
    let held = view.is_taken(service, ended.standby, version) || left.is_alive();
    let start_after = (start_after > now).then_some(start_after);
    let next = Next { start_after, held, standby: ended.standby, ..Next::of_version(version) };
    let next = next_task(state, service, slot, next, now);
    plan.add(state, &read, vec![stop_task(ended), next]);
}

/// What a successor, or that there is none, depends on.
fn read_of(service: &Service, task: &Task) -> [(ObjectId, Counter); 2] {
    [(ObjectId::Service(service.id), Counter::Spec), (ObjectId::Task(task.id), Counter::Desired)]
}

/// Whether a task was begun beside another of its slot, by a policy that lets successors start first, and that is not the
/// policy any more. The older one is the slot's task then: whatever is to become of it begins anew.
fn is_begun_in_vain(service: &Service, newest: &Task, view: &SlotView<'_>) -> bool {
    let overlaps = service.update_policy().order.overlaps() || switching(service).is_some();
    let stays =
        |task: &Task| task.id != newest.id && !task.standby && !task.status.state.is_terminal();
    !overlaps && view.wanted().any(|task| stays(task))
}

/// When the run ended, in cluster time.
pub(super) fn ended_at(ended: &Task, history: &SlotHistory) -> Timestamp {
    history.recent.last().copied().unwrap_or(ended.status.since)
}

pub(super) fn may_restart(
    policy: &RestartPolicy,
    ended: &Task,
    history: &SlotHistory,
    now: Timestamp,
) -> bool {
    let wanted = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => ended.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    let within_window = |at: &&Timestamp| now.since(**at) <= policy.window;
    let attempts = if policy.window.is_zero() {
        history.ended as usize
    } else {
        history.recent.iter().filter(within_window).count()
    };
    wanted && policy.max_attempts.is_none_or(|most| attempts <= most as usize)
}

/// The delay before a restart: it doubles after each failure in a row, also from nothing.
pub(super) fn delay(policy: &RestartPolicy, failures: u32) -> Duration {
    let base = if failures > 1 { policy.delay.max(SHORTEST_DELAY) } else { policy.delay };
    let doubled = 1_u32 << failures.saturating_sub(1).min(16);
    base.saturating_mul(doubled).min(LONGEST_DELAY.max(policy.delay))
}

/// Lets a held task start once its time has come and its predecessor is over.
pub(super) fn release(
    state: &State,
    service: &Service,
    held: &Stored<Task>,
    view: &SlotView<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    if is_begun_in_vain(service, held, view) {
        return plan.add(state, &read_of(service, held), vec![stop_task(held)]);
    }
    // One that shall run is left of an overlap, and stops once this one runs.
    if view.is_taken(service, held.standby, held.spec_version) {
        return;
    }
    if let Some(at) = held.start_after.filter(|at| *at > now) {
        return plan.wake(at);
    }
    let read = [(ObjectId::Task(held.id), Counter::Desired)];
    let desired = TaskState::Running;
    plan.add(state, &read, vec![Action::SetTaskDesired { task: held.id, desired }]);
}
