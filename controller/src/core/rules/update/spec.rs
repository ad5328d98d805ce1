//! What a service becomes when its spec changes: its spec version, what it would go back to, and its update.

use std::time::Duration;

use swarm_proto::id::Timestamp;
use swarm_proto::object::{Service, UpdateState, UpdateStatus};
use swarm_proto::spec::{EndpointMode, NetworkAttachmentSpec, PortMode, ServiceMode, ServiceSpec};
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
    // What an update that is not over would go back to is still the last that was good.
    let goes_on = old.update.as_ref().is_some_and(|update| {
        old.previous.is_some()
            && (update.state == UpdateState::Paused
                || update.state.is_open() && !update.state.is_rollback())
    });
    if !goes_on {
        service.previous = Some(Box::new(old.spec.clone()));
        service.previous_version = old.spec_version;
    }
    begin(state, service, UpdateState::Updating, now);
    // What was promoted stays so: nothing of it would be taken back.
    if goes_on && old.spec_version == service.spec_version {
        let was_promoted = old.update.as_ref().is_some_and(|update| update.promoted);
        service.update.iter_mut().for_each(|update| update.promoted = was_promoted);
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
    let all = match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas as usize,
        _ => slots.values().filter(|view| view.is_active()).count(),
    };
    if let (Some(bound), Some(update)) = (canary::bound(service, all), &mut service.update) {
        update.slots = old.min(u32::try_from(bound).unwrap_or(u32::MAX));
    }
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
