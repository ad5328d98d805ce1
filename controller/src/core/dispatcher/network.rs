//! What every node needs to know of a network: worked out once for each version of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use swarm_proto::assignment::{NetworkAssignment, NetworkIngress, NetworkPeer, NetworkVip};
use swarm_proto::id::NetworkId;
use swarm_proto::object::{Cluster, Network, Service, Task};
use swarm_proto::spec::{EndpointMode, NetworkAttachmentSpec, PortMode};

use crate::core::state::{State, is_backend, is_peer, tasks_of};

/// The last version of each network that was worked out.
#[derive(Default)]
pub(super) struct NetworkCache {
    networks: BTreeMap<NetworkId, (u64, Arc<NetworkAssignment>)>,
}

impl NetworkCache {
    /// The network without any node's own gateway.
    pub(super) fn assignment(
        &mut self,
        state: &State,
        network: &Network,
        version: u64,
    ) -> Arc<NetworkAssignment> {
        if let Some((known, assignment)) = self.networks.get(&network.id)
            && *known == version
        {
            return assignment.clone();
        }
        let assignment = Arc::new(build(state, network, version));
        self.networks.insert(network.id, (version, assignment.clone()));
        assignment
    }

    /// Forgets networks that are gone.
    pub(super) fn keep_only(&mut self, state: &State) {
        self.networks.retain(|id, _| state.networks.contains_key(id));
    }
}

fn address_on(task: &Task, network: NetworkId) -> Option<Ipv4Addr> {
    let mut attachments = task.attachments.iter();
    attachments.find(|attachment| attachment.network == network).map(|a| a.address)
}

fn build(state: &State, network: &Network, version: u64) -> NetworkAssignment {
    let mut assignment = NetworkAssignment {
        id: network.id,
        name: network.name.clone(),
        version,
        vni: network.vni,
        vxlan_port: state
            .cluster
            .as_ref()
            .map_or(Cluster::VXLAN_PORT, |cluster| cluster.vxlan_port),
        subnet: network.subnet,
        prefix_length: network.prefix_length,
        internal: network.spec.internal,
        gateway: None,
        peers: Vec::new(),
        names: BTreeMap::new(),
        vips: Vec::new(),
        ingress: Vec::new(),
    };
    for gateway in &network.gateways {
        let host = state.nodes.get(&gateway.node).and_then(|node| node.description.address);
        assignment.peers.extend(host.map(|host| NetworkPeer {
            address: gateway.address,
            mac: gateway.mac,
            host,
        }));
    }
    for service in state.services_of(&network.stack) {
        add_service(state, network, service, &mut assignment);
    }
    let others = state.users_of_network(&network.name);
    for service in others.filter(|service| service.stack != network.stack) {
        add_service(state, network, service, &mut assignment);
    }
    assignment.peers.sort_unstable();
    assignment
}

fn add_service(
    state: &State,
    network: &Network,
    service: &Service,
    assignment: &mut NetworkAssignment,
) {
    let mut backends = Vec::new();
    for task in tasks_of(state, service.id) {
        let mut attachments = task.attachments.iter();
        let Some(place) = attachments.find(|place| place.network == network.id) else { continue };
        let node = task.node.and_then(|node| state.nodes.get(&node));
        if let Some(host) = node.and_then(|node| node.description.address)
            && is_peer(task)
        {
            let (address, mac) = (place.address, place.mac);
            assignment.peers.push(NetworkPeer { address, mac, host });
        }
        if is_backend(task)
            && let Some(address) = address_on(task, network.id)
        {
            backends.push(address);
            assignment.names.entry(state.task_name(task.id)).or_default().push(address);
        }
    }
    let may_be_at_zero = service.spec.autoscale.as_ref().is_some_and(|scaled| scaled.min == 0);
    let wakes = (may_be_at_zero && !service.removing).then_some(service.id);
    let is_on = |attachment: &&NetworkAttachmentSpec| {
        state.index.network_of(&service.stack, attachment) == Some(network.id)
    };
    let attached = service.spec.networks.iter().find(is_on);
    if let Some(attached) = attached {
        let vip = service.vips.iter().find(|vip| vip.network == network.id);
        let answers = match (service.spec.endpoint_mode, vip) {
            (EndpointMode::Vip, Some(vip)) => vec![vip.address],
            (EndpointMode::Vip, None) => Vec::new(),
            (EndpointMode::Dnsrr, _) => backends.clone(),
        };
        let names = [service.key.clone(), service.name()];
        for name in names.into_iter().chain(attached.aliases.iter().cloned()) {
            let all = assignment.names.entry(name).or_default();
            all.extend(
                answers.iter().filter(|answer| !all.contains(answer)).copied().collect::<Vec<_>>(),
            );
        }
        // Services of several stacks may have one key.
        for name in [service.key.clone(), service.name()] {
            assignment.names.entry(format!("tasks.{name}")).or_default().extend(&backends);
        }
        assignment.vips.extend(vip.map(|vip| NetworkVip {
            address: vip.address,
            backends: backends.clone(),
            wakes,
        }));
    }
    if state.index.first_network(service) == Some(network.id) {
        let ports = service.ports.iter().filter(|port| port.mode == PortMode::Ingress);
        assignment.ingress.extend(ports.map(|port| NetworkIngress {
            port: *port,
            backends: backends.clone(),
            wakes,
        }));
    }
}
