//! Gives out addresses and port numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NetworkId, NodeId, Timestamp};
use swarm_proto::object::{AllocatedPort, Attachment, Network, NodeAttachment, Service, Task, Vip};
use swarm_proto::spec::{EndpointMode, PortSpec, Protocol};

use super::reap::may_leave;
use super::{Observed, Plan};
use crate::core::state::{State, Stored, is_for};

/// Ports that are given out when the user names none.
const PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
/// Tasks that get addresses in one pass.
const TASKS: usize = 500;

/// See the module.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut taken = Taken::new(state);
    for id in &state.index.unallocated {
        if let Some(service) = state.services.get(id) {
            endpoint(state, service, &mut taken, &mut plan);
        }
    }
    gateways(state, observed, now, &mut taken, &mut plan);
    for id in state.index.unaddressed.iter().take(TASKS) {
        if let Some(task) = state.tasks.get(id) {
            address_task(state, task, &mut taken, &mut plan);
        }
    }
    plan
}

/// What this pass has given out on top of the state.
struct Taken<'a> {
    state: &'a State,
    addresses: BTreeSet<(NetworkId, u32)>,
    cursors: BTreeMap<NetworkId, u32>,
    /// How many addresses are left on each network that was looked at.
    left: BTreeMap<NetworkId, u32>,
    /// Tasks of each network that got addresses.
    tasks: BTreeMap<NetworkId, u32>,
    ports: BTreeSet<(Protocol, u16)>,
    mac: u64,
}

impl<'a> Taken<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            state,
            addresses: BTreeSet::new(),
            cursors: BTreeMap::new(),
            left: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ports: BTreeSet::new(),
            mac: state.next.mac,
        }
    }

    fn left(&mut self, network: &Network) -> u32 {
        let state = self.state;
        let range = (network.id, 0)..=(network.id, u32::MAX);
        *self.left.entry(network.id).or_insert_with(|| {
            let held = state.index.addresses.range(range.clone()).count();
            let held = held + state.quarantine.range(range).count();
            usable(network).saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
        })
    }

    /// An address for a task. The nodes that may get it need a place on the network too, and go first.
    fn task_address(&mut self, network: &Network) -> Option<Ipv4Addr> {
        let missing = self.state.nodes.len().saturating_sub(network.gateways.len());
        let given = self.tasks.get(&network.id).copied().unwrap_or(0);
        let homeless = self.state.index.unplaced.len() + given as usize + 1;
        let reserved = u32::try_from(missing.min(homeless)).unwrap_or(u32::MAX);
        if self.left(network) <= reserved {
            return None;
        }
        *self.tasks.entry(network.id).or_default() += 1;
        self.address(network)
    }

    /// The next free address after the last one given out, without the first (the network) and last (broadcast).
    fn address(&mut self, network: &Network) -> Option<Ipv4Addr> {
        let first = u32::from(network.subnet);
        let usable = usable(network);
        let last = self.cursors.get(&network.id).or_else(|| self.state.cursors.get(&network.id));
        let cursor = last.copied().unwrap_or(first);
        let start = cursor.wrapping_sub(first);
        let offsets = (0..usable).map(|step| start.wrapping_add(step) % usable + 1);
        let free = |address: &u32| {
            let key = (network.id, *address);
            self.state.is_free(&key) && !self.addresses.contains(&key)
        };
        let address = offsets.map(|offset| first + offset).find(free)?;
        self.addresses.insert((network.id, address));
        self.cursors.insert(network.id, address);
        let left = self.left(network);
        self.left.insert(network.id, left.saturating_sub(1));
        Some(address.into())
    }

    /// The next link address: locally administered and counted.
    fn mac(&mut self) -> [u8; 6] {
        let [.., a, b, c, d] = self.mac.to_be_bytes();
        self.mac += 1;
        [0x02, 0x53, a, b, c, d]
    }
}

