//! Services that need others of their stack. A service's first tasks wait until each of those is as far as its condition
//! says; what was up once may come back in any order. Their updates go before its own, and they are removed after it.

use std::collections::BTreeSet;

use swarm_proto::id::Slot;
use swarm_proto::object::{RunState, Service, Switch, Task, TaskState};
use swarm_proto::spec::{Dependency, DependencyCondition, ServiceMode, ServiceSpec};

use super::slot::{SlotView, slots};
use super::update::switch::switching;
use crate::core::state::{State, Stored, is_backend, tasks_of};

/// What a service still waits for before its first start; `None` once nothing holds it. One that is gone or has no
/// replicas holds nobody.
pub(super) fn awaited(state: &State, service: &Service, spec: &ServiceSpec) -> Option<String> {
    if spec.depends_on.is_empty() || has_started(tasks_of(state, service.id)) {
        return None;
    }
    let needed = needed(state, service, spec);
    let held = needed.filter(|(dependency, other)| {
        !is_met(other, dependency.condition, tasks_of(state, other.id))
    });
    let reasons: Vec<String> = held.map(|(dependency, _)| reason(dependency)).collect();
    (!reasons.is_empty()).then(|| format!("waits until {}", reasons.join(", ")))
}

fn reason(dependency: &Dependency) -> String {
    let service = &dependency.service;
    match dependency.condition {
        DependencyCondition::Started => format!("`{service}` started"),
        DependencyCondition::Healthy => format!("`{service}` is healthy"),
        DependencyCondition::Completed => format!("`{service}` completed"),
    }
}

/// Whether a service whose spec changed must wait for the update of one that it needs.
pub(super) fn is_updated_later(state: &State, service: &Service) -> bool {
    needed(state, service, &service.spec).any(|(dependency, other)| {
        state.index.unsettled.contains(&other.id) && is_updating(state, dependency, other)
    })
}

/// Whether some slot of a service still has the older spec, or none of the new one is as far as it must be. What stands
/// by after a switch counts for nobody.
fn is_updating(state: &State, dependency: &Dependency, other: &Service) -> bool {
    let is_new = |task: &&Stored<Task>| task.spec_version == other.spec_version;
    let has_old = || {
        let slots = slots(state, other);
        let mut newest =
            slots.values().filter(|view| view.is_active()).filter_map(SlotView::newest);
        newest.any(|task| task.spec_version != other.spec_version)
    };
    let is_left = match switching(other).map(|update| update.switch) {
        Some(Switch::Due) => true,
        Some(Switch::Done(_)) => false,
        Some(Switch::None) | None => has_old(),
    };
    is_left || !is_met(other, dependency.condition, tasks_of(state, other.id).filter(is_new))
}

/// Whether a service that shall go must wait for one that needs it and goes, too.
pub(super) fn is_removed_later(state: &State, service: &Service) -> bool {
    let needs = |other: &&Stored<Service>| {
        other.removing && other.spec.depends_on.iter().any(|needed| needed.service == service.key)
    };
    let mut dependents = state.services_of(&service.stack).into_iter().filter(needs);
    dependents.any(|other| tasks_of(state, other.id).any(|task| !task.status.state.is_terminal()))
}

/// The services that a service needs, of those that shall have tasks.
fn needed<'a>(
    state: &'a State,
    service: &'a Service,
    spec: &'a ServiceSpec,
) -> impl Iterator<Item = (&'a Dependency, &'a Service)> {
    spec.depends_on.iter().filter_map(|dependency| {
        let other = state.find_service(&service.stack, &dependency.service)?;
        // A scheduled job may not run for days.
        let off = other.spec.mode == (ServiceMode::Replicated { replicas: 0 })
            || other.spec.schedule.is_some();
        (!off && !other.removing).then_some((dependency, &**other))
    })
}

fn is_met<'a>(
    other: &Service,
    condition: DependencyCondition,
    mut tasks: impl Iterator<Item = &'a Stored<Task>>,
) -> bool {
    match condition {
        DependencyCondition::Started => has_started(tasks),
        // Without checks a task counts as healthy while it runs. One is enough: clients are led to it.
        DependencyCondition::Healthy => tasks.any(|task| is_backend(task)),
        DependencyCondition::Completed => {
            let complete = tasks.filter(|task| task.status.state == TaskState::Complete);
            let slots: BTreeSet<Slot> = complete.map(|task| task.id.slot).collect();
            match other.spec.mode {
                ServiceMode::Replicated { replicas } => slots.len() >= replicas as usize,
                ServiceMode::Global => !slots.is_empty(),
                ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => {
                    other.runs.newest().is_some_and(|run| run.state == RunState::Complete)
                }
            }
        }
    }
}

/// Whether some task runs, or is known to have run.
fn has_started<'a>(mut tasks: impl Iterator<Item = &'a Stored<Task>>) -> bool {
    tasks.any(|task| {
        let status = &task.status;
        status.started_at.is_some()
            || matches!(status.state, TaskState::Running | TaskState::Complete)
    })
}
