//! Blue-green: all new tasks are started beside the old ones and stand by, unknown to clients. Once all run and were
//! watched, clients are led from all old ones to all new ones in one entry of the log. The old ones stand by then, so
//! that a rollback is the same switch back, and are stopped at last.
//!
//! The promise: no switch leaves fewer slots serving than before it, those not counted in which the update has failed and
//! may.

use std::collections::BTreeSet;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{
    NodeStatus, Service, Switch, Task, TaskState, UpdateState, UpdateStatus,
};

use super::Rollout;
use crate::core::rules::Plan;
use crate::core::rules::dependency::is_updated_later;
use crate::core::rules::slot::{Next, SlotView, can_run, next_task, stop_task};
use crate::core::state::{State, Stored, is_one_off, tasks_of};

/// New tasks in one pass: more come with the next.
const NEW_TASKS: usize = 500;

/// The update of a service that leads clients over at once, until it has ended.
pub(in crate::core::rules) fn switching(service: &Service) -> Option<&UpdateStatus> {
    let update = service.update.as_ref()?;
    let goes_on = update.state.is_open() || update.state.is_paused();
    Some(update).filter(|update| goes_on && update.switch != Switch::None)
}

/// Whether a new task of a spec version is kept from clients: before a switch those of the new spec are, after it the
/// others.
pub(in crate::core::rules) fn stands_by(service: &Service, version: u64) -> bool {
    let is_new = version == service.spec_version;
    match switching(service).map(|update| update.switch) {
        Some(Switch::Due) => is_new,
        Some(Switch::Done(_)) => !is_new,
        Some(Switch::None) | None => false,
    }
}

/// A slot as both specs have it.
struct Sides<'a> {
    slot: Slot,
    view: &'a SlotView<'a>,
    /// The newest task of the new spec that shall run.
    new: Option<&'a Stored<Task>>,
    /// The newest task of another spec that shall run and is not given up for another update.
    old: Option<&'a Stored<Task>>,
}

impl Sides<'_> {
    /// Whether some task of the slot is for clients, or shall be once it runs.
    fn is_served(&self) -> bool {
        self.view.wanted().any(|task| !task.standby)
    }
}

/// Whether clients could be led to a task, as far as is known.
fn is_sound(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.nodes.get(&node));
    task.status.state == TaskState::Running
        && !task.status.is_unhealthy()
        && node.is_some_and(|node| node.status != NodeStatus::Down)
}

/// Whether a version is not that of the spec in force, and tasks of it could be made.
fn is_older(state: &State, service: &Service, version: u64) -> bool {
    version != service.spec_version && can_run(state, service, version)
}

/// What clients meet until they are led over.
pub(in crate::core::rules) struct Met<'a> {
    state: &'a State,
    service: &'a Service,
    /// Spec versions of what serves, or shall once it runs.
    versions: BTreeSet<u64>,
}

impl<'a> Met<'a> {
    pub(in crate::core::rules) fn of(state: &'a State, service: &'a Service) -> Self {
        let serves = |task: &&Stored<Task>| {
            task.desired <= TaskState::Running && !task.standby && !is_one_off(task)
        };
        let serving = tasks_of(state, service.id).filter(serves);
        Self { state, service, versions: serving.map(|task| task.spec_version).collect() }
    }

    /// Whether clients meet nothing but the spec in force already: it was brought back while they still did.
    fn is_new_alone(&self) -> bool {
        self.versions.iter().eq([&self.service.spec_version])
    }

    /// The older spec version for a slot in which nothing serves: what clients meet in others, if there is such, for what
    /// was in this one may only have stood by; else the last good one, or the newest that can run. None where they meet
    /// the new one alone.
    pub(in crate::core::rules) fn version_for(&self, view: &SlotView<'_>) -> Option<u64> {
        if self.is_new_alone() {
            return None;
        }
        let id = self.service.id;
        let own = view.tasks.iter().rev().map(|task| task.spec_version);
        let met = own.filter(|own| self.versions.contains(own));
        let met = met.chain(self.versions.iter().rev().copied());
        let all = self.state.specs.range((id, 0)..=(id, u64::MAX)).rev();
        let all = all.map(|((_, version), _)| *version);
        let mut older = met.chain([self.service.previous_version]).chain(all);
        older.find(|version| is_older(self.state, self.service, *version))
    }
}

impl<'a> Rollout<'a> {
    fn is_new(&self, task: &Task) -> bool {
        task.spec_version == self.service.spec_version
    }

