//! Whether a stack can be deployed on this cluster as it is now. The first thing that is wrong is the answer.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use swarm_proto::object::{Cluster, Node, NodeStatus};
use swarm_proto::spec::{
    EndpointMode, MountSource, NetworkSpec, PortMode, PortSpec, Protocol, ServiceMode, ServiceSpec,
    StackSpec, VolumeSpec,
};

use super::super::allocate::overlap;
use super::super::network::owner;
use super::prune::{goes, meets};
use super::{autoscale, blue_green, container, external, job, node_loss, priority};
use crate::core::command::Refusal;
use crate::core::state::State;

/// More tasks than this in one service is a slip of the finger.
const MOST_REPLICAS: u32 = 100_000;
/// The most that an entry of the log can carry.
const LARGEST_SPEC: usize = 700_000;

/// Ports that every host or the cluster itself needs.
const RESERVED: [(Protocol, u16, &str); 5] = [
    (Protocol::Tcp, 22, "the hosts' sshd"),
    (Protocol::Tcp, 2377, "the cluster's controllers"),
    (Protocol::Tcp, 2378, "the controllers' metrics"),
    (Protocol::Tcp, 2387, "the cluster's agents"),
    (Protocol::Tcp, 2388, "the agents' metrics"),
];

pub(super) fn stack(state: &State, spec: &StackSpec, prune: bool) -> Result<(), Refusal> {
    name("stack", &spec.name)?;
    if spec.services.is_empty() {
        return Err(Refusal::invalid(format!("stack `{}` has no services", spec.name), ""));
    }
    let size = prost::Message::encoded_len(&swarm_proto::wire::StackSpec::from(spec));
    if size > LARGEST_SPEC {
        return Err(Refusal::invalid(
            format!("stack `{}` is too large: {size} bytes", spec.name),
            format!("a stack may take up to {LARGEST_SPEC} bytes"),
        ));
    }
    if state.stacks.get(&spec.name).is_some_and(|stack| stack.removing) {
        return Err(Refusal::conflict(
            format!("stack `{}` is still being removed", spec.name),
            "deploy it again once `swarmctl stack ls` no longer lists it",
        ));
    }
    for (key, network) in &spec.networks {
        if network.external {
            external::find_network(state, &spec.name, &network.full_name(&spec.name, key))?;
        } else {
            check_network(state, spec, key, network)?;
        }
    }
    for (key, volume) in &spec.volumes {
        if volume.external {
            external::find_volume(state, &volume.full_name(&spec.name, key))?;
        } else {
            check_volume(state, spec, key, volume)?;
        }
    }
    container::check_dependencies(spec)?;
    let mut published = BTreeMap::new();
    for (key, service) in &spec.services {
        check_service(state, spec, key, service)?;
        for port in &service.ports {
            check_port(state, spec, key, port, prune)?;
            twice(key, port, &mut published)?;
        }
    }
    Ok(())
}

/// Names are parts of names on networks and of folders.
fn name(kind: &str, name: &str) -> Result<(), Refusal> {
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = name
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.'));
    let short = name.len() <= 63;
    if first && rest && short && (kind != "stack" || !name.contains('.')) {
        return Ok(());
    }
    Err(Refusal::invalid(
        format!("`{name}` is not a valid {kind} name"),
        "lower-case letters, digits, `-` and `_`, at most 63, beginning with a letter or digit",
    ))
}

pub(in crate::core::rules) fn check_replicas(name: &str, replicas: u32) -> Result<(), Refusal> {
    if replicas <= MOST_REPLICAS {
        return Ok(());
    }
    Err(Refusal::invalid(
        format!("service `{name}` cannot have {replicas} replicas"),
        format!("at most {MOST_REPLICAS} are possible"),
    ))
}

fn check_service(
    state: &State,
    spec: &StackSpec,
    key: &str,
    service: &ServiceSpec,
) -> Result<(), Refusal> {
    let wrong = |message: String, hint: &str| Err(Refusal::invalid(message, hint));
    if key.is_empty() || key.len() > 63 {
        return wrong(format!("`{key}` is not a valid service name"), "1 to 63 characters");
    }
    if let ServiceMode::Replicated { replicas } = service.mode {
        check_replicas(key, replicas)?;
    }
    node_loss::check(key, service)?;
    priority::check(key, service)?;
    autoscale::check(key, service)?;
    job::check(key, service)?;
    blue_green::check(key, service)?;
    container::check(key, service)?;
    if service.container.image.digest.is_none() {
        let image = &service.container.image.reference;
        return wrong(format!("image `{image}` of service `{key}` is not resolved"), "");
    }
    for attachment in &service.networks {
        if !spec.networks.contains_key(&attachment.network) {
            let network = &attachment.network;
            return wrong(
                format!(
                    "service `{key}` uses network `{network}`, which the stack does not define"
                ),
                "define it under `networks:`",
            );
        }
    }
    for mount in &service.container.mounts {
        if let MountSource::Volume { volume, .. } = &mount.source
            && !spec.volumes.contains_key(volume)
        {
            return wrong(
                format!("service `{key}` uses volume `{volume}`, which the stack does not define"),
                "define it under `volumes:`",
            );
        }
    }
    let ingress = service.ports.iter().any(|port| port.mode == PortMode::Ingress);
    if ingress && service.endpoint_mode == EndpointMode::Dnsrr {
        return wrong(
            format!("service `{key}` publishes a port on every host but has no virtual address"),
            "use `endpoint_mode: vip`, or publish the port with `mode: host`",
        );
    }
    if ingress && service.networks.is_empty() {
        return wrong(
            format!("service `{key}` publishes a port but is on no network"),
            "give it a network",
        );
    }
    let removing = state.find_service(&spec.name, key).is_some_and(|service| service.removing);
    if removing {
        return Err(Refusal::conflict(
            format!("service `{key}` is still being removed"),
            "deploy again once `swarmctl service ls` no longer lists it",
        ));
    }
    Ok(())
}

