//! Whether a service can be updated blue-green: with all its tasks twice for a time.

use swarm_proto::object::{Availability, Node, NodeStatus};
use swarm_proto::spec::{
    MountSource, NetworkMode, PortMode, ServiceMode, ServiceSpec, StackSpec, UpdateOrder,
};

use crate::core::command::Refusal;
use crate::core::rules::update::needs_new_tasks;
use crate::core::state::{State, Stored};

fn is_blue_green(service: &ServiceSpec) -> bool {
    service.update.order == UpdateOrder::BlueGreen
}

/// Refuses what cannot be there twice.
pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let wrong = |why: String, hint: &str| {
        let message = format!("service `{key}` cannot be updated blue-green: {why}");
        Err(Refusal::invalid(message, hint))
    };
    if service.rollback.order == UpdateOrder::BlueGreen {
        return Err(Refusal::invalid(
            format!("the rollback of service `{key}` cannot be blue-green by itself"),
            "say it of its updates: within their `hold`, a rollback is a switch back",
        ));
    }
    if !is_blue_green(service) {
        return Ok(());
    }
    if service.canary.is_some() {
        let hint = "remove `canary`, or use `order: start-first`";
        return wrong("it has a canary, and clients are led to all of it at once".to_owned(), hint);
    }
    if service.container.sharing.network == NetworkMode::Host {
        let why = "its old and new tasks would listen on the same ports of a host".to_owned();
        return wrong(why, "use a network of its own, or `order: stop-first`");
    }
    if let Some(port) = service.ports.iter().find(|port| port.mode == PortMode::Host) {
        let why = format!(
            "port {}/{} of a task's host is there once, and old and new tasks want it",
            port.published.unwrap_or(port.target),
            port.protocol
        );
        return wrong(why, "publish it with `mode: ingress`, or use `order: stop-first`");
    }
    let written = service.container.mounts.iter().filter(|mount| !mount.read_only);
    let volume = written.into_iter().find_map(|mount| match &mount.source {
        MountSource::Volume { volume, .. } => Some(volume),
        _ => None,
    });
    if let Some(volume) = volume {
        let why = format!("old and new tasks would write volume `{volume}` at once");
        return wrong(why, "mount it read only, or use `order: stop-first`");
    }
    Ok(())
}

/// Says where the nodes have no room for all tasks twice.
pub(super) fn warnings(state: &State, stack: &StackSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, service) in stack.services.iter().filter(|(_, service)| is_blue_green(service)) {
        let Some(old) = state.find_service(&stack.name, key) else { continue };
        let ServiceMode::Replicated { replicas } = service.mode else { continue };
        if !needs_new_tasks(&old.spec, service) {
            continue;
        }
        let room = room(state, service, replicas);
        if room < replicas {
            warnings.push(format!(
                "service `{key}` is updated blue-green and needs room for {replicas} more tasks; the nodes have room \
                 for {room}, so the update waits for more"
            ));
        }
    }
    warnings
}

/// For how many more tasks the nodes have what each reserves, as far as that is asked for.
fn room(state: &State, service: &ServiceSpec, wanted: u32) -> u32 {
    let resources = &service.container.resources;
    if resources.reserves_nothing() {
        return wanted;
    }
    let takes_new = |node: &&Stored<Node>| {
        node.status == NodeStatus::Ready
            && node.availability == Availability::Active
            && service.placement.allows(node)
    };
    let mut found = 0;
    for node in state.nodes.values().filter(takes_new) {
        let mut reserved = state.index.reserved.get(&node.id).cloned().unwrap_or_default();
        while found < wanted
            && let Ok(given) = reserved.give(&node.description, resources)
        {
            reserved.note(resources, &given, true);
            found += 1;
        }
    }
    found
}