    fn sides(&self) -> Vec<Sides<'a>> {
        let is_kept = |task: &Task| task.standby == stands_by(self.service, task.spec_version);
        let sides = |(slot, view, _): &(Slot, &'a SlotView<'a>, &'a Stored<Task>)| Sides {
            slot: *slot,
            view,
            new: view.wanted().filter(|task| self.is_new(task)).last(),
            old: view.wanted().filter(|task| !self.is_new(task) && is_kept(task)).last(),
        };
        self.active.iter().map(sides).collect()
    }

    /// Plans a blue-green update's next steps.
    pub(super) fn plan_switch(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        let sides = self.sides();
        self.finish_moves(plan);
        match update.switch {
            Switch::None => {}
            Switch::Due => self.before(&sides, update, now, plan),
            Switch::Done(at) => self.after(&sides, update, at, now, plan),
        }
    }

    fn before(&self, sides: &[Sides<'a>], update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        // What a newer spec has taken the place of.
        self.stop_all(plan, &[Counter::Spec], |task| task.standby && !self.is_new(task));
        let met = Met::of(self.state, self.service);
        if met.is_new_alone() {
            // There is nothing to lead clients away from.
            return self.switch(update, now, plan);
        }
        self.keep_serving(&met, sides, now, plan);
        if update.state.is_paused() {
            return;
        }
        if self.fails(update, now, plan) {
            // Clients never knew of them.
            return self.stop_all(plan, &[Counter::Spec], |task| task.standby && self.is_new(task));
        }
        if update.state == UpdateState::RollbackStarted && self.is_as_good(sides) {
            return self.switch(update, now, plan);
        }
        if self.count_late_sides(sides, update, now, plan)
            || is_updated_later(self.state, self.service)
        {
            return;
        }
        self.start_new(sides, now, plan);
        if !self.is_whole(sides) {
            return;
        }
        if !sides.is_empty() && !sides.iter().any(|one| self.has_come(one)) {
            return self.give_up(update, now, plan);
        }
        let monitor = self.service.update_policy().monitor;
        match update.ran_at.map(|last| last.after(monitor)).filter(|at| *at > now) {
            Some(at) => plan.wake(at),
            None => self.switch(update, now, plan),
        }
    }

    fn after(
        &self,
        sides: &[Sides<'a>],
        update: &UpdateStatus,
        at: Timestamp,
        now: Timestamp,
        plan: &mut Plan,
    ) {
        self.start_new(sides, now, plan);
        let policy = self.service.update_policy();
        let watched = at.after(policy.monitor);
        let until = at.after(policy.hold).max(watched);
        let holds = until > now && !update.promoted && !update.state.is_rollback();
        if holds || update.state == UpdateState::Paused {
            self.keep_standby(sides, now, plan);
        }
        if update.state.is_paused()
            || self.fails(update, now, plan)
            || self.count_late_sides(sides, update, now, plan)
        {
            return;
        }
        if watched > now {
            return plan.wake(watched);
        }
        if holds {
            plan.wake(until);
            if update.state == UpdateState::Updating {
                let name = self.service.name();
                let message = format!("old tasks stand by until `swarmctl promote {name}`");
                self.set(update.finish(UpdateState::Held, message, now), plan);
            }
        } else if self.is_whole(sides) {
            self.leave_old(update, now, plan);
        }
    }

    /// Ends an update whose old tasks need not stand by any more, once they are told to stop.
    fn leave_old(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        let is_old = |task: &Task| !self.is_new(task);
        if self.active.iter().any(|(_, view, _)| view.wanted().any(|task| is_old(task))) {
            return self.stop_all(plan, &[Counter::Spec, Counter::Desired], is_old);
        }
        // What it said of the hold is over.
        let said = if update.state == UpdateState::Held { "" } else { &update.message };
        self.end(&UpdateStatus { message: said.to_owned(), ..update.clone() }, now, plan);
    }

    fn switch(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        self.set(UpdateStatus { switch: Switch::Done(now), ..update.clone() }, plan);
    }

    /// Whether a slot's new task has come as far as it should.
    fn has_come(&self, sides: &Sides<'_>) -> bool {
        let is_over = |task: &Task| task.status.state.is_terminal() && self.is_satisfied(task);
        sides.new.is_some_and(|task| is_sound(self.state, task) || is_over(task))
    }

    /// Whether that is so of all slots in which the update has not failed.
    fn is_whole(&self, sides: &[Sides<'_>]) -> bool {
        let is_done = |one: &Sides<'_>| self.has_come(one) || self.has_failed(one.slot);
        sides.len() == self.wanted() && sides.iter().all(is_done)
    }

    /// Whether as many slots would serve after a switch as do now.
    fn is_as_good(&self, sides: &[Sides<'_>]) -> bool {
        let would = |one: &&Sides<'_>| one.new.is_some_and(|task| is_sound(self.state, task));
        let do_now = sides.iter().filter(|one| one.view.serves(self.state)).count();
        let would = sides.iter().filter(would).count();
        would > 0 && would >= do_now
    }

    /// Stops an update whose tasks have all failed, as its policy allows: clients would find nobody.
    fn give_up(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        let state = match update.state {
            UpdateState::RollbackStarted => UpdateState::RollbackPaused,
            _ => UpdateState::Paused,
        };
        self.set(update.finish(state, "paused: no new task runs".to_owned(), now), plan);
        self.stop_all(plan, &[Counter::Spec], |task| task.standby && self.is_new(task));
    }

    /// Stops all tasks that are like this, if of the service nothing of what is named has changed.
    pub(super) fn stop_all(
        &self,
        plan: &mut Plan,
        counters: &[Counter],
        which: impl Fn(&Task) -> bool,
    ) {
        let wanted = self.active.iter().flat_map(|(_, view, _)| view.wanted());
        for task in wanted.filter(|task| which(task)) {
            let of_service = counters.iter().map(|one| (ObjectId::Service(self.service.id), *one));
            let of_task = (ObjectId::Task(task.id), Counter::Desired);
            let read: Vec<_> = of_service.chain([of_task]).collect();
            plan.add(self.state, &read, vec![stop_task(task)]);
        }
    }

    /// What serves on a node that drains stops once its successor serves.
    fn finish_moves(&self, plan: &mut Plan) {
        for (_, view, _) in &self.active {
            let serving = || view.wanted().filter(|task| !task.standby);
            let newest = serving().last().filter(|task| is_sound(self.state, task));
            let Some(newest) = newest else { continue };
            self.stop_beside(newest, serving(), plan);
        }
    }

    /// Where nothing shall serve in a slot, because its node is gone or drains, a task of an old spec does again.
    fn keep_serving(&self, met: &Met<'_>, sides: &[Sides<'a>], now: Timestamp, plan: &mut Plan) {
        for one in sides.iter().filter(|one| !one.is_served()).take(NEW_TASKS) {
            if let Some(version) = met.version_for(one.view) {
                self.start(one, version, now, plan);
            }
        }
    }

    /// While a rollback would switch back, there is a task for each slot to switch back to.
    fn keep_standby(&self, sides: &[Sides<'a>], now: Timestamp, plan: &mut Plan) {
        let version = self.service.previous_version;
        if self.service.previous.is_none() || !is_older(self.state, self.service, version) {
            return;
        }
        for one in sides.iter().filter(|one| one.old.is_none()).take(NEW_TASKS) {
            self.start(one, version, now, plan);
        }
    }

    fn start_new(&self, sides: &[Sides<'a>], now: Timestamp, plan: &mut Plan) {
        let missing = sides.iter().filter(|one| one.new.is_none());
        for one in missing.take(NEW_TASKS) {
            self.start(one, self.service.spec_version, now, plan);
        }
    }

    fn start(&self, sides: &Sides<'a>, version: u64, now: Timestamp, plan: &mut Plan) {
        let service = self.service;
        let read = [
            (ObjectId::Service(service.id), Counter::Spec),
            (ObjectId::Service(service.id), Counter::Desired),
        ];
        let standby = stands_by(service, version);
        let held = sides.view.is_taken(service, standby, version);
        let next = Next { held, standby, ..Next::of_version(version) };
        plan.add(self.state, &read, vec![next_task(self.state, service, sides.slot, next, now)]);
    }

    /// Counts slots whose new task has not come to run in time.
    fn count_late_sides(
        &self,
        sides: &[Sides<'a>],
        update: &UpdateStatus,
        now: Timestamp,
        plan: &mut Plan,
    ) -> bool {
        let waits = |one: &&Sides<'a>| !self.has_failed(one.slot);
        let new = sides.iter().filter(waits).filter_map(|one| one.new);
        let mut found = false;
        for task in new.filter(|task| !self.is_satisfied(task)) {
            found |= self.count_late_task(task, update, now, plan);
        }
        found
    }
}
