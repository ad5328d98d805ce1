//! How far an update is, and what follows from it.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Task, UpdateState, UpdateStatus};
use swarm_proto::spec::UpdateFailureAction;
use swarm_proto::version::ClusterVersion;

use super::Rollout;
use super::spec::roll_back;
use crate::core::rules::Plan;
use crate::core::rules::slot::SlotView;
use crate::core::state::{Stored, is_backend};

impl Rollout<'_> {
    /// Plans what becomes of the update as a whole, and says whether it goes on now.
    pub(super) fn follow(&self, now: Timestamp, plan: &mut Plan) -> bool {
        let Some(update) = &self.service.update else {
            // An older cluster knows of no updates: it stops where one fails.
            return self.state.cluster_version < ClusterVersion(4) || self.begin(0, now, plan);
        };
        if update.state.is_paused() {
            return false;
        }
        if update.state == UpdateState::Held {
            self.hold(update, now, plan);
            return false;
        }
        if !update.state.is_under_way() {
            return self.begin(update.number, now, plan);
        }
        let is_new = |view: &SlotView<'_>| view.wanted().all(|task| !self.is_old(task));
        if update.slots == 0 && self.active.iter().all(|(_, view, _)| is_new(view)) {
            self.end(update, now, plan);
            return false;
        }
        if self.fails(update, now, plan) || self.ends(update, now, plan) {
            return false;
        }
        !self.count_late(update, now, plan)
    }

    /// Begins an update that nobody has begun: the cluster has learnt of them amid one. Never goes on at once.
    fn begin(&self, number: u64, now: Timestamp, plan: &mut Plan) -> bool {
        let old = self.active.iter().filter(|(.., task)| self.is_old(task)).count();
        if old > 0 {
            let slots = u32::try_from(old).unwrap_or(u32::MAX);
            let update = UpdateStatus::begin(number + 1, UpdateState::Updating, slots, now);
            self.set(update, plan);
        }
        false
    }

    pub(super) fn set(&self, update: UpdateStatus, plan: &mut Plan) {
        let id = self.service.id;
        let read =
            [(ObjectId::Service(id), Counter::Spec), (ObjectId::Service(id), Counter::Desired)];
        let update = Action::SetUpdate { service: id, update: Box::new(update) };
        plan.add(self.state, &read, vec![update]);
    }

    /// Stops or rolls back an update in which more tasks failed than may.
    pub(super) fn fails(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) -> bool {
        let policy = self.service.update_policy();
        if policy.failure_action == UpdateFailureAction::Continue
            || !policy.max_failure_ratio.is_exceeded(update.failures, update.slots)
        {
            return false;
        }
        let why = self.why(update);
        let is_rollback = update.state == UpdateState::RollbackStarted;
        if policy.failure_action == UpdateFailureAction::Rollback && !is_rollback {
            match roll_back(self.state, self.service, &format!("update rolled back: {why}"), now) {
                Ok(service) => {
                    let id = ObjectId::Service(self.service.id);
                    let read = [(id.clone(), Counter::Spec), (id, Counter::Desired)];
                    plan.add(self.state, &read, vec![Action::SetService(Box::new(service))]);
                }
                Err(but) => {
                    let message = format!("update paused: {why}; it cannot be rolled back: {but}");
                    self.set(update.finish(UpdateState::Paused, message, now), plan);
                }
            }
            return true;
        }
        let (state, what) = if is_rollback {
            (UpdateState::RollbackPaused, "rollback")
        } else {
            (UpdateState::Paused, "update")
        };
        self.set(update.finish(state, format!("{what} paused: {why}"), now), plan);
        true
    }

    /// The failure that was one too many.
    fn why(&self, update: &UpdateStatus) -> String {
        let Some(id) = update.failed else { return "tasks failed".to_owned() };
        let name = self.state.task_name(id);
        let deadline = self.service.update_policy().progress_deadline.as_secs();
        match self.state.tasks.get(&id) {
            Some(task) if !task.status.state.is_terminal() => {
                let status = &task.status;
                let colon = if status.message.is_empty() { "" } else { ": " };
                format!(
                    "task {name} does not run after {deadline} s ({}{colon}{})",
                    status.state, status.message
                )
            }
            Some(task) if task.status.message.is_empty() => {
                let code = task.status.exit_code.map(|code| format!(" with exit code {code}"));
                let code = code.unwrap_or_default();
                format!("task {name} ended as {}{code}", task.status.state)
            }
            Some(task) => format!("task {name} {}: {}", task.status.state, task.status.message),
            None => format!("task {name} failed"),
        }
    }

    /// Whether an update has come to a slot and is done with it.
    pub(super) fn is_done(
        &self,
        (slot, view, task): &(Slot, &SlotView<'_>, &Stored<Task>),
    ) -> bool {
        let overlaps = view.wanted().any(|other| other.id != task.id && is_backend(other));
        // Where the new task has failed, the old one of an overlap stays.
        !self.is_old(task) && (self.is_satisfied(task) && !overlaps || self.has_failed(*slot))
    }

    /// Ends an update whose slots all run the new spec, or have failed and may, once the last was watched for long
    /// enough; or lets it hold where that is so of its canary.
    fn ends(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) -> bool {
        let holds = self.room() == Some(0);
        let is_left = |one: &(Slot, &SlotView<'_>, &Stored<Task>)| {
            holds && self.is_old(one.2) && !self.is_come_to(one.1)
        };
        let is_done =
            |one: &(Slot, &SlotView<'_>, &Stored<Task>)| is_left(one) || self.is_done(one);
        if self.active.len() != self.wanted() || !self.active.iter().all(is_done) {
            return false;
        }
        let monitor = self.service.update_policy().monitor;
        if let Some(at) = update.ran_at.map(|last| last.after(monitor)).filter(|at| *at > now) {
            plan.wake(at);
            return true;
        }
        if self.active.iter().any(is_left) {
            self.begin_to_hold(update, now, plan);
        } else {
            self.end(update, now, plan);
        }
        true
    }

    pub(super) fn end(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        let state = match update.state {
            UpdateState::RollbackStarted => UpdateState::RollbackCompleted,
            _ => UpdateState::Completed,
        };
        let message = match (update.failures, update.message.as_str()) {
            (0, message) => message.to_owned(),
            (failures, "") => format!("{failures} of {} slots failed", update.slots),
            (failures, message) => {
                format!("{message}; {failures} of {} slots failed", update.slots)
            }
        };
        self.set(update.finish(state, message, now), plan);
    }

    /// Counts slots whose new task has not come to run in time.
    pub(super) fn count_late(
        &self,
        update: &UpdateStatus,
        now: Timestamp,
        plan: &mut Plan,
    ) -> bool {
        let mut found = false;
        for (slot, _, task) in &self.active {
            if self.is_old(task) || self.is_satisfied(task) || self.has_failed(*slot) {
                continue;
            }
            // A canary that ran and ended is replaced: the next one has its own time.
            if update.state == UpdateState::Held && task.status.state.is_terminal() {
                continue;
            }
            found |= self.count_late_task(task, update, now, plan);
        }
        found
    }

    /// Counts a slot whose new task does not run, if its time is over.
    pub(super) fn count_late_task(
        &self,
        task: &Stored<Task>,
        update: &UpdateStatus,
        now: Timestamp,
        plan: &mut Plan,
    ) -> bool {
        let deadline = self.service.update_policy().progress_deadline;
        let at = task.created_at.max(update.started_at).after(deadline);
        if at > now {
            plan.wake(at);
            return false;
        }
        let read = [
            (ObjectId::Task(task.id), Counter::Status),
            (ObjectId::Service(self.service.id), Counter::Spec),
        ];
        plan.add(self.state, &read, vec![Action::CountUpdateFailure(task.id)]);
        true
    }
}
