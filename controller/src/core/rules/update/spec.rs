//! What a service becomes when its spec changes: its spec version, what it would go back to, and its update.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Service, Switch, Task, UpdateState, UpdateStatus};
use swarm_proto::spec::{
    EndpointMode, NetworkAttachmentSpec, PortMode, ServiceMode, ServiceSpec, UpdateOrder,
};
use swarm_proto::version::ClusterVersion;

use super::canary;
use crate::core::rules::slot::{SlotView, slots};
use crate::core::state::State;

/// Whether tasks of the old spec must be exchanged for the new one: all but numbers, policies and labels.
pub(in crate::core::rules) fn needs_new_tasks(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let host_ports = |spec: &ServiceSpec| {
        let host = spec.ports.iter().filter(|port| port.mode == PortMode::Host);
        host.cloned().collect::<Vec<_>>()
    };
    // How often a job completes is what it is: another number makes another run.
    let kind = |spec: &ServiceSpec| match spec.mode {
        ServiceMode::Replicated { .. } => (0, 0),
        ServiceMode::Global => (1, 0),
        ServiceMode::ReplicatedJob { total, .. } => (2, total),
        ServiceMode::GlobalJob => (3, 0),
    };
    let lease = |spec: &ServiceSpec| spec.node_loss.lease(Duration::ZERO);
    old.container != new.container
        || old.networks != new.networks
        || old.dependency_restarts != new.dependency_restarts
        || old.force != new.force
        || host_ports(old) != host_ports(new)
        || kind(old) != kind(new)
        // A host that is cut off keeps to the lease that it was told.
        || lease(old) != lease(new)
}

/// The version of a spec of a service: the one in force when its tasks may stay, an earlier one when tasks of that may,
/// else the next.
pub(in crate::core::rules) fn version_of(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
) -> u64 {
    if !needs_new_tasks(&service.spec, spec) {
        return service.spec_version;
    }
    let next = service.latest_version + 1;
    if state.cluster_version < ClusterVersion(4) {
        return next;
    }
    // The tasks of an earlier spec are of use only while they have its networks.
    if !spec.networks.iter().all(|attachment| is_there(state, service, attachment)) {
        return next;
    }
    let versions = state.specs.range((service.id, 0)..(service.id, next)).rev();
    let mut same = versions.filter(|(_, old)| !needs_new_tasks(old, spec));
    same.next().map_or(next, |((_, version), _)| *version)
}

fn is_there(state: &State, service: &Service, attachment: &NetworkAttachmentSpec) -> bool {
    state.network_of(&service.stack, attachment).is_some_and(|network| !network.removing)
}

/// Begins the update that brings a changed spec in, in place of one that is not over. `service` has the new spec already.
pub(in crate::core::rules) fn supersede(
    state: &State,
    old: &Service,
    service: &mut Service,
    now: Timestamp,
) {
    if state.cluster_version < ClusterVersion(4) {
        return;
    }
    let is_same = old.spec_version == service.spec_version;
    // What an update that is not over would go back to is still the last that was good. Where clients were led over and
    // all went well, only the hold is left of it.
    let goes_on = old.update.as_ref().is_some_and(|update| {
        let is_held_after = update.state == UpdateState::Held && update.switch != Switch::None;
        old.previous.is_some()
            && (is_same || !is_held_after)
            && (update.state == UpdateState::Paused
                || update.state.is_open() && !update.state.is_rollback())
    });
    if !goes_on {
        service.previous = Some(Box::new(old.spec.clone()));
        service.previous_version = old.spec_version;
    }
    begin(state, service, UpdateState::Updating, now);
    if let Some((before, update)) = old.update.as_ref().zip(service.update.as_mut())
        && goes_on
        && is_same
    {
        // What was promoted stays so: nothing of it would be taken back.
        update.promoted = before.promoted;
        // Clients meet its tasks already, and those that they met before stand by for as long as the policy says now.
        if matches!(before.switch, Switch::Done(_))
            && service.spec.update.order == UpdateOrder::BlueGreen
        {
            update.switch = before.switch;
        }
    }
}