/// Addresses of a network's subnet without the first and the last.
fn usable(network: &Network) -> u32 {
    let size = 1_u32.checked_shl(32 - u32::from(network.prefix_length)).unwrap_or(u32::MAX);
    size.saturating_sub(2)
}

/// A service's virtual addresses and port numbers.
fn endpoint(state: &State, service: &Service, taken: &mut Taken<'_>, plan: &mut Plan) {
    let mut vips = Vec::new();
    if service.spec.endpoint_mode == EndpointMode::Vip {
        for attachment in &service.spec.networks {
            let Some(network) = state.network_of(&service.stack, attachment) else { return };
            let kept = service.vips.iter().find(|vip| vip.network == network.id).copied();
            let vip = kept
                .or_else(|| Some(Vip { network: network.id, address: taken.address(network)? }));
            vips.extend(vip);
        }
    }
    let mut ports = Vec::new();
    for port in &service.spec.ports {
        let kept = service
            .ports
            .iter()
            .find(|allocated| is_for(allocated, port) && !ports.contains(*allocated));
        let number = port.published.or_else(|| kept.map(|kept| kept.published));
        let number = number.or_else(|| free_port(state, port.protocol, &taken.ports));
        if let Some(published) = number {
            taken.ports.insert((port.protocol, published));
            ports.push(allocated(port, published));
        }
    }
    if vips != service.vips || ports != service.ports {
        let read = [(ObjectId::Service(service.id), Counter::Spec)];
        let service = service.id;
        plan.add(state, &read, vec![Action::SetServiceEndpoint { service, vips, ports }]);
    }
}

fn allocated(port: &PortSpec, published: u16) -> AllocatedPort {
    AllocatedPort {
        published,
        target: port.target,
        protocol: port.protocol,
        mode: port.mode,
        host_address: port.host_address,
    }
}

fn free_port(state: &State, protocol: Protocol, used: &BTreeSet<(Protocol, u16)>) -> Option<u16> {
    PORTS.into_iter().find(|number| {
        let listens = state.nodes.values().any(|node| {
            let listeners = &node.description.listeners;
            listeners.iter().any(|l| l.protocol == protocol && l.port == *number)
        });
        let published = state.services.values().any(|service| {
            service.ports.iter().any(|p| p.protocol == protocol && p.published == *number)
        });
        !listens && !published && !used.contains(&(protocol, *number))
    })
}

/// Each node that needs a network gets a place on it; one that does not need it any more loses its place once its
/// agent has removed the network.
fn gateways(
    state: &State,
    observed: &Observed,
    now: Timestamp,
    taken: &mut Taken<'_>,
    plan: &mut Plan,
) {
    let leaving = observed.gone_networks.iter().map(|(network, _)| *network);
    let removing = state.networks.values().filter(|network| network.removing).map(|n| n.id);
    let mut looked_at: BTreeSet<NetworkId> = state.index.gateways.iter().copied().collect();
    looked_at.extend(leaving);
    looked_at.extend(removing);
    for network in looked_at.iter().filter_map(|id| state.networks.get(id)) {
        let stays = |gateway: &NodeAttachment, plan: &mut Plan| {
            !may_leave(state, observed, network, gateway.node, now, plan)
        };
        let mut gateways = network.gateways.clone();
        gateways.retain(|gateway| stays(gateway, plan));
        let has: BTreeSet<NodeId> = gateways.iter().map(|gateway| gateway.node).collect();
        let missing = |node: &&NodeId| {
            !network.removing && !has.contains(node) && state.index.needs(network.id, **node)
        };
        for node in state.nodes.keys().filter(missing) {
            if let Some(address) = taken.address(network) {
                gateways.push(NodeAttachment { node: *node, address, mac: taken.mac() });
            }
        }
        if gateways != network.gateways || state.index.gateways.contains(&network.id) {
            let read = [(ObjectId::Network(network.id), Counter::Desired)];
            let network = network.id;
            plan.add(state, &read, vec![Action::SetGateways { network, gateways }]);
        }
    }
}

