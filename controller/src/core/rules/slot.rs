//! A service's tasks by slot, as the rules on tasks look at them.

use std::collections::BTreeMap;

use swarm_proto::entry::Action;
use swarm_proto::id::{Slot, TaskId, Timestamp};
use swarm_proto::object::{Service, Task, TaskState, TaskStatus};

use crate::core::state::{State, Stored, tasks_of};

/// The tasks of one slot, oldest first.
pub(super) struct SlotView<'a> {
    pub(super) tasks: Vec<&'a Stored<Task>>,
}

impl<'a> SlotView<'a> {
    pub(super) fn newest(&self) -> Option<&'a Stored<Task>> {
        self.tasks.last().copied()
    }

    /// Whether the slot is in use: its newest task shall run, or ended by itself.
    pub(super) fn is_active(&self) -> bool {
        self.newest().is_some_and(|task| task.desired <= TaskState::Running)
    }

    /// Whether a task of the slot is not over.
    pub(super) fn is_alive(&self) -> bool {
        self.tasks.iter().any(|task| !task.status.state.is_terminal())
    }

    /// The newest task, when it is not over and shall run.
    pub(super) fn open(&self) -> Option<&'a Stored<Task>> {
        let open = |task: &&Stored<Task>| {
            task.desired <= TaskState::Running && !task.status.state.is_terminal()
        };
        self.newest().filter(open)
    }

    /// Tasks before the newest that are not over.
    pub(super) fn predecessors(&self) -> impl Iterator<Item = &'a Stored<Task>> + '_ {
        let older = self.tasks.len().saturating_sub(1);
        self.tasks[..older].iter().copied().filter(|task| !task.status.state.is_terminal())
    }

    /// Tasks that shall run, over or not.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &'a Stored<Task>> + '_ {
        self.tasks.iter().copied().filter(|task| task.desired <= TaskState::Running)
    }
}

/// All slots of a service that have tasks.
pub(super) fn slots<'a>(state: &'a State, service: &Service) -> BTreeMap<Slot, SlotView<'a>> {
    let mut slots: BTreeMap<Slot, SlotView<'a>> = BTreeMap::new();
    for task in tasks_of(state, service.id) {
        let slot = slots.entry(task.id.slot).or_insert_with(|| SlotView { tasks: Vec::new() });
        slot.tasks.push(task);
    }
    slots
}

/// The next task of a slot. It is held ready while it has to wait for a time or for its predecessor's end.
pub(super) fn next_task(
    state: &State,
    service: &Service,
    slot: Slot,
    start_after: Option<Timestamp>,
    held: bool,
    now: Timestamp,
) -> Action {
    Action::AddTask(Box::new(task(state, service, slot, start_after, held, now)))
}

/// The next task of a slot, for a run of a job.
pub(super) fn next_of_run(
    state: &State,
    service: &Service,
    slot: Slot,
    run: u64,
    start_after: Option<Timestamp>,
    held: bool,
    now: Timestamp,
) -> Action {
    let task = task(state, service, slot, start_after, held, now);
    Action::AddTask(Box::new(Task { run: Some(run), ..task }))
}

fn task(
    state: &State,
    service: &Service,
    slot: Slot,
    start_after: Option<Timestamp>,
    held: bool,
    now: Timestamp,
) -> Task {
    let generation = state.history((service.id, slot)).generation + 1;
    let desired = if held || start_after.is_some() { TaskState::Ready } else { TaskState::Running };
    Task {
        id: TaskId { service: service.id, slot, generation },
        spec_version: service.spec_version,
        node: None,
        desired,
        start_after,
        status: TaskStatus::new(TaskState::New, now),
        attachments: Vec::new(),
        created_at: now,
        run: None,
    }
}

/// Stops every task of a slot that shall run.
pub(super) fn stop(slot: &SlotView<'_>) -> Vec<Action> {
    let stop = |task: &Stored<Task>| Action::SetTaskDesired {
        task: task.id,
        desired: TaskState::Shutdown,
    };
    slot.wanted().map(stop).collect()
}
