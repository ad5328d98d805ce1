//! What every node needs to know of a network: worked out once for each version of it, and told as what changed since
//! the version that a node knows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use imbl::OrdMap;
use swarm_proto::assignment::{
    AssignmentDiff, NetworkAssignment, NetworkChange, NetworkIngress, NetworkPeer, NetworkVip,
};
use swarm_proto::id::{NetworkId, NodeId};
use swarm_proto::object::{Cluster, Network, Service, Task};
use swarm_proto::spec::{EndpointMode, NetworkAttachmentSpec, PortMode};

use crate::core::state::{State, is_backend, is_peer, tasks_of};

/// How many changes of a network are kept. Altogether they may speak of so large a share of its members and names, or of
/// so many where it is small: from further back, a node is told the whole.
const CHANGES: usize = 64;
const SHARE: usize = 2;
const FEW: usize = 256;

/// What a node was told last of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// This version of it, and the node's own place.
    Version(u64, (Ipv4Addr, [u8; 6])),
    /// To remove it.
    Gone,
}

impl Told {
    /// Whether there is more to tell, now that this is the network's version; `None` where there is no network.
    pub(super) fn is_before(self, version: Option<u64>) -> bool {
        match self {
            Self::Version(told, _) => version.is_none_or(|version| version > told),
            Self::Gone => false,
        }
    }
}

/// Networks on which the node has a place that it needs. Of those whose place it does not need any more, each is told
/// once, whether or not the node was ever told of it: it loses the place when it confirms that the network is gone.
pub(super) fn tell(
    state: &State,
    node: NodeId,
    (told, takes_changes): (&mut BTreeMap<NetworkId, Told>, bool),
    cache: &mut NetworkCache,
    diff: &mut AssignmentDiff,
) {
    let mut wanted: BTreeMap<NetworkId, Told> = BTreeMap::new();
    let mut gone: BTreeSet<NetworkId> = BTreeSet::new();
    for network in state.networks.values() {
        let Some(gateway) = network.gateways.iter().find(|gateway| gateway.node == node) else {
            continue;
        };
        let before = told.get(&network.id).copied();
        if !state.index.needs(network.id, node) {
            if before != Some(Told::Gone) {
                gone.insert(network.id);
            }
            wanted.insert(network.id, Told::Gone);
            continue;
        }
        let version = state.network_versions.get(&network.id).copied().unwrap_or(0);
        let own = (gateway.address, gateway.mac);
        let now = Told::Version(version, own);
        wanted.insert(network.id, now);
        if before == Some(now) {
            continue;
        }
        let cached = cache.network(state, network, version);
        let changes = match before {
            Some(Told::Version(before, place)) if takes_changes && place == own => {
                cached.changes_since(before)
            }
            _ => None,
        };
        match changes {
            Some(changes) => diff.network_changes.extend(changes.cloned()),
            None => diff.networks.push(cached.whole(own)),
        }
    }
    let lost = told.iter().filter(|(id, told)| **told != Told::Gone && !wanted.contains_key(id));
    gone.extend(lost.map(|(id, _)| *id));
    diff.removed_networks.extend(gone);
    *told = wanted;
}

/// Networks as they were worked out last.
#[derive(Default)]
pub(super) struct NetworkCache {
    networks: BTreeMap<NetworkId, Cached>,
}

/// A network without any node's own gateway, and how it became so.
struct Cached {
    network: NetworkAssignment,
    /// Each begins with the version to which the one before leads; the last one leads to the network's.
    changes: VecDeque<NetworkChange>,
}

impl NetworkCache {
    fn network(&mut self, state: &State, network: &Network, version: u64) -> &Cached {
        match self.networks.entry(network.id) {
            Entry::Vacant(entry) => entry.insert(Cached {
                network: build(state, network, version),
                changes: VecDeque::new(),
            }),
            Entry::Occupied(entry) => {
                let cached = entry.into_mut();
                if cached.network.version != version {
                    cached.become_version(build(state, network, version));
                }
                cached
            }
        }
    }

    /// Forgets networks that are gone.
    pub(super) fn keep_only(&mut self, state: &State) {
        self.networks.retain(|id, _| state.networks.contains_key(id));
    }
}

impl Cached {
    fn become_version(&mut self, network: NetworkAssignment) {
        match NetworkChange::between(&self.network, &network) {
            Some(change) => self.changes.push_back(change),
            None => self.changes.clear(),
        }
        let most = FEW.max((network.peers.len() + network.names.len()) / SHARE);
        let mut entries: usize = self.changes.iter().map(NetworkChange::entries).sum();
        while self.changes.len() > CHANGES || entries > most {
            let Some(oldest) = self.changes.pop_front() else { break };
            entries -= oldest.entries();
        }
        self.network = network;
    }

    /// What leads from a version to the network's, where that is known.
    fn changes_since(&self, version: u64) -> Option<impl Iterator<Item = &NetworkChange>> {
        let first = self.changes.iter().position(|change| change.from == version)?;
        Some(self.changes.range(first..))
    }

    fn whole(&self, gateway: (Ipv4Addr, [u8; 6])) -> NetworkAssignment {
        NetworkAssignment { gateway: Some(gateway), ..self.network.clone() }
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
        names: OrdMap::new(),
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
    assignment.sorted()
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
            assignment.names.entry(name).or_default().extend(&answers);
        }
        // Services of several stacks may have one key.
        for name in [service.key.clone(), service.name()] {
            assignment.names.entry(format!("tasks.{name}")).or_default().extend(&backends);
        }
        assignment.vips.extend(vip.map(|vip| NetworkVip {
            at: vip.address,
            backends: backends.clone(),
            wakes,
        }));
    }
    if state.index.first_network(service) == Some(network.id) {
        let ports = service.ports.iter().filter(|port| port.mode == PortMode::Ingress);
        assignment.ingress.extend(ports.map(|port| NetworkIngress {
            at: *port,
            backends: backends.clone(),
            wakes,
        }));
    }
}
