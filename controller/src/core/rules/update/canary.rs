//! An update that exchanges a part of a service's slots and holds until somebody promotes it, or its time has come. What
//! happens to tasks meanwhile leaves both specs their share.

use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Service, Switch, Task, UpdateState, UpdateStatus};
use swarm_proto::spec::Canary;

use super::Rollout;
use super::switch::{Met, switching};
use crate::core::rules::Plan;
use crate::core::rules::slot::{
    SlotView, active, first_version, kept_version, next_version, view_of,
};
use crate::core::state::{State, Stored};

/// The canary by which a service's update is bound now. One that was promoted is not bound, nor one that brings the last
/// good spec back.
pub(in crate::core::rules) fn of(service: &Service) -> Option<&Canary> {
    let update = service.update.as_ref().filter(|update| !update.promoted)?;
    let goes_forward =
        matches!(update.state, UpdateState::Updating | UpdateState::Held | UpdateState::Paused);
    let is_new = service.previous.is_some() && service.spec_version != service.previous_version;
    service.spec.canary.as_ref().filter(|_| goes_forward && is_new)
}

/// How many of so many slots may run the new spec; `None` where all may.
pub(in crate::core::rules) fn bound(service: &Service, all: usize) -> Option<usize> {
    of(service).map(|canary| canary.slots(all))
}

/// An update that held, as it goes on.
pub(in crate::core::rules) fn promoted(
    state: &State,
    service: &Service,
    held: &UpdateStatus,
    why: &str,
    now: Timestamp,
) -> UpdateStatus {
    let newest = |slot| view_of(state, service.id, slot).newest();
    let is_left = |task: &&Stored<Task>| task.spec_version != service.spec_version;
    let left = active(state, service.id).filter_map(newest).filter(is_left).count();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    let again = held.again(UpdateState::Updating, left, now);
    UpdateStatus { promoted: true, message: why.to_owned(), ..again }
}

/// Gives slots that have no task their spec versions, one after the other.
pub(in crate::core::rules) struct Shares<'a> {
    state: &'a State,
    service: &'a Service,
    /// How many more may run the new spec, where an update is bound.
    room: Option<usize>,
    /// What clients meet, where they are to be led over at once.
    met: Option<Met<'a>>,
}

impl<'a> Shares<'a> {
    /// For a service that shall have so many slots.
    pub(in crate::core::rules) fn new(
        state: &'a State,
        service: &'a Service,
        wanted: usize,
    ) -> Self {
        let is_paused = service.update.as_ref().is_some_and(|update| update.state.is_paused());
        let bound = bound(service, wanted).filter(|_| !is_paused);
        let views = || active(state, service.id).map(|slot| view_of(state, service.id, slot));
        let new = || views().filter(|view| view.has_version(service.spec_version)).count();
        let room = bound.map(|bound| bound.saturating_sub(new()));
        let is_due = switching(service).is_some_and(|update| update.switch == Switch::Due);
        let met = is_due.then(|| Met::of(state, service));
        Self { state, service, room, met }
    }

    /// The version of the next task in a slot, of which there may have been tasks before.
    pub(in crate::core::rules) fn next(&mut self, view: &SlotView<'_>) -> u64 {
        let (state, service) = (self.state, self.service);
        if switching(service).is_some() {
            // Clients come first; what stands by follows.
            let met = self.met.as_ref().and_then(|met| met.version_for(view));
            return met.unwrap_or(service.spec_version);
        }
        let version = match (view.tasks.is_empty(), &self.room) {
            (true, None) => return first_version(state, service),
            (true, Some(_)) => service.spec_version,
            (false, _) => next_version(state, service, Some(view)),
        };
        let Some(room) = self.room.as_mut().filter(|_| version == service.spec_version) else {
            return version;
        };
        if *room > 0 {
            *room -= 1;
            return version;
        }
        // Rather one too many of the new than nothing at all.
        kept_version(state, service).unwrap_or(version)
    }
}

impl Rollout<'_> {
    /// How many more slots the update may come to; `None` where it is not bound.
    pub(super) fn room(&self) -> Option<usize> {
        bound(self.service, self.wanted()).map(|bound| bound.saturating_sub(self.new_slots()))
    }

    fn new_slots(&self) -> usize {
        self.active.iter().filter(|(_, view, _)| self.is_come_to(view)).count()
    }

    /// Whether the update has come to a slot, be it on a node that is not allowed any more.
    pub(super) fn is_come_to(&self, view: &SlotView<'_>) -> bool {
        view.has_version(self.service.spec_version)
    }

    /// Lets an update hold whose canary runs.
    pub(super) fn begin_to_hold(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        let new = self.new_slots();
        let (all, name) = (self.active.len(), self.service.name());
        let message = format!("holds at {new} of {all} until `swarmctl promote {name}`");
        self.set(update.finish(UpdateState::Held, message, now), plan);
    }

    /// Plans what becomes of an update that holds.
    pub(super) fn hold(&self, update: &UpdateStatus, now: Timestamp, plan: &mut Plan) {
        if self.fails(update, now, plan) || self.count_late(update, now, plan) {
            return;
        }
        // There is room for more of the canary, or some of it must leave its node.
        let has_room = self.room() != Some(0);
        let waits = |(_, view, task): &(Slot, &SlotView<'_>, &Stored<Task>)| {
            self.is_old(task) && (has_room || self.is_come_to(view))
        };
        let goes_on = self.active.iter().any(waits);
        if goes_on {
            let state = UpdateState::Updating;
            let (message, finished_at) = (String::new(), None);
            self.set(UpdateStatus { state, message, finished_at, ..update.clone() }, plan);
            return;
        }
        let Some(hold) = self.service.spec.canary.and_then(|canary| canary.hold) else { return };
        let at = update.finished_at.unwrap_or(update.started_at).after(hold);
        if at > now {
            return plan.wake(at);
        }
        let is_sound = |task: &Task| self.is_old(task) || self.is_satisfied(task);
        let is_whole = self.active.len() == self.wanted();
        if is_whole && self.active.iter().all(|(.., task)| is_sound(task)) {
            let why = format!("promoted by itself after {} s", hold.as_secs());
            self.set(promoted(self.state, self.service, update, &why, now), plan);
        }
    }
}
