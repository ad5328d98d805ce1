//! Networks and volumes that are not the stack's own: that they are there, and which of them each service means.

use std::borrow::Cow;

use swarm_proto::object::{Network, Volume};
use swarm_proto::spec::{MountSource, ServiceSpec, StackSpec};

use super::super::network::owner;
use crate::core::command::Refusal;
use crate::core::state::{State, Stored};

/// The spec of a stack in which each service says under which full names it uses what is external.
pub(super) fn resolved<'a>(
    state: &State,
    spec: Cow<'a, StackSpec>,
) -> Result<Cow<'a, StackSpec>, Refusal> {
    let says = |service: &ServiceSpec| {
        let mounts = &service.container.mounts;
        service.networks.iter().any(|network| network.external.is_some())
            || mounts
                .iter()
                .any(|mount| matches!(mount.source, MountSource::Volume { external: Some(_), .. }))
    };
    let none = !spec.networks.values().any(|network| network.external)
        && !spec.volumes.values().any(|volume| volume.external);
    if none && !spec.services.values().any(says) {
        return Ok(spec);
    }
    for (key, network) in spec.networks.iter().filter(|(_, network)| network.external) {
        find_network(state, &spec.name, &network.full_name(&spec.name, key))?;
    }
    for (key, volume) in spec.volumes.iter().filter(|(_, volume)| volume.external) {
        find_volume(state, &volume.full_name(&spec.name, key))?;
    }
    let mut spec = spec.into_owned();
    spec.name_externals();
    for (key, service) in &spec.services {
        twice(state, &spec.name, key, service)?;
    }
    Ok(Cow::Owned(spec))
}

pub(super) fn find_network<'a>(
    state: &'a State,
    stack: &str,
    name: &str,
) -> Result<&'a Stored<Network>, Refusal> {
    let Some(network) = state.network_named(name) else {
        return Err(Refusal::not_found(
            format!("there is no network `{name}`, which the stack calls external"),
            format!("make it first: `swarmctl network create {name}`"),
        ));
    };
    let goes = |owner: &str| state.stacks.get(owner).is_some_and(|stack| stack.removing);
    if network.removing || (network.stack != stack && goes(&network.stack)) {
        return Err(Refusal::conflict(
            format!("network `{name}`, which the stack calls external, is being removed"),
            format!("make it anew once it is gone: `swarmctl network create {name}`"),
        ));
    }
    Ok(network)
}

pub(super) fn find_volume<'a>(state: &'a State, name: &str) -> Result<&'a Stored<Volume>, Refusal> {
    let Some(volume) = state.volume_named(name) else {
        return Err(Refusal::not_found(
            format!("there is no volume `{name}`, which the stack calls external"),
            format!("make it first: `swarmctl volume create {name}`"),
        ));
    };
    if volume.removing {
        return Err(Refusal::conflict(
            format!("volume `{name}`, which the stack calls external, is being removed"),
            format!("make it anew once it is gone: `swarmctl volume create {name}`"),
        ));
    }
    Ok(volume)
}

/// A task has one address on a network, under whatever keys the file knows it.
fn twice(state: &State, stack: &str, key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for attachment in &service.networks {
        let Some(network) = state.network_of(stack, attachment) else { continue };
        if seen.contains(&network.id) {
            let (name, owner) = (&network.name, owner(&network.stack));
            return Err(Refusal::invalid(
                format!("service `{key}` is on network `{name}` of {owner} under two keys"),
                "leave one of them",
            ));
        }
        seen.push(network.id);
    }
    Ok(())
}