fn begin(state: &State, service: &mut Service, update: UpdateState, now: Timestamp) {
    let number = service.update.as_ref().map_or(0, |update| update.number) + 1;
    // Also one whose new task does not run yet: its old one runs beside it.
    let is_old = |view: &SlotView<'_>| {
        view.is_active() && view.wanted().any(|task| task.spec_version != service.spec_version)
    };
    let slots = slots(state, service);
    let old = slots.values().filter(|view| is_old(view)).count();
    let old = u32::try_from(old).unwrap_or(u32::MAX);
    service.update = Some(UpdateStatus::begin(number, update, old, now));
    service.updated_at = now;
    if switches(service, &slots, update)
        && let Some(update) = &mut service.update
    {
        update.switch = Switch::Due;
    }
    let all = match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas as usize,
        _ => slots.values().filter(|view| view.is_active()).count(),
    };
    if let (Some(bound), Some(update)) = (canary::bound(service, all), &mut service.update) {
        update.slots = old.min(u32::try_from(bound).unwrap_or(u32::MAX));
    }
}

/// Whether an update that begins leads clients over at once: because its policy says so, or because tasks of its spec stand
/// by already.
fn switches(service: &Service, slots: &BTreeMap<Slot, SlotView<'_>>, update: UpdateState) -> bool {
    // Slots of another mode are not those of the new tasks.
    let is_of_mode = |slot: &Slot| match slot {
        Slot::Replica(_) => matches!(service.spec.mode, ServiceMode::Replicated { .. }),
        Slot::Node(_) => service.spec.mode == ServiceMode::Global,
        Slot::OneOff(_) => false,
    };
    let is_own = |slot: &Slot| !matches!(slot, Slot::OneOff(_));
    let mut active = slots.iter().filter(|(slot, view)| is_own(slot) && view.is_active());
    let is_current = |task: &Task| task.spec_version == service.spec_version;
    let stands_by =
        |view: &SlotView<'_>| view.wanted().any(|task| task.standby && is_current(task));
    // Where clients meet its tasks alone already, nobody is to be led over.
    let wanted = || active.clone().flat_map(|(_, view)| view.wanted());
    let mut serving = wanted().filter(|task| !task.standby).peekable();
    let is_met_alone = serving.peek().is_some() && serving.all(|task| is_current(task));
    let has_old = wanted().any(|task| !is_current(task));
    let is_blue_green =
        update == UpdateState::Updating && service.spec.update.order == UpdateOrder::BlueGreen;
    // A canary takes the place of what stands by.
    let goes_on = canary::of(service).is_none() && slots.values().any(stands_by);
    (is_blue_green && has_old && !is_met_alone || goes_on)
        && active.all(|(slot, _)| is_of_mode(slot))
}

/// The service with its previous spec, or why it cannot have it.
pub(super) fn roll_back(
    state: &State,
    service: &Service,
    message: &str,
    now: Timestamp,
) -> Result<Service, String> {
    let Some(previous) = &service.previous else {
        return Err("there is no previous spec".to_owned());
    };
    for attachment in &previous.networks {
        if !is_there(state, service, attachment) {
            return Err(format!("its network `{}` is gone", attachment.network));
        }
    }
    if !state.has_externals_of(previous) {
        return Err("an external volume of it is gone".to_owned());
    }
    let ingress = previous.ports.iter().filter(|port| port.mode == PortMode::Ingress);
    let needed = ingress.filter(|_| previous.endpoint_mode == EndpointMode::Vip);
    for published in needed.filter_map(|port| Some((port.protocol, port.published?))) {
        if state.index.ingress.get(&published).is_some_and(|owner| *owner != service.id) {
            return Err(format!("another service publishes port {}", published.1));
        }
    }
    if !state.has_contents_of(&previous.container) {
        return Err("a secret or config of it is gone".to_owned());
    }
    let mut back = service.clone();
    back.spec = previous.as_ref().clone();
    back.spec.bound_replicas();
    back.spec_version = version_of(state, service, previous);
    back.previous = None;
    begin(state, &mut back, UpdateState::RollbackStarted, now);
    if let Some(update) = &mut back.update {
        message.clone_into(&mut update.message);
    }
    Ok(back)
}

/// Makes a service that goes back to its previous spec by somebody's wish one that is rolled back. It may go forward
/// again.
pub(in crate::core::rules) fn roll_back_by_hand(old: &Service, service: &mut Service) {
    service.previous = Some(Box::new(old.spec.clone()));
    service.previous_version = old.spec_version;
    if let Some(update) = &mut service.update {
        update.state = UpdateState::RollbackStarted;
        "rolled back by hand".clone_into(&mut update.message);
    }
}
