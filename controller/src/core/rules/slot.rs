//! A service's tasks by slot, as the rules on tasks look at them.

use std::collections::BTreeMap;

use swarm_proto::entry::Action;
use swarm_proto::id::{ServiceId, Slot, TaskId, Timestamp};
use swarm_proto::object::{
    GenericResources, NodeStatus, Service, Task, TaskState, TaskStatus, UpdateState,
};

use super::update::leaves_slots;
use super::update::switch::{stands_by, switching};
use crate::core::state::{State, Stored, is_backend, slots_of, tasks_of};

/// The tasks of one slot, oldest first.
pub(super) struct SlotView<'a> {
    pub(super) tasks: Vec<&'a Stored<Task>>,
}

impl<'a> SlotView<'a> {
    /// The newest task that shall run, over or not; where none shall, the newest.
    pub(super) fn newest(&self) -> Option<&'a Stored<Task>> {
        let wanted = self.tasks.iter().rfind(|task| task.desired <= TaskState::Running);
        wanted.or(self.tasks.last()).copied()
    }

    /// Whether the slot is in use: its newest task shall run, or ended by itself.
    pub(super) fn is_active(&self) -> bool {
        self.newest().is_some_and(|task| task.desired <= TaskState::Running)
    }

    /// Whether a task of the slot is not over.
    pub(super) fn is_alive(&self) -> bool {
        self.tasks.iter().any(|task| !task.status.state.is_terminal())
    }

    /// Whether a task of the slot runs on a node that is there, as far as is known.
    pub(super) fn serves(&self, state: &State) -> bool {
        self.tasks.iter().any(|task| serves(state, task))
    }

    /// Whether clients are led to a task of the slot.
    pub(super) fn runs(&self) -> bool {
        self.tasks.iter().any(|task| is_backend(task))
    }

    /// Whether a task of a spec version shall run, over or not.
    pub(super) fn has_version(&self, version: u64) -> bool {
        self.wanted().any(|task| task.spec_version == version)
    }

    /// The slot without the tasks that stand by.
    pub(super) fn without_standby(&self) -> Self {
        Self { tasks: self.tasks.iter().copied().filter(|task| !task.standby).collect() }
    }

    /// The tasks that stand by and the others apart, where some of either shall run: each side has its own successors.
    pub(super) fn sides(&self) -> Vec<Self> {
        let stands_by = self.wanted().any(|task| task.standby);
        if !stands_by || self.wanted().all(|task| task.standby) {
            return vec![Self { tasks: self.tasks.clone() }];
        }
        let (standby, others) = self.tasks.iter().partition(|task| task.standby);
        vec![Self { tasks: standby }, Self { tasks: others }]
    }

    /// Whether a task must wait for others of its slot that are to end. While an update leads clients over at once, what
    /// stands by does not wait for what serves, nor that for it; but no spec has two containers.
    pub(super) fn is_taken(&self, service: &Service, standby: bool, version: u64) -> bool {
        let is_apart = switching(service).is_some();
        // The update rule drops what stands by and should not.
        let is_given_up = |task: &Task| task.standby && !stands_by(service, task.spec_version);
        let ends = |task: &Task| task.desired > TaskState::Running || is_given_up(task);
        let is_own = |task: &Task| task.standby == standby || task.spec_version == version;
        let open = self.tasks.iter().filter(|task| !task.status.state.is_terminal());
        open.filter(|task| ends(task)).any(|task| !is_apart || is_own(task))
    }

    /// Tasks that shall run, over or not.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &'a Stored<Task>> + '_ {
        self.tasks.iter().copied().filter(|task| task.desired <= TaskState::Running)
    }
}

/// One slot, which may have no tasks.
pub(super) fn view_of(state: &State, service: ServiceId, slot: Slot) -> SlotView<'_> {
    let of_generation = |generation| TaskId { service, slot, generation };
    let tasks = state.tasks.range(of_generation(0)..=of_generation(u32::MAX));
    SlotView { tasks: tasks.map(|(_, task)| task).collect() }
}

/// The slots of a service that are in use, in their order, without the places of one-off tasks.
pub(super) fn active(state: &State, service: ServiceId) -> impl Iterator<Item = Slot> + '_ {
    let slots = state.index.slots.range(slots_of(service));
    let used = slots.filter(|(_, counts)| counts.wanted > 0).map(|((_, slot), _)| *slot);
    used.filter(|slot| !matches!(slot, Slot::OneOff(_)))
}

/// Whether clients are led to a task, on a node that is there, as far as is known.
pub(super) fn serves(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.nodes.get(&node));
    is_backend(task) && node.is_some_and(|node| node.status != NodeStatus::Down)
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

