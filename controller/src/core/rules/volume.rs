//! The command that removes a volume.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::object::{NodeStatus, Volume};
use swarm_proto::spec::{MountSource, ServiceSpec};

use super::command::Decision;
use crate::core::command::Refusal;
use crate::core::state::{State, is_unfinished, tasks_of};

/// Whether a service mounts the volume with this key.
fn mounts(spec: &ServiceSpec, key: &str) -> bool {
    spec.container
        .mounts
        .iter()
        .any(|mount| matches!(&mount.source, MountSource::Volume { volume, .. } if volume == key))
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
    uses.map(|service| service.name())
}

pub(super) fn remove(state: &State, name: &str, force: bool) -> Result<Decision, Refusal> {
    let Some(volume) = state.volumes.values().find(|volume| volume.name == name) else {
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
