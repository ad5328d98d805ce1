//! Writes of tasks.

use std::sync::Arc;

use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::{NodeId, TaskId};
use swarm_proto::object::{
    Attachment, GenericResources, JobRun, Service, Task, TaskState, TaskStatus,
};
use swarm_proto::spec::ServiceSpec;
use swarm_proto::version::ClusterVersion;

use super::index::{self, Holder, Standing, address_key};
use super::{Event, Reserved, State, Stored, Versions};

/// Ends of a slot's runs that are remembered with their times.
const RECENT_ENDS: usize = 100;
/// A run of this many milliseconds ends a row of failures.
const LASTING_RUN: u128 = 60_000;

impl State {
    pub(super) fn act_task(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::AddTask(task) => self.add_task(task, events),
            Action::SetTaskAddresses { task, attachments } => {
                self.set_task_addresses(*task, attachments, events)
            }
            Action::AssignTask { task, node, resources } => {
                self.assign_task(*task, *node, resources, events)
            }
            Action::PreemptTasks { task, node, victims } => {
                self.preempt_tasks(*task, *node, victims, events)
            }
            Action::SetTaskDesired { task, desired } => {
                self.set_task_desired(*task, *desired, events)
            }
            Action::SetTaskStatus { task, status } => self.set_task_status(*task, status, events),
            Action::SetTaskMessage { task, message } => {
                let mut new = self.tasks.get(task)?.clone();
                if new.node.is_some() || new.status.state.is_terminal() {
                    return None;
                }
                Arc::make_mut(&mut new.object).status.message.clone_from(message);
                new.versions.status += 1;
                self.put_task(new, events);
                Some(())
            }
            Action::RemoveTask(task) => self.remove_task(*task, events),
            _ => None,
        }
    }

    fn add_task(&mut self, task: &Task, events: &mut Vec<Event>) -> Option<()> {
        let service = self.services.get(&task.id.service)?;
        // A task in the place of an older one may have that one's spec.
        let is_known = task.spec_version == service.spec_version
            || self.cluster_version >= ClusterVersion(4)
                && self.specs.contains_key(&(task.id.service, task.spec_version));
        if !is_known || task.node.is_some() || !task.resources.is_empty() {
            return None;
        }
        // The run may have ended while this was planned.
        let goes_on = |run| service.runs.get(run).is_some_and(JobRun::is_active);
        if task.run.is_some_and(|run| !goes_on(run)) {
            return None;
        }
        let spec = self.specs.get(&(task.id.service, task.spec_version))?;
        if !self.has_externals_of(spec) {
            return None;
        }
        let slot = (task.id.service, task.id.slot);
        let mut history = self.history(slot);
        if task.id.generation != history.generation + 1 || task.status.state != TaskState::New {
            return None;
        }
        history.generation = task.id.generation;
        if (history.spec_version, history.run) != (task.spec_version, task.run) {
            // What completed in this run did so with whatever spec.
            history.is_complete &= history.run == task.run;
            history.spec_version = task.spec_version;
            history.run = task.run;
            history.failures = 0;
            history.ended = 0;
            history.recent.clear();
        }
        self.slots.insert(slot, history);
        let versions = Versions { spec: 1, desired: 1, status: 1 };
        self.put_task(Stored { object: Arc::new(task.clone()), versions }, events);
        Some(())
    }

    fn set_task_addresses(
        &mut self,
        id: TaskId,
        attachments: &[Attachment],
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut new = self.tasks.get(&id)?.clone();
        if new.status.state != TaskState::New {
            return None;
        }
        if !attachments.iter().all(|attachment| self.is_free(&address_key(attachment))) {
            return None;
        }
        for attachment in attachments {
            self.took_address(attachment);
        }
        let task = Arc::make_mut(&mut new.object);
        task.attachments = attachments.to_vec();
        task.status.state = TaskState::Pending;
        task.status.since = self.clock;
        task.status.message.clear();
        new.versions.desired += 1;
        new.versions.status += 1;
        self.put_task(new, events);
        Some(())
    }

    fn assign_task(
        &mut self,
        id: TaskId,
        node: NodeId,
        resources: &GenericResources,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut new = self.tasks.get(&id)?.clone();
        let description = &self.nodes.get(&node)?.description;
        if new.status.state != TaskState::Pending || new.node.is_some() {
            return None;
        }
        // Whatever the leader saw when it planned this: no node gives more than it has.
        if self.cluster_version >= ClusterVersion(4) {
            let wanted = &self.task_spec(&new)?.container.resources;
            let none = Reserved::default();
            let reserved = self.index.reserved.get(&node).unwrap_or(&none);
            if !reserved.allows(description, wanted, resources) {
                return None;
            }
        }
        let task = Arc::make_mut(&mut new.object);
        task.node = Some(node);
        task.resources = resources.clone();
        task.status.state = TaskState::Assigned;
        task.status.since = self.clock;
        task.status.message.clear();
        new.versions.desired += 1;
        new.versions.status += 1;
        self.put_task(new, events);
        Some(())
    }

    fn set_task_desired(
        &mut self,
        id: TaskId,
        desired: TaskState,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut new = self.tasks.get(&id)?.clone();
        if desired <= new.desired {
            return None;
        }
        let clock = self.clock;
        let task = Arc::make_mut(&mut new.object);
        task.desired = desired;
        // No agent knows of a task without a node: it is over at once.
        if task.node.is_none() && desired > TaskState::Running && !task.status.state.is_terminal() {
            task.status.state = TaskState::Shutdown;
            task.status.since = clock;
            new.versions.status += 1;
        }
        new.versions.desired += 1;
        self.put_task(new, events);
        Some(())
    }

    fn set_task_status(
        &mut self,
        id: TaskId,
        status: &TaskStatus,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut new = self.tasks.get(&id)?.clone();
        let old = &new.status;
        let same_state = status.state == old.state
            && !old.state.is_terminal()
            && status.attempt >= old.attempt
            && status != old;
        if status.state <= old.state && !same_state {
            return Some(());
        }
        let ended_itself =
            matches!(status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected);
        if status.state > old.state && ended_itself && new.desired <= TaskState::Running {
            self.note_end(&new, status);
            self.note_failure_of_update(&new, status, events);
        }
        if status.state == TaskState::Running && old.state < TaskState::Running {
            self.note_run_of_update(&new);
        }
        if status.state == TaskState::Complete {
            self.note_completion(&new);
        }
        Arc::make_mut(&mut new.object).status = status.clone();
        new.versions.status += 1;
        self.put_task(new, events);
        Some(())
    }

    /// A place of a job is done, whatever becomes of its task.
    fn note_completion(&mut self, task: &Task) {
        let slot = (task.id.service, task.id.slot);
        if task.run.is_some()
            && let Some(history) = self.slots.get_mut(&slot)
            && history.run == task.run
        {
            history.is_complete = true;
        }
    }

    /// Counts a run that ended by itself, for the restart policy.
    fn note_end(&mut self, task: &Task, status: &TaskStatus) {
        let slot = (task.id.service, task.id.slot);
        let Some(mut history) = self.slots.get(&slot).cloned() else { return };
        if history.spec_version != task.spec_version {
            return;
        }
        history.ended = history.ended.saturating_add(1);
        history.recent.push(self.clock);
        let surplus = history.recent.len().saturating_sub(RECENT_ENDS);
        history.recent.drain(..surplus);
        let started = status.started_at.or(task.status.started_at);
        let lasted = started.is_some_and(|at| status.since.since(at).as_millis() >= LASTING_RUN);
        history.failures = match status.state {
            TaskState::Complete => 0,
            _ if lasted => 1,
            _ => history.failures.saturating_add(1),
        };
        self.slots.insert(slot, history);
    }

    fn remove_task(&mut self, id: TaskId, events: &mut Vec<Event>) -> Option<()> {
        let name = self.task_name(id);
        let old = self.tasks.get(&id)?.clone();
        let stack = self.services.get(&id.service).map(|service| service.stack.clone());
        self.forget_contribution(&old);
        self.tasks.remove(&id);
        self.after_task_write(Some(&old), None);
        self.drop_unused_spec(&old);
        self.mix_task(id, 0);
        let object = ObjectId::Task(id);
        events.push(Event::Removed { object, name, stack: stack.unwrap_or_default() });
        Some(())
    }

    /// Puts a task in place of the one before, with all that follows.
    pub(super) fn put_task(&mut self, new: Stored<Task>, events: &mut Vec<Event>) {
        let old = self.tasks.get(&new.id).cloned();
        if let Some(old) = &old {
            self.forget_contribution(old);
        }
        self.add_contribution(&new);
        self.tasks.insert(new.id, new.clone());
        self.after_task_write(old.as_ref(), Some(&new));
        let sick = u64::from(new.status.is_unhealthy());
        let standby = u64::from(new.standby);
        let state = standby << 17
            | sick << 16
            | u64::from(new.status.state as u8) << 8
            | u64::from(new.desired as u8);
        self.mix_task(new.id, state << 32 | new.node.map_or(0, |node| node.0 & 0xffff_ffff));
        events.push(Event::Task(new.object));
    }

    pub(super) fn mix_task(&mut self, id: TaskId, content: u64) {
        self.mix(id.service.0);
        self.mix(u64::from(id.generation));
        self.mix(content);
    }

    pub(super) fn add_contribution(&mut self, task: &Task) {
        if let Some(spec) = self.spec_of(task) {
            let standing = self.standing(task);
            self.index.task(task, &spec, standing, true);
        }
        if index::holds_addresses(task) {
            for attachment in &task.attachments {
                let key = address_key(attachment);
                if !self.quarantine.contains_key(&key) {
                    self.index.hold(key, Holder::Task(task.id), true);
                }
            }
        }
    }

    pub(super) fn forget_contribution(&mut self, task: &Task) {
        if let Some(spec) = self.spec_of(task) {
            let standing = self.standing(task);
            self.index.task(task, &spec, standing, false);
        }
    }

    /// Whether a task is as its service's spec says, on a node that it allows.
    pub(crate) fn is_current(&self, task: &Task) -> bool {
        self.standing(task).current
    }

    fn standing(&self, task: &Task) -> Standing {
        let Some(service) = self.services.get(&task.id.service) else {
            return Standing { current: false, priority: 0 };
        };
        let node = task.node.and_then(|node| self.nodes.get(&node));
        let current = service.spec_version == task.spec_version
            && node.is_none_or(|node| service.spec.placement.allows(node));
        Standing { current, priority: service.spec.priority }
    }

    fn spec_of(&self, task: &Task) -> Option<Arc<ServiceSpec>> {
        self.task_spec(task).cloned()
    }

    /// Addresses, networks, nodes and the service look again after a task was written.
    fn after_task_write(&mut self, old: Option<&Stored<Task>>, new: Option<&Stored<Task>>) {
        let view = |task: &Stored<Task>| {
            (index::is_peer(task), index::is_backend(task), task.attachments.clone())
        };
        let assignment = |task: &Stored<Task>| {
            (task.node, task.desired, task.start_after, task.status.is_unhealthy())
        };
        if old.map(view) != new.map(view) {
            let both = old.into_iter().chain(new);
            for attachment in both.flat_map(|task| task.attachments.clone()) {
                self.touch_network(attachment.network);
            }
        }
        if old.map(assignment) != new.map(assignment) {
            for node in old.into_iter().chain(new).filter_map(|task| task.node) {
                self.touch_node(node);
            }
        }
        if let Some(old) = old.filter(|_| !new.is_some_and(|task| index::holds_addresses(task))) {
            for attachment in &old.attachments {
                let key = address_key(attachment);
                if self.index.addresses.get(&key) == Some(&Holder::Task(old.id)) {
                    self.give_up_address(key);
                }
            }
        }
        if let Some(task) = new.or(old) {
            if let Some(spec) = self.spec_of(task).filter(|spec| !spec.container.files.is_empty()) {
                self.judge_contents_of(&spec.container);
            }
            self.judge(task.id.service);
        }
    }

    fn drop_unused_spec(&mut self, task: &Task) {
        let key = (task.id.service, task.spec_version);
        let service = self.services.get(&task.id.service);
        // Whatever becomes of its tasks, a service keeps the spec in force and the one that it would go back to.
        let is_kept = service.is_some_and(|service| {
            service.spec_version == task.spec_version || is_previous(service, task.spec_version)
        });
        if !self.index.spec_uses.contains_key(&key) && !is_kept {
            self.specs.remove(&key);
        }
    }
}

/// Whether a spec version is that which a service would go back to: new tasks may need it where an update holds.
pub(super) fn is_previous(service: &Service, version: u64) -> bool {
    service.previous.is_some() && service.previous_version == version
}
