//! Brings a changed spec in: exchanges the tasks of the older spec, and those on nodes that it no longer allows, some
//! slots at a time and after the services that it depends on; watches what becomes of them, and pauses or rolls back
//! when too many fail.
//!
//! The promise: nothing that runs is stopped while fewer than the replicas less the policy's parallelism run, slots not
//! counted in which this update has failed already and may. With start-first, nothing is stopped before its successor
//! runs.

pub(super) mod canary;
mod progress;
mod spec;
pub(super) mod switch;

use std::collections::BTreeMap;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Availability, Service, Task, TaskState};
use swarm_proto::spec::{RestartCondition, ServiceMode};

use super::dependency::is_updated_later;
use super::moves::is_left;
use super::slot::{Next, SlotView, next_task, serves, slots, stop_task};
use super::{Observed, Plan};
use crate::core::state::{State, Stored, is_backend};
pub(super) use spec::{needs_new_tasks, roll_back_by_hand, supersede, version_of};
use switch::switching;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.unsettled {
        let Some(service) = state.services.get(id).filter(|service| !service.removing) else {
            continue;
        };
        if service.spec.mode.is_job() || is_as_it_should_be(state, service) {
            continue;
        }
        let mut slots = slots(state, service);
        slots.retain(|slot, _| !matches!(slot, Slot::OneOff(_)));
        let rollout = Rollout::of(state, service, &slots);
        if let Some(update) = switching(service) {
            rollout.plan_switch(update, now, &mut plan);
            continue;
        }
        rollout.drop_standby(&mut plan);
        rollout.finish_overlaps(&mut plan);
        if rollout.follow(now, &mut plan) && !is_updated_later(state, service) {
            rollout.exchange(now, &mut plan);
        }
    }
    plan
}

/// Whether no update is under way or holds, and there is no cause for one.
fn is_as_it_should_be(state: &State, service: &Service) -> bool {
    let counts = state.index.counts.get(&service.id).copied().unwrap_or_default();
    let is_open = service.update.as_ref().is_some_and(|update| update.state.is_open());
    !is_open && counts.old == 0 && counts.overlaps == 0
}

/// Whether a service's update leaves slots as they are for now: it stopped, or may go no further than its canary.
pub(super) fn leaves_slots(service: &Service) -> bool {
    let is_paused = service.update.as_ref().is_some_and(|update| update.state.is_paused());
    is_paused || canary::of(service).is_some()
}

/// A service with its slots, as an update looks at them.
struct Rollout<'a> {
    state: &'a State,
    service: &'a Stored<Service>,
    /// Slots in use, each with the task that counts.
    active: Vec<(Slot, &'a SlotView<'a>, &'a Stored<Task>)>,
}

impl<'a> Rollout<'a> {
    fn of(
        state: &'a State,
        service: &'a Stored<Service>,
        slots: &'a BTreeMap<Slot, SlotView<'a>>,
    ) -> Self {
        let active = slots.iter().filter(|(_, view)| view.is_active());
        let counts = |(slot, view): (&Slot, &'a SlotView<'a>)| {
            let task = standing(state, view).or_else(|| view.newest())?;
            Some((*slot, view, task))
        };
        let active = active.filter_map(counts).collect();
        Self { state, service, active }
    }

    fn is_old(&self, task: &Task) -> bool {
        !self.state.is_current(task)
    }

    /// Whether a slot's task has come as far as it should.
    fn is_satisfied(&self, task: &Task) -> bool {
        let may_complete = self.service.spec.restart.condition != RestartCondition::Any;
        match task.status.state {
            TaskState::Running => true,
            TaskState::Complete => may_complete,
            _ => false,
        }
    }

    /// Whether the update under way has failed in a slot.
    fn has_failed(&self, slot: Slot) -> bool {
        let number = self.service.update.as_ref().map(|update| update.number);
        number == Some(self.state.history((self.service.id, slot)).failed_update)
    }

    /// How many slots there should be.
    fn wanted(&self) -> usize {
        match self.service.spec.mode {
            ServiceMode::Replicated { replicas } => replicas as usize,
            _ => self.active.len(),
        }
    }

    /// Nothing stands by where no switch is to come.
    fn drop_standby(&self, plan: &mut Plan) {
        self.stop_all(plan, &[Counter::Spec], |task| task.standby);
    }

    /// With start-first, the old task stops once the new one runs, on a node that is there.
    fn finish_overlaps(&self, plan: &mut Plan) {
        for (_, view, task) in self.active.iter().filter(|(.., task)| serves(self.state, task)) {
            self.stop_beside(task, view.wanted(), plan);
        }
    }

