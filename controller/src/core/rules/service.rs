//! Commands about one service: what changes it makes a new revision of its stack.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Scaling, Service, UpdateState, UpdateStatus};
use swarm_proto::spec::{MountSource, ServiceChange, ServiceMode, ServiceSpec, StackSpec};

use super::command::Decision;
use super::{command, deploy, update};
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::{State, Stored};

/// A service by its full name, unless it is being removed.
pub(super) fn find<'a>(state: &'a State, name: &str) -> Result<&'a Stored<Service>, Refusal> {
    let service = state.services.values().find(|service| service.name() == name);
    service.filter(|service| !service.removing).ok_or_else(|| {
        Refusal::not_found(
            format!("there is no service `{name}`"),
            "`swarmctl service ls` lists the services by their full names, <stack>_<service>",
        )
    })
}

/// A service's stack as it is now: with what services became since the last deploy.
fn stack_now(state: &State, service: &Service) -> Result<StackSpec, Refusal> {
    let Some(stack) = state.stacks.get(&service.stack) else {
        return Err(Refusal::not_found(format!("there is no stack `{}`", service.stack), ""));
    };
    let mut spec = stack.spec.clone();
    let stays =
        |other: &&&Stored<Service>| !other.removing && !stack.leaving.services.contains(&other.key);
    for other in state.services_of(&service.stack).iter().filter(stays) {
        let other_spec = as_said(&stack.spec, &other.key, &other.spec);
        spec.services.insert(other.key.clone(), other_spec);
    }
    Ok(spec)
}

/// A service's spec with the number of tasks that somebody said, where it is scaled by itself.
fn as_said(stack: &StackSpec, key: &str, spec: &ServiceSpec) -> ServiceSpec {
    let mut spec = spec.clone();
    let said = stack.services.get(key).filter(|said| said.replicas().is_some());
    if let Some(said) = said.filter(|_| spec.autoscale.is_some()) {
        spec.mode = said.mode;
        spec.bound_replicas();
    }
    spec
}

/// A service with another number of tasks.
pub(super) fn scaled(service: &Service, replicas: u32, reason: &str, now: Timestamp) -> Action {
    let mut scaled = service.clone();
    let from = service.spec.replicas().unwrap_or_default();
    scaled.spec.mode = ServiceMode::Replicated { replicas };
    scaled.updated_at = now;
    let reason = reason.to_owned();
    scaled.scaling = Some(Scaling { at: now, from, to: replicas, reason })
        .filter(|_| scaled.spec.autoscale.is_some());
    deploy::keep_scale(&mut scaled);
    Action::SetService(Box::new(scaled))
}

/// Changes the number of a replicated service's tasks.
pub(super) fn scale(
    state: &State,
    name: &str,
    replicas: u32,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let ServiceMode::Replicated { replicas: previous } = service.spec.mode else {
        let why = match service.spec.mode {
            ServiceMode::ReplicatedJob { .. } => "is a job: it ends once it is complete",
            _ => "is global: it has one task on each node",
        };
        return Err(Refusal::invalid(
            format!("service `{name}` {why}"),
            "only replicated services can be scaled",
        ));
    };
    deploy::check_replicas(name, replicas)?;
    deploy::within(name, &service.spec, replicas)?;
    let read = vec![(ObjectId::Service(service.id), Counter::Spec)];
    let mut decision = Decision::new(Vec::new(), read);
    decision.done = CommandDone::Scaled { previous };
    if previous != replicas {
        decision.actions.push(scaled(service, replicas, "by hand", now));
    }
    Ok(decision)
}

/// Changes parts of a service's spec.
pub(super) fn change(
    state: &State,
    name: &str,
    change: &ServiceChange,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let mut stack = stack_now(state, service)?;
    let mut spec = as_said(&stack, &service.key, &service.spec);
    change.apply(&mut spec).map_err(|error| {
        let hint = format!("`swarmctl service inspect {name}` shows what it has");
        Refusal::invalid(format!("service `{name}` cannot be changed so: {error}"), hint)
    })?;
    for mount in &change.values.container.mounts {
        if let MountSource::Volume { volume, .. } = &mount.source {
            stack.volumes.entry(volume.clone()).or_default();
        }
    }
    stack.services.insert(service.key.clone(), spec);
    deploy::decide(state, &stack, false, &[], now)
}