/// The spec version of the next task in a slot. While an update is under way or paused, a slot that it has not come to
/// keeps the spec that it has: only the update itself brings the new one in, so that its bounds hold. Where the slot's own
/// cannot run any more, and the update leaves slots as they are, it is another older one.
pub(super) fn next_version(state: &State, service: &Service, view: Option<&SlotView<'_>>) -> u64 {
    // What only stood by is not what the slot has.
    let newest = view.and_then(|view| view.without_standby().newest());
    // What was stopped long ago is not what the slot has.
    let is_recent = |task: &Task| {
        task.desired <= TaskState::Running || task.spec_version >= service.previous_version
    };
    let own = newest.filter(|task| is_recent(task)).map(|task| task.spec_version);
    let is_old = |version: &u64| *version != service.spec_version;
    let Some(own) = own.filter(is_old) else { return service.spec_version };
    let own = Some(own).filter(|version| is_kept(state, service, *version));
    let other = || kept_version(state, service).filter(|_| leaves_slots(service));
    own.or_else(other).unwrap_or(service.spec_version)
}

/// The spec version of slots that there were not before: where an update is paused, that of the slots which it has not
/// come to.
pub(super) fn first_version(state: &State, service: &Service) -> u64 {
    let is_paused = service.update.as_ref().is_some_and(|update| update.state.is_paused());
    let kept = kept_version(state, service).filter(|_| is_paused);
    kept.unwrap_or(service.spec_version)
}

/// The spec version that slots get which an update must not come to: the last good one, or else the newest that can
/// still run.
pub(super) fn kept_version(state: &State, service: &Service) -> Option<u64> {
    let kept = |version: &u64| is_kept(state, service, *version);
    let own = state.specs.range((service.id, 0)..=(service.id, u64::MAX));
    let newest = || own.map(|((_, version), _)| *version).rfind(kept);
    Some(service.previous_version).filter(kept).or_else(newest)
}

/// Whether another spec version is still that of slots which an update has not come to, and what it refers to is there.
pub(super) fn is_kept(state: &State, service: &Service, version: u64) -> bool {
    let update = service.update.as_ref().map(|update| update.state);
    matches!(update, Some(UpdateState::Updating | UpdateState::Held | UpdateState::Paused))
        && version != service.spec_version
        && can_run(state, service, version)
}

/// The spec version of the task that takes the place of a slot's newest. Where an update leads clients over at once, the old
/// and the new tasks of a slot have each their own successors.
pub(super) fn successor_version(state: &State, service: &Service, view: &SlotView<'_>) -> u64 {
    let newest = view.newest().filter(|_| switching(service).is_some());
    let own = newest.map(|task| task.spec_version);
    let own = own.filter(|version| can_run(state, service, *version));
    own.unwrap_or_else(|| next_version(state, service, Some(view)))
}

/// Whether tasks of a spec version could be made: it is known, and what it refers to is there.
pub(super) fn can_run(state: &State, service: &Service, version: u64) -> bool {
    state.specs.get(&(service.id, version)).is_some_and(|spec| state.has_externals_of(spec))
}

/// What the next task of a slot shall be like.
#[derive(Clone, Copy)]
pub(super) struct Next {
    pub(super) spec_version: u64,
    /// The run of a job that it is for.
    pub(super) run: Option<u64>,
    /// Not to be started before this time.
    pub(super) start_after: Option<Timestamp>,
    /// Not to be started before its predecessor's end.
    pub(super) held: bool,
    /// Kept from clients.
    pub(super) standby: bool,
}

impl Next {
    /// A task that may start at once.
    pub(super) fn of_version(spec_version: u64) -> Self {
        Self { spec_version, run: None, start_after: None, held: false, standby: false }
    }
}

/// What the first task shall be like of a slot that is not in use.
pub(super) fn first_of(service: &Service, view: &SlotView<'_>, spec_version: u64) -> Next {
    let standby = stands_by(service, spec_version);
    Next { held: view.is_alive(), standby, ..Next::of_version(spec_version) }
}

/// The next task of a slot. It is kept ready while it has to wait for something.
pub(super) fn next_task(
    state: &State,
    service: &Service,
    slot: Slot,
    next: Next,
    now: Timestamp,
) -> Action {
    let Next { spec_version, run, start_after, held, standby } = next;
    let generation = state.history((service.id, slot)).generation + 1;
    let desired = if held || start_after.is_some() { TaskState::Ready } else { TaskState::Running };
    Action::AddTask(Box::new(Task {
        id: TaskId { service: service.id, slot, generation },
        spec_version,
        node: None,
        desired,
        start_after,
        status: TaskStatus::new(TaskState::New, now),
        attachments: Vec::new(),
        created_at: now,
        run,
        resources: GenericResources::new(),
        preempted_by: None,
        standby,
    }))
}

/// Stops a task.
pub(super) fn stop_task(task: &Task) -> Action {
    Action::SetTaskDesired { task: task.id, desired: TaskState::Shutdown }
}

/// Stops every task of a slot that shall run.
pub(super) fn stop(slot: &SlotView<'_>) -> Vec<Action> {
    slot.wanted().map(|task| stop_task(task)).collect()
}