fn check_network(
    state: &State,
    stack: &StackSpec,
    key: &str,
    spec: &NetworkSpec,
) -> Result<(), Refusal> {
    let name = spec.full_name(&stack.name, key);
    let old = state.find_network(&stack.name, key);
    if let Some(old) = old {
        if old.removing {
            return Err(Refusal::conflict(
                format!("network `{key}` is still being removed"),
                "deploy again in a moment",
            ));
        }
        let fixed = |spec: &NetworkSpec| (spec.name.clone(), spec.subnet, spec.internal);
        if fixed(&old.spec) != fixed(spec) {
            return Err(Refusal::conflict(
                format!("network `{key}` exists with other settings"),
                "a network's name, subnet and `internal` are fixed: remove the stack first, or use a new network",
            ));
        }
        return Ok(());
    }
    if let Some(other) = state.network_named(&name) {
        return Err(taken("network", &name, &other.stack));
    }
    let Some(subnet) = spec.subnet else { return Ok(()) };
    check_subnet(state, key, subnet)?;
    for (other_key, other) in stack.networks.range(key.to_owned()..).skip(1) {
        if other.subnet.is_some_and(|other| overlap(subnet, other)) {
            return Err(Refusal::invalid(
                format!("the subnets of networks `{key}` and `{other_key}` overlap"),
                "choose subnets without common addresses",
            ));
        }
    }
    Ok(())
}

pub(in crate::core::rules) fn check_subnet(
    state: &State,
    key: &str,
    subnet: (Ipv4Addr, u8),
) -> Result<(), Refusal> {
    let (address, length) = subnet;
    let text = format!("{address}/{length}");
    if !(8..=29).contains(&length) {
        return Err(Refusal::invalid(
            format!("subnet {text} of network `{key}` has an unusable size"),
            "use a prefix length from 8 to 29",
        ));
    }
    let others = state.networks.values();
    let taken = |o: (Ipv4Addr, u8)| overlap(subnet, o);
    if let Some(other) = others.into_iter().find(|o| taken((o.subnet, o.prefix_length))) {
        return Err(Refusal::conflict(
            format!("subnet {text} of network `{key}` overlaps network `{}`", other.name),
            "choose another subnet",
        ));
    }
    for node in state.nodes.values() {
        let routed = node.description.routed_prefixes.iter().copied();
        let own = node.description.address.map(|address| (address, 32));
        let clash = routed.chain(own).find(|prefix| prefix.1 > 0 && taken(*prefix));
        if let Some((routed, length)) = clash {
            let host = &node.description.hostname;
            return Err(Refusal::conflict(
                format!(
                    "subnet {text} of network `{key}` overlaps {routed}/{length}, which host {host} routes"
                ),
                "choose another subnet",
            ));
        }
    }
    Ok(())
}

fn check_volume(
    state: &State,
    stack: &StackSpec,
    key: &str,
    spec: &VolumeSpec,
) -> Result<(), Refusal> {
    let name = spec.full_name(&stack.name, key);
    let own = state.find_volume(&stack.name, key);
    if own.is_some_and(|volume| volume.removing) {
        return Err(Refusal::conflict(
            format!("volume `{name}` is still being removed"),
            "deploy again once `swarmctl volume ls` no longer lists it",
        ));
    }
    if let Some(own) = own.filter(|own| own.name != name) {
        return Err(Refusal::conflict(
            format!("volume `{key}` exists under the name `{}`", own.name),
            "a volume keeps its name: remove it first, or use a new key",
        ));
    }
    let other = state.volume_named(&name).filter(|other| own.is_none_or(|own| own.id != other.id));
    other.map_or(Ok(()), |other| Err(taken("volume", &name, &other.stack)))
}

fn taken(kind: &str, name: &str, stack: &str) -> Refusal {
    Refusal::conflict(
        format!("{kind} `{name}` belongs to {}", owner(stack)),
        "choose another name, or call it `external` to share it",
    )
}

