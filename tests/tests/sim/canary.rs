//! How many slots run a new spec before somebody promotes it.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::State;
use swarm_proto::id::{ServiceId, Slot};
use swarm_proto::object::{Service, TaskState, UpdateState};
use swarm_proto::spec::ServiceMode;

use crate::violation::demand;

/// What was seen of the updates that are bound by a canary.
#[derive(Default)]
pub(crate) struct Canaries {
    /// By service: the number of the update, and how many slots may run its spec.
    seen: BTreeMap<ServiceId, (u64, usize)>,
}

/// The number of a service's update and how many slots may run its spec, if it is bound.
fn bound(service: &Service) -> Option<(u64, usize)> {
    let (canary, update) = (service.spec.canary?, service.update.as_ref()?);
    let goes_on = matches!(update.state, UpdateState::Updating | UpdateState::Held);
    let is_bound = goes_on && !update.promoted && service.spec_version != service.previous_version;
    let ServiceMode::Replicated { replicas } = service.spec.mode else { return None };
    is_bound.then(|| (update.number, canary.slots(replicas as usize)))
}

impl Canaries {
    /// A service changed: as long as its update goes on, the most that it allowed counts.
    pub(crate) fn allow(&mut self, service: &Service) {
        let Some((number, most)) = bound(service) else { return };
        if let Some((seen, allowed)) = self.seen.get_mut(&service.id)
            && *seen == number
        {
            *allowed = most.max(*allowed);
        }
    }

    /// Looks at all updates that are bound: of one that was so before, no more slots may run the new spec than it
    /// allowed, or than did then.
    pub(crate) fn look(&mut self, state: &State) {
        let mut seen = BTreeMap::new();
        for service in state.services.values() {
            let Some((number, most)) = bound(service) else { continue };
            let new = new_slots(state, service);
            let before = self.seen.get(&service.id).filter(|(before, _)| *before == number);
            if let Some((_, allowed)) = before {
                demand(
                    new <= most.max(*allowed),
                    "no more than a canary before it is promoted",
                    || format!("{new} of {} run the new spec, {allowed} may", service.name()),
                );
            }
            // Where no older spec can run any more, the new one may rather than none.
            let had_older = before.is_none_or(|(_, allowed)| *allowed < usize::MAX);
            let is_bound = had_older && has_older(state, service);
            let most = if is_bound { most.max(new) } else { usize::MAX };
            seen.insert(service.id, (number, most));
        }
        self.seen = seen;
    }
}

/// Whether slots could run an older spec: what it refers to is there.
fn has_older(state: &State, service: &Service) -> bool {
    let mut specs = state.specs.range((service.id, 0)..(service.id, service.spec_version));
    specs.any(|(_, spec)| state.has_externals_of(spec))
}

fn new_slots(state: &State, service: &Service) -> usize {
    let first =
        swarm_proto::id::TaskId { service: service.id, slot: Slot::Replica(0), generation: 0 };
    let tasks = state.tasks.range(first..).map(|(_, task)| task);
    let own = tasks.take_while(|task| task.id.service == service.id);
    let wanted = own.filter(|task| task.desired <= TaskState::Running);
    let new = wanted.filter(|task| task.spec_version == service.spec_version);
    new.map(|task| task.id.slot).collect::<BTreeSet<Slot>>().len()
}
