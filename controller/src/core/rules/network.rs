//! The commands that make and remove a network outside of stacks, and what a new network gets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::NetworkId;
use swarm_proto::object::Network;
use swarm_proto::spec::NetworkSpec;

use super::allocate::free_subnet;
use super::command::Decision;
use super::deploy::check_subnet;
use super::name;
use crate::core::command::Refusal;
use crate::core::state::State;

/// The longest name of a network or volume outside of stacks, in bytes: stack files must be able to say it.
pub(super) const LONGEST_NAME: usize = 63;
/// A VXLAN network identifier has 24 bits.
const LAST_VNI: u32 = 0xff_ffff;
/// Names that stack files keep for networks which are none of ours.
const KEPT_NAMES: [&str; 4] = ["host", "none", "bridge", "default"];

/// What is known of a network before it gets its numbers.
pub(super) struct Wanted<'a> {
    /// Empty for one that belongs to no stack.
    pub(super) stack: &'a str,
    /// Its key in the stack's file; its name for one that belongs to none.
    pub(super) key: &'a str,
    /// Its full name.
    pub(super) name: String,
    pub(super) spec: &'a NetworkSpec,
}

/// A new network, beside those that the same command makes: their subnets are taken.
pub(super) fn made(
    state: &State,
    wanted: Wanted<'_>,
    others: &[(Ipv4Addr, u8)],
) -> Result<Network, Refusal> {
    let Wanted { stack, key, name, spec } = wanted;
    let before = u32::try_from(others.len()).unwrap_or(u32::MAX);
    let vni = state.next.vni.saturating_add(before);
    if vni > LAST_VNI {
        return Err(Refusal::conflict(
            format!("no VXLAN network identifier is left for network `{key}`"),
            "each is given out once: make a new cluster with a lower `--vni-base`",
        ));
    }
    let Some((subnet, prefix_length)) = spec.subnet.or_else(|| free_subnet(state, others)) else {
        return Err(Refusal::conflict(
            format!("no subnet is free for network `{key}`"),
            "give the network a subnet of its own (`ipam`), or free some: remove stacks that are not needed (the address pools are set when the cluster is made)",
        ));
    };
    Ok(Network {
        id: NetworkId(state.next.network + u64::from(before)),
        stack: stack.to_owned(),
        key: key.to_owned(),
        name,
        spec: spec.clone(),
        vni,
        subnet,
        prefix_length,
        gateways: Vec::new(),
        removing: false,
    })
}

/// Whose an object is, for a person.
pub(super) fn owner(stack: &str) -> String {
    if stack.is_empty() { "no stack".to_owned() } else { format!("stack `{stack}`") }
}

pub(super) fn create(
    state: &State,
    name: &str,
    subnet: Option<(Ipv4Addr, u8)>,
    internal: bool,
    labels: &BTreeMap<String, String>,
) -> Result<Decision, Refusal> {
    name::check("network", name, LONGEST_NAME)?;
    if KEPT_NAMES.contains(&name) {
        return Err(Refusal::invalid(
            format!("`{name}` is not a name for a network"),
            "stack files mean another thing by it: choose another name",
        ));
    }
    if state.network_named(name).is_some_and(|network| network.removing) {
        return Err(Refusal::conflict(
            format!("network `{name}` is still being removed"),
            "try again once `swarmctl network ls` no longer lists it",
        ));
    }
    if let Some(other) = state.network_named(name) {
        return Err(Refusal::conflict(
            format!("network `{name}` exists already: it belongs to {}", owner(&other.stack)),
            "choose another name, or remove it first",
        ));
    }
    if let Some(subnet) = subnet {
        check_subnet(state, name, subnet)?;
    }
    let (labels, name) = (labels.clone(), name.to_owned());
    let spec = NetworkSpec { name: Some(name.clone()), subnet, internal, labels, external: false };
    let wanted = Wanted { stack: "", key: &name, name: name.clone(), spec: &spec };
    let network = made(state, wanted, &[])?;
    Ok(Decision::new(vec![Action::SetNetwork(Box::new(network))], Vec::new()))
}

pub(super) fn remove(state: &State, name: &str) -> Result<Decision, Refusal> {
    let Some(network) = state.network_named(name) else {
        return Err(Refusal::not_found(
            format!("there is no network `{name}`"),
            "`swarmctl network ls` lists the networks",
        ));
    };
    if !network.stack.is_empty() {
        return Err(Refusal::conflict(
            format!("network `{name}` belongs to stack `{}`", network.stack),
            "it goes with its stack, or with a deploy that leaves it out and prunes",
        ));
    }
    if let Some(service) = state.users_of_network(name).next() {
        return Err(Refusal::conflict(
            format!("network `{name}` is in use by service `{}`", service.name()),
            "deploy its stack without the network, or remove the stack, first",
        ));
    }
    let read = vec![(ObjectId::Network(network.id), Counter::Spec)];
    let action = (!network.removing).then_some(Action::SetNetworkRemoving(network.id));
    Ok(Decision::new(action.into_iter().collect(), read))
}

/// A network of a stack that a service of another one uses, and that service.
pub(super) fn lent(state: &State, stack: &str) -> Option<(String, String)> {
    state.networks.values().filter(|network| network.stack == stack).find_map(|network| {
        let mut users = state.users_of_network(&network.name);
        let user = users.find(|service| service.stack != stack)?;
        Some((network.name.clone(), user.name()))
    })
}