/// One port of one protocol can be published once in a file.
fn twice<'a>(
    key: &'a str,
    port: &PortSpec,
    published: &mut BTreeMap<(Protocol, u16), Vec<(&'a str, PortSpec)>>,
) -> Result<(), Refusal> {
    let Some(number) = port.published else { return Ok(()) };
    let same = published.entry((port.protocol, number)).or_default();
    let clash = same.iter().find(|(_, other)| {
        let both_host = port.mode == PortMode::Host && other.mode == PortMode::Host;
        let apart = port.host_address.is_some()
            && other.host_address.is_some()
            && port.host_address != other.host_address;
        !(both_host || apart)
    });
    if let Some((other, _)) = clash {
        return Err(Refusal::invalid(
            format!("services `{other}` and `{key}` both publish port {number}/{}", port.protocol),
            "publish one of them on another port",
        ));
    }
    same.push((key, port.clone()));
    Ok(())
}

fn check_port(
    state: &State,
    stack: &StackSpec,
    key: &str,
    port: &PortSpec,
    prune: bool,
) -> Result<(), Refusal> {
    let Some(number) = port.published else { return Ok(()) };
    let shown = format!("port {number}/{}", port.protocol);
    if let Some(owner) = reserved_for(state, port.protocol, number) {
        return Err(Refusal::invalid(
            format!("{shown} of service `{key}` is reserved for {owner}"),
            "publish another port",
        ));
    }
    if let Some(other) = other_publisher(state, stack, key, port, prune) {
        return Err(Refusal::conflict(
            format!("{shown} of service `{key}` is already published by service `{other}`"),
            "publish another port, or remove that service first",
        ));
    }
    let own = state.find_service(&stack.name, key);
    let has_it = own.is_some_and(|own| own.spec.ports.contains(port));
    if has_it { Ok(()) } else { listener(state, key, port, &shown) }
}

/// Whose port it is: the cluster's own programs listen on it on every host, or on some.
fn reserved_for(state: &State, protocol: Protocol, number: u16) -> Option<&'static str> {
    let fixed = RESERVED.iter().find(|(p, n, _)| (*p, *n) == (protocol, number));
    let vxlan = state.cluster.as_ref().map_or(Cluster::VXLAN_PORT, |cluster| cluster.vxlan_port);
    let controller = |node: &Node| {
        let address = node.controller_address.as_ref()?;
        address.rsplit_once(':')?.1.parse().ok()
    };
    let mut nodes = state.nodes.values();
    match (fixed, protocol) {
        (Some((_, _, owner)), _) => Some(owner),
        (None, Protocol::Udp) => (number == vxlan).then_some("the overlay networks"),
        (None, Protocol::Tcp) => nodes.find_map(|node| {
            if controller(node) == Some(number) {
                return Some("the cluster's controllers");
            }
            (node.description.agent_port == number).then_some("the cluster's agents")
        }),
    }
}

/// A service, not of this deploy, that publishes the port.
fn other_publisher(
    state: &State,
    stack: &StackSpec,
    key: &str,
    port: &PortSpec,
    prune: bool,
) -> Option<String> {
    let other = state.services.values().find(|service| {
        let named = service.key == key || stack.services.contains_key(&service.key);
        let redeployed = service.stack == stack.name && (named || goes(state, service, prune));
        let clash = service.ports.iter().any(|taken| meets(taken, port));
        !redeployed && clash
    });
    other.map(|service| service.name())
}

/// Something outside of the cluster that already listens on the port.
fn listener(state: &State, key: &str, port: &PortSpec, shown: &str) -> Result<(), Refusal> {
    let taken_on = |node: &Node| {
        let listeners = &node.description.listeners;
        let found = listeners.iter().find(|listener| {
            let same_place = match port.host_address {
                None => true,
                Some(address) => listener.address.is_unspecified() || listener.address == address,
            };
            Some(listener.port) == port.published
                && listener.protocol == port.protocol
                && same_place
        });
        found.map(|listener| listener.owner.clone())
    };
    let nodes: Vec<_> =
        state.nodes.values().filter(|node| node.status == NodeStatus::Ready).collect();
    let taken = nodes.iter().filter_map(|node| Some((node, taken_on(node)?)));
    let taken: Vec<_> = taken.collect();
    // A port of the task's own host may be free on some: then the scheduler goes there.
    let blocked = match port.mode {
        PortMode::Ingress => !taken.is_empty(),
        PortMode::Host => !nodes.is_empty() && taken.len() == nodes.len(),
    };
    let Some((node, owner)) = taken.first().filter(|_| blocked) else { return Ok(()) };
    Err(Refusal::conflict(
        format!(
            "{shown} of service `{key}` is already in use by {owner} on node {}",
            node.description.hostname
        ),
        "publish another port, or stop what uses it",
    ))
}