/// Brings a service's previous spec back.
pub(super) fn roll_back(state: &State, name: &str, now: Timestamp) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let Some(previous) = &service.previous else {
        return Err(Refusal::conflict(
            format!("service `{name}` has no previous spec"),
            "it was not changed since it was made, or a failed update took the previous spec back",
        ));
    };
    let mut stack = stack_now(state, service)?;
    let previous = as_said(&stack, &service.key, previous);
    stack.services.insert(service.key.clone(), previous);
    let mut decision = deploy::decide(state, &stack, false, &[], now)?;
    for action in &mut decision.actions {
        if let Action::SetService(new) = action
            && new.id == service.id
        {
            update::roll_back_by_hand(service, new);
        }
    }
    if let CommandDone::Deployed { changes, .. } = &mut decision.done {
        *changes = vec![format!("service {} rolled back", service.key)];
    }
    Ok(decision)
}

/// Stops an update where it is.
pub(super) fn pause(state: &State, name: &str, now: Timestamp) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let Some(update) = service.update.as_ref().filter(|update| update.state.is_open()) else {
        return Err(Refusal::conflict(
            format!("no update of service `{name}` is under way"),
            "`swarmctl service inspect` shows how its last one ended",
        ));
    };
    let paused = match update.state {
        UpdateState::RollbackStarted => UpdateState::RollbackPaused,
        _ => UpdateState::Paused,
    };
    Ok(set(
        service,
        update.finish(
            paused,
            format!(
                "{} paused by hand",
                if paused == UpdateState::Paused { "update" } else { "rollback" }
            ),
            now,
        ),
    ))
}

/// Lets a paused update go on; what failed before is not counted any more.
pub(super) fn resume(state: &State, name: &str, now: Timestamp) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let Some(update) = service.update.as_ref().filter(|update| update.state.is_paused()) else {
        return Err(Refusal::conflict(
            format!("no update of service `{name}` is paused"),
            "`swarmctl service inspect` shows how its last one ended",
        ));
    };
    let state = match update.state {
        UpdateState::RollbackPaused => UpdateState::RollbackStarted,
        _ => UpdateState::Updating,
    };
    Ok(set(service, update.again(state, update.slots, now)))
}

/// Lets an update that holds go on: beyond its canary, or without the old tasks that stand by.
pub(super) fn promote(state: &State, name: &str, now: Timestamp) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let held = service.update.as_ref().filter(|update| update.state == UpdateState::Held);
    let Some(update) = held else {
        let hint = match service.update.as_ref().map(|update| update.state) {
            Some(UpdateState::Updating) => {
                "its canary does not run yet, or it has none; a blue-green one holds only after its switch"
            }
            Some(UpdateState::Paused) => "`swarmctl service resume` lets its update go on",
            _ => "`swarmctl service inspect` shows how its last update ended",
        };
        return Err(Refusal::conflict(format!("no update of service `{name}` holds"), hint));
    };
    Ok(set(service, update::canary::promoted(state, service, update, "promoted by hand", now)))
}

fn set(service: &Service, update: UpdateStatus) -> Decision {
    let id = ObjectId::Service(service.id);
    let read = vec![(id.clone(), Counter::Spec), (id, Counter::Desired)];
    let action = Action::SetUpdate { service: service.id, update: Box::new(update) };
    Decision::new(vec![action], read)
}

/// Takes a service out of its stack; with the last one the stack goes.
pub(super) fn remove(state: &State, name: &str, now: Timestamp) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let mut stack = stack_now(state, service)?;
    stack.services.remove(&service.key);
    if stack.services.is_empty() {
        return command::remove_stack(state, &service.stack);
    }
    let mut decision = deploy::decide(state, &stack, false, &[], now)?;
    if decision.actions.is_empty() {
        let leaving = state.stacks.get(&stack.name).map(|stack| stack.leaving.clone());
        let leaving = leaving.unwrap_or_default();
        decision.actions.push(deploy::next_revision(state, &stack, leaving, now));
    }
    decision.read.push((ObjectId::Service(service.id), Counter::Spec));
    decision.actions.push(Action::SetServiceRemoving(service.id));
    decision.done = CommandDone::Done;
    Ok(decision)
}
