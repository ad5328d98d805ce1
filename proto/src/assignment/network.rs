//! A network, as a node must know it.

use std::net::Ipv4Addr;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::id::{NetworkId, ServiceId};
use crate::object::AllocatedPort;

/// A place on a network that other members must be able to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkPeer {
    /// The address on the network.
    pub address: Ipv4Addr,
    /// The link address on the network.
    pub mac: [u8; 6],
    /// The host that has it: where the tunnel leads. This node's own address for what is local.
    pub host: Ipv4Addr,
}

/// A way to a service, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead<K> {
    /// The virtual address, or the published port.
    #[serde(alias = "address", alias = "port")]
    pub at: K,
    /// The running tasks' addresses on the network; none: connections are refused, or held for the service that they wake.
    pub backends: Vec<Ipv4Addr>,
    /// A service that may have no tasks until somebody connects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes: Option<ServiceId>,
}

/// A service's virtual address.
pub type NetworkVip = Lead<Ipv4Addr>;

/// A published port that every host answers.
pub type NetworkIngress = Lead<AllocatedPort>;

/// Everything a node needs to know of one network. Its lists are in order and hold each entry once: [`NetworkChange`]
/// counts on it, and [`NetworkAssignment::sorted`] makes it so.
///
/// [`NetworkChange`]: super::NetworkChange
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAssignment {
    /// Its identity.
    pub id: NetworkId,
    /// Its full name.
    pub name: String,
    /// Rises with each change. The agent confirms the version that it has applied.
    pub version: u64,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of the tunnels.
    pub vxlan_port: u16,
    /// The subnet's first address.
    pub subnet: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix_length: u8,
    /// No way out for its containers.
    pub internal: bool,
    /// This node's own address on the network.
    pub gateway: Option<(Ipv4Addr, [u8; 6])>,
    /// Every task and gateway of the network on other hosts and on this one.
    pub peers: Vec<NetworkPeer>,
    /// Names to addresses: services (virtual or task addresses), `tasks.<service>`, aliases, task names.
    /// There are many, and few change at a time: a copy shares what is the same.
    pub names: OrdMap<String, Vec<Ipv4Addr>>,
    /// Virtual addresses.
    pub vips: Vec<NetworkVip>,
    /// Ports that every host answers and that lead into this network.
    pub ingress: Vec<NetworkIngress>,
}

impl NetworkAssignment {
    /// The same with all lists in order.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        in_order(&mut self.peers);
        self.names = self.names.into_iter().map(|(name, found)| (name, ordered(found))).collect();
        leads_in_order(&mut self.vips);
        leads_in_order(&mut self.ingress);
        self
    }
}

fn leads_in_order<K: Ord + Copy>(leads: &mut Vec<Lead<K>>) {
    for lead in leads.iter_mut() {
        in_order(&mut lead.backends);
    }
    leads.sort_by_key(|lead| lead.at);
    leads.dedup_by_key(|lead| lead.at);
}

fn in_order<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

fn ordered<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    in_order(&mut list);
    list
}