    /// Stops tasks of a slot for its newest one, as long as that is as it was seen.
    fn stop_beside<'t>(
        &self,
        newest: &Task,
        tasks: impl Iterator<Item = &'t Stored<Task>>,
        plan: &mut Plan,
    ) {
        for old in tasks.filter(|old| old.id != newest.id) {
            let read = [(ObjectId::Task(newest.id), Counter::Status)];
            plan.add(self.state, &read, vec![stop_task(old)]);
        }
    }

    fn exchange(&self, now: Timestamp, plan: &mut Plan) {
        let mut old: Vec<_> = self.active.iter().filter(|(.., task)| self.is_old(task)).collect();
        if old.is_empty() {
            return;
        }
        if let Some(at) = self.next_batch().filter(|at| *at > now) {
            return plan.wake(at);
        }
        let bound = self.room();
        // Slots of the canary first, then those of one before it, then what does not run yet anyway: exchanging that costs
        // nothing.
        let order = |task: &Task, view: &SlotView<'_>| {
            let is_good = task.spec_version == self.service.previous_version;
            bound.map(|_| (!self.is_come_to(view), is_good))
        };
        old.sort_by_key(|(slot, view, task)| (order(task, view), view.runs(), *slot));
        let policy = self.service.update_policy();
        let (at_once, mut spare) = match policy.parallelism {
            0 => (usize::MAX, usize::MAX),
            some => (
                (some as usize).saturating_sub(self.under_way()),
                (some as usize).saturating_sub(self.unavailable()),
            ),
        };
        let (mut room, mut left) = (bound.unwrap_or(usize::MAX), at_once);
        for (slot, view, task) in old {
            let is_free = self.is_come_to(view);
            let costs = !policy.order.overlaps() && view.runs();
            if left == 0 || room == 0 && !is_free || costs && spare == 0 {
                continue;
            }
            left -= 1;
            room -= usize::from(!is_free);
            if costs {
                spare -= 1;
            }
            self.exchange_one(*slot, view, task, now, plan);
        }
    }

    /// When the next slots may be exchanged, where the policy has a delay.
    fn next_batch(&self) -> Option<Timestamp> {
        let policy = self.service.update_policy();
        let done = self.active.iter().filter(|(.., task)| !self.is_old(task));
        let last = match &self.service.update {
            Some(update) => update.ran_at,
            None => done.map(|(.., task)| task.status.since).max(),
        };
        last.map(|last| last.after(policy.delay)).filter(|_| !policy.delay.is_zero())
    }

    /// Slots whose new task does not run yet. Where it has failed, nothing is waited for.
    fn under_way(&self) -> usize {
        let waits = |(slot, _, task): &&(Slot, &SlotView<'_>, &Stored<Task>)| {
            !self.is_old(task) && !self.is_satisfied(task) && !self.has_failed(*slot)
        };
        self.active.iter().filter(waits).count()
    }

    /// Slots in which nothing runs, without those in which this update has failed: how many that may be, the policy
    /// says.
    fn unavailable(&self) -> usize {
        let stands = |(slot, view, task): &&(Slot, &SlotView<'_>, &Stored<Task>)| {
            let is_over = task.status.state.is_terminal() && self.is_satisfied(task);
            view.serves(self.state) || is_over || self.has_failed(*slot)
        };
        self.wanted().saturating_sub(self.active.iter().filter(stands).count())
    }

    fn exchange_one(
        &self,
        slot: Slot,
        view: &SlotView<'_>,
        old: &Stored<Task>,
        now: Timestamp,
        plan: &mut Plan,
    ) {
        let service = self.service;
        let read = [
            (ObjectId::Service(service.id), Counter::Spec),
            (ObjectId::Service(service.id), Counter::Desired),
            (ObjectId::Task(old.id), Counter::Desired),
        ];
        let overlap = service.update_policy().order.overlaps() && view.runs();
        let mut actions = Vec::new();
        for task in view.wanted().filter(|task| !overlap || !is_backend(task)) {
            actions.push(stop_task(task));
        }
        let is_left = |task: &Stored<Task>| {
            !task.status.state.is_terminal()
                && task.node.is_some()
                && !(overlap && is_backend(task))
        };
        let held = view.tasks.iter().any(|task| is_left(task));
        let next = Next { held, ..Next::of_version(service.spec_version) };
        actions.push(next_task(self.state, service, slot, next, now));
        plan.add(self.state, &read, actions);
    }
}

/// The slot's task that runs the service's spec, though a later one may have been begun: a rollback goes back to it. Where
/// its node drains, or it is moved, the later one shall take its place.
fn standing<'a>(state: &State, view: &SlotView<'a>) -> Option<&'a Stored<Task>> {
    let drains = |task: &Task| {
        let node = task.node.and_then(|node| state.nodes.get(&node));
        node.is_some_and(|node| node.availability == Availability::Drain)
    };
    let stands = |task: &&&Stored<Task>| {
        state.is_current(task) && is_backend(task) && !drains(task) && !is_left(state, view, task)
    };
    view.tasks.iter().rfind(stands).copied()
}