/// A task's address on each of its networks; with them it becomes pending.
fn address_task(state: &State, task: &Stored<Task>, taken: &mut Taken<'_>, plan: &mut Plan) {
    let (Some(service), Some(spec)) = (state.services.get(&task.id.service), state.task_spec(task))
    else {
        return;
    };
    let mut attachments = Vec::new();
    for attachment in &spec.networks {
        let Some(network) = state.network_of(&service.stack, attachment) else {
            return wait(state, task, format!("waits for network {}", attachment.network), plan);
        };
        let Some(address) = taken.task_address(network) else {
            let (subnet, length) = (network.subnet, network.prefix_length);
            let message =
                format!("no address is free on network {} ({subnet}/{length})", network.name);
            return wait(state, task, message, plan);
        };
        attachments.push(Attachment { network: network.id, address, mac: taken.mac() });
    }
    let read = [(ObjectId::Task(task.id), Counter::Desired)];
    plan.add(state, &read, vec![Action::SetTaskAddresses { task: task.id, attachments }]);
}

/// Says why a task waits, when that is news.
pub(super) fn wait(state: &State, task: &Stored<Task>, message: String, plan: &mut Plan) {
    if task.status.message != message {
        let read = [(ObjectId::Task(task.id), Counter::Status)];
        plan.add(state, &read, vec![Action::SetTaskMessage { task: task.id, message }]);
    }
}

/// A subnet of the pools that overlaps no network and nothing that a host routes. Successive networks get successive
/// subnets, the pools one after the other.
pub(super) fn free_subnet(state: &State, also_taken: &[(Ipv4Addr, u8)]) -> Option<(Ipv4Addr, u8)> {
    let cluster = state.cluster.as_ref()?;
    let networks = state.networks.values().map(|network| (network.subnet, network.prefix_length));
    let routed = state.nodes.values().flat_map(|node| node.description.routed_prefixes.clone());
    let addresses = state.nodes.values().filter_map(|node| Some((node.description.address?, 32)));
    let taken: Vec<(Ipv4Addr, u8)> = networks
        .chain(routed)
        .chain(addresses)
        .chain(also_taken.iter().copied())
        .filter(|(_, prefix_length)| *prefix_length > 0)
        .collect();
    let (pools, wanted) = (&cluster.address_pools, cluster.subnet_prefix_length);
    let count: u64 = pools.iter().map(|pool| subnets_in(*pool, wanted)).sum();
    let start = state.next.network;
    let candidates = (0..count).filter_map(|step| subnet(pools, wanted, (start + step) % count));
    candidates.into_iter().find(|subnet| !taken.iter().any(|other| overlap(*subnet, *other)))
}

/// How many subnets of the wanted prefix length a pool holds; one that is smaller is a subnet itself.
fn subnets_in((_, pool_length): (Ipv4Addr, u8), wanted: u8) -> u64 {
    1_u64 << wanted.saturating_sub(pool_length)
}

/// The subnet with this number, counted through the pools.
fn subnet(pools: &[(Ipv4Addr, u8)], wanted: u8, mut number: u64) -> Option<(Ipv4Addr, u8)> {
    for (pool, pool_length) in pools {
        let count = subnets_in((*pool, *pool_length), wanted);
        if number < count {
            let length = wanted.max(*pool_length);
            let first = u64::from(u32::from(*pool)) + number * (1_u64 << (32 - u32::from(length)));
            return Some((Ipv4Addr::from(u32::try_from(first).ok()?), length));
        }
        number -= count;
    }
    None
}

/// Whether two prefixes have addresses in common.
pub(super) fn overlap(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let length = u32::from(one.1.min(other.1));
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    u32::from(one.0) & mask == u32::from(other.0) & mask
}
