//! Writes of services' updates, and what is counted for them.

use std::sync::Arc;

use swarm_proto::entry::Action;
use swarm_proto::id::{ServiceId, TaskId};
use swarm_proto::object::{Switch, Task, TaskState, TaskStatus, UpdateStatus};
use swarm_proto::spec::RestartCondition;

use super::{Event, State, Stored, is_one_off, is_unfinished, tasks_of};

impl State {
    pub(super) fn act_update(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::SetUpdate { service, update } => {
                self.services.get(service)?;
                self.write_update(*service, update.as_ref().clone(), events);
                Some(())
            }
            Action::CountUpdateFailure(task) => self.count_failure(*task, events),
            _ => None,
        }
    }

    /// Counts a task's slot as one where its service's update failed, once in each update.
    fn count_failure(&mut self, id: TaskId, events: &mut Vec<Event>) -> Option<()> {
        let update = self.update_of(self.tasks.get(&id)?)?.clone();
        let slot = (id.service, id.slot);
        let mut history = self.history(slot);
        if history.failed_update == update.number {
            return None;
        }
        history.failed_update = update.number;
        self.slots.insert(slot, history);
        let failures = update.failures.saturating_add(1);
        let update = UpdateStatus { failures, failed: Some(id), ..update };
        self.write_update(id.service, update, events);
        Some(())
    }

    /// The update that a task belongs to, while it has neither ended nor stopped.
    fn update_of(&self, task: &Task) -> Option<&UpdateStatus> {
        let service = self.services.get(&task.id.service)?;
        let update = service.update.as_ref().filter(|update| update.state.is_open())?;
        (task.spec_version == service.spec_version).then_some(update)
    }

    /// A run that ends by itself before it began, or soon after, has failed. One that completed has, too, unless its
    /// service's tasks may complete.
    pub(super) fn note_failure_of_update(
        &mut self,
        task: &Task,
        end: &TaskStatus,
        events: &mut Vec<Event>,
    ) {
        let Some(service) = self.services.get(&task.id.service) else { return };
        let may_complete = service.spec.restart.condition != RestartCondition::Any;
        if self.update_of(task).is_none() || may_complete && end.state == TaskState::Complete {
            return;
        }
        let ran_since = match task.status.state {
            TaskState::Running => Some(task.status.since),
            _ => end.started_at.or(task.status.started_at),
        };
        let monitor = service.update_policy().monitor;
        // Tasks that clients are led to at once are watched until the old ones are not there to go back to.
        let is_watched =
            |update: &UpdateStatus| update.switch != Switch::None && !update.state.is_rollback();
        let is_watched = service.update.as_ref().is_some_and(is_watched);
        if is_watched || ran_since.is_none_or(|since| end.since.since(since) <= monitor) {
            self.count_failure(task.id, events);
        }
    }

    /// Remembers when the last task of an update came to run.
    pub(super) fn note_run_of_update(&mut self, task: &Task) {
        let Some(update) = self.update_of(task) else { return };
        if update.ran_at == Some(self.clock) {
            return;
        }
        let update = UpdateStatus { ran_at: Some(self.clock), ..update.clone() };
        if let Some(service) = self.services.get_mut(&task.id.service) {
            Arc::make_mut(&mut service.object).update = Some(update);
        }
    }

    /// Puts an update in place of the one before. Nodes need not hear of it.
    fn write_update(&mut self, id: ServiceId, update: UpdateStatus, events: &mut Vec<Event>) {
        let Some(service) = self.services.get_mut(&id) else { return };
        let before = service.update.as_ref().map(|update| update.switch);
        let switches = before == Some(Switch::Due) && matches!(update.switch, Switch::Done(_));
        Arc::make_mut(&mut service.object).update = Some(update);
        service.versions.desired += 1;
        let (object, desired) = (service.object.clone(), service.versions.desired);
        self.judge(id);
        self.mix(id.0);
        self.mix(desired);
        events.push(Event::Service(object));
        if switches {
            self.switch_tasks(id, events);
        }
    }

    /// Leads clients to all tasks of the spec in force and to no other, at once.
    fn switch_tasks(&mut self, id: ServiceId, events: &mut Vec<Event>) {
        let Some(version) = self.services.get(&id).map(|service| service.spec_version) else {
            return;
        };
        let stands_by = |task: &Task| task.spec_version != version;
        // Also those that are to end: their successors wait for them by this.
        let is_other = |task: &&Stored<Task>| {
            is_unfinished(task) && !is_one_off(task) && task.standby != stands_by(task)
        };
        let others: Vec<Stored<Task>> = tasks_of(self, id).filter(is_other).cloned().collect();
        for mut task in others {
            let standby = stands_by(&task);
            Arc::make_mut(&mut task.object).standby = standby;
            task.versions.desired += 1;
            self.put_task(task, events);
        }
    }
}
