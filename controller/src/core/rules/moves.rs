//! Tasks that leave a node though they could run on: of a node that drains, or to where they would be placed now.
//!
//! They move as by an update of their service, under the same promise: nothing is stopped while fewer than the replicas
//! less the policy's parallelism serve; with start-first, and while clients are to be led over at once, nothing before its
//! successor serves, unless its own spec promises that it never runs twice.

use std::collections::BTreeMap;

use swarm_proto::entry::Action;
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Service, Task};
use swarm_proto::spec::ServiceMode;

use super::slot::{Next, SlotView, next_task, slots, stop_task, successor_version, view_of};
use super::update::switch::switching;
use crate::core::state::{State, Stored, is_backend};

/// What may be set in motion of a service now.
pub(super) struct Moves<'a> {
    state: &'a State,
    service: &'a Stored<Service>,
    /// Without what stands by.
    slots: BTreeMap<Slot, SlotView<'a>>,
    /// Whether a successor serves before anything is stopped.
    overlaps: bool,
    /// Slots that may stop serving, or whose successors may be begun.
    spare: usize,
}

impl<'a> Moves<'a> {
    pub(super) fn of(state: &'a State, service: &'a Stored<Service>) -> Self {
        let slots = slots(state, service).into_iter();
        let slots: BTreeMap<_, _> =
            slots.map(|(slot, view)| (slot, view.without_standby())).collect();
        let policy = service.update_policy();
        let may_overlap = policy.order.overlaps() || switching(service).is_some();
        let has_such = |view: &SlotView<'_>| view.wanted().any(|task| runs_once(state, task));
        let overlaps = may_overlap && !slots.values().any(has_such);
        let wanted = match service.spec.mode {
            ServiceMode::Replicated { replicas } => replicas as usize,
            _ => 0,
        };
        let own = slots.iter().filter(|(slot, _)| !matches!(slot, Slot::OneOff(_)));
        let taken = if overlaps {
            own.filter(|(_, view)| is_begun(view)).count()
        } else {
            wanted.saturating_sub(own.filter(|(_, view)| view.serves(state)).count())
        };
        let spare = match policy.parallelism {
            0 => usize::MAX,
            some => (some as usize).saturating_sub(taken),
        };
        Self { state, service, slots, overlaps, spare }
    }

    /// Whether a task's successor is there, or on its way: the task stops once that one serves.
    pub(super) fn has_successor(&self, task: &Task) -> bool {
        let newest = self.slots.get(&task.id.slot).and_then(SlotView::newest);
        newest.is_some_and(|newest| newest.id != task.id)
    }

    /// What sets a task in motion; `None` while the service can spare no further one.
    pub(super) fn begin(&mut self, task: &Stored<Task>, now: Timestamp) -> Option<Action> {
        let view = self.slots.get(&task.id.slot)?;
        let version = successor_version(self.state, self.service, view);
        if self.overlaps && version != task.spec_version && switching(self.service).is_some() {
            // The switch leads away from it.
            return None;
        }
        self.spare = self.spare.checked_sub(1)?;
        Some(if self.overlaps {
            let whole = view_of(self.state, self.service.id, task.id.slot);
            let held = whole.is_taken(self.service, task.standby, version);
            let next = Next { held, ..Next::of_version(version) };
            next_task(self.state, self.service, task.id.slot, next, now)
        } else {
            stop_task(task)
        })
    }
}

/// Whether a task's own spec promises that it never runs twice. That of its service may be another by now.
fn runs_once(state: &State, task: &Task) -> bool {
    let spec = state.task_spec(task);
    spec.is_some_and(|spec| spec.node_loss.runs_once())
}

/// Whether a slot's newest task is on its way while another serves.
fn is_begun(view: &SlotView<'_>) -> bool {
    view.newest().is_some_and(|newest| !is_backend(newest)) && view.runs()
}

/// Whether a task was moved, and the one that shall take its place is on its way or there. Where that one has ended, the
/// move is off.
pub(super) fn is_left(state: &State, view: &SlotView<'_>, task: &Task) -> bool {
    let is_moved = || state.cluster.as_ref().is_some_and(|known| known.rebalance.moves(task.id));
    view.newest().is_some_and(|newest| {
        newest.id != task.id
            && newest.spec_version == task.spec_version
            && !newest.status.state.is_terminal()
    }) && is_moved()
}
