//! The commands that make a volume outside of stacks, and remove any.

use std::collections::BTreeMap;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::VolumeId;
use swarm_proto::object::{NodeStatus, Volume};
use swarm_proto::spec::{MountSource, ServiceSpec, VolumeSpec};

use super::command::Decision;
use super::name;
use super::network::{LONGEST_NAME, owner};
use crate::core::command::Refusal;
use crate::core::state::{State, is_unfinished, tasks_of};

/// A new volume, beside so many that the same command makes. `stack` is empty for one that belongs to none.
pub(super) fn made(
    state: &State,
    stack: &str,
    key: &str,
    name: String,
    spec: &VolumeSpec,
    before: u64,
) -> Volume {
    Volume {
        id: VolumeId(state.next.volume + before),
        stack: stack.to_owned(),
        key: key.to_owned(),
        name,
        spec: spec.clone(),
        holdings: BTreeMap::new(),
        removing: false,
    }
}

pub(super) fn create(
    state: &State,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Decision, Refusal> {
    name::check("volume", name, LONGEST_NAME)?;
    if state.volume_named(name).is_some_and(|volume| volume.removing) {
        return Err(Refusal::conflict(
            format!("volume `{name}` is still being removed"),
            "try again once `swarmctl volume ls` no longer lists it",
        ));
    }
    if let Some(other) = state.volume_named(name) {
        return Err(Refusal::conflict(
            format!("volume `{name}` exists already: it belongs to {}", owner(&other.stack)),
            "choose another name, or remove it first",
        ));
    }
    let (labels, name) = (labels.clone(), name.to_owned());
    let spec = VolumeSpec { name: Some(name.clone()), labels, external: false };
    let volume = made(state, "", &name.clone(), name, &spec, 0);
    Ok(Decision::new(vec![Action::SetVolume(Box::new(volume))], Vec::new()))
}

/// Whether a service of the volume's own stack mounts it under its key.
fn mounts(spec: &ServiceSpec, key: &str) -> bool {
    let own = |source: &MountSource| match source {
        MountSource::Volume { volume, external: None, .. } => volume == key,
        _ => false,
    };
    spec.container.mounts.iter().any(|mount| own(&mount.source))
}

/// The full name of a service that uses a volume, or whose tasks still do.
fn user(state: &State, volume: &Volume) -> Option<String> {
    let services = state.services_of(&volume.stack);
    let uses = services.into_iter().find(|service| {
        let tasks = || tasks_of(state, service.id).filter(|task| is_unfinished(task));
        mounts(&service.spec, &volume.key)
            || tasks()
                .any(|task| state.task_spec(task).is_some_and(|spec| mounts(spec, &volume.key)))
    });
    let uses = uses.or_else(|| state.users_of_volume(&volume.name).next());
    uses.map(|service| service.name())
}

pub(super) fn remove(state: &State, name: &str, force: bool) -> Result<Decision, Refusal> {
    let Some(volume) = state.volume_named(name) else {
        return Err(Refusal::not_found(
            format!("there is no volume `{name}`"),
            "`swarmctl volume ls` lists the volumes",
        ));
    };
    if let Some(service) = user(state, volume) {
        return Err(Refusal::conflict(
            format!("volume `{name}` is in use by service `{service}`"),
            "remove the stack, or deploy it without the volume, first",
        ));
    }
    let down: Vec<_> = volume
        .holdings
        .keys()
        .filter_map(|id| state.nodes.get(id))
        .filter(|node| node.status != NodeStatus::Ready)
        .collect();
    if !down.is_empty() && !force {
        let names: Vec<_> = down.iter().map(|n| n.description.hostname.as_str()).collect();
        return Err(Refusal::conflict(
            format!("volume `{name}` has a copy on {}, which cannot be reached", names.join(", ")),
            "start the node, or forget its copy by force",
        ));
    }
    let read = vec![
        (ObjectId::Volume(volume.id), Counter::Spec),
        (ObjectId::Volume(volume.id), Counter::Status),
    ];
    let mut actions = Vec::new();
    if !volume.removing {
        actions.push(Action::SetVolumeRemoving(volume.id));
    }
    for node in down {
        let (volume, node) = (volume.id, node.id);
        actions.push(Action::SetHolding { volume, node, holding: None });
    }
    Ok(Decision::new(actions, read))
}
