//! Networks as they travel to an agent, and what changes of them.

use std::net::Ipv4Addr;

use super::fields::{ConvertError, Fields, addresses, each, mac_number};
use crate::assignment::{
    BackendsChange, ListChange, NetworkAssignment, NetworkChange, NetworkIngress, NetworkPeer,
    NetworkVip,
};
use crate::id::{NetworkId, ServiceId};
use crate::object::AllocatedPort;
use crate::wire;

impl From<&NetworkPeer> for wire::NetworkPeer {
    fn from(peer: &NetworkPeer) -> Self {
        Self { address: peer.address.into(), mac: mac_number(peer.mac), host: peer.host.into() }
    }
}

impl TryFrom<wire::NetworkPeer> for NetworkPeer {
    type Error = ConvertError;

    fn try_from(peer: wire::NetworkPeer) -> Result<Self, ConvertError> {
        Ok(Self {
            address: peer.address.into(),
            mac: Fields("NetworkPeer").mac("mac", peer.mac)?,
            host: peer.host.into(),
        })
    }
}

fn list(addresses: Vec<u32>) -> Vec<Ipv4Addr> {
    addresses.into_iter().map(Into::into).collect()
}

impl From<&ListChange<Ipv4Addr>> for wire::AddressesChange {
    fn from(change: &ListChange<Ipv4Addr>) -> Self {
        Self { removed: addresses(&change.removed), added: addresses(&change.added) }
    }
}

impl From<wire::AddressesChange> for ListChange<Ipv4Addr> {
    fn from(change: wire::AddressesChange) -> Self {
        Self { removed: list(change.removed), added: list(change.added) }
    }
}

impl From<&NetworkVip> for wire::NetworkVip {
    fn from(vip: &NetworkVip) -> Self {
        let wakes = vip.wakes.map(|service| service.0);
        Self { address: vip.at.into(), backends: addresses(&vip.backends), wakes }
    }
}

impl TryFrom<wire::NetworkVip> for NetworkVip {
    type Error = ConvertError;

    fn try_from(vip: wire::NetworkVip) -> Result<Self, ConvertError> {
        let backends = list(vip.backends);
        Ok(Self { at: vip.address.into(), backends, wakes: vip.wakes.map(ServiceId) })
    }
}

impl From<&NetworkIngress> for wire::NetworkIngress {
    fn from(ingress: &NetworkIngress) -> Self {
        Self {
            port: Some((&ingress.at).into()),
            backends: addresses(&ingress.backends),
            wakes: ingress.wakes.map(|service| service.0),
        }
    }
}

impl TryFrom<wire::NetworkIngress> for NetworkIngress {
    type Error = ConvertError;

    fn try_from(ingress: wire::NetworkIngress) -> Result<Self, ConvertError> {
        Ok(Self {
            at: Fields("NetworkIngress").required("port", ingress.port)?,
            backends: list(ingress.backends),
            wakes: ingress.wakes.map(ServiceId),
        })
    }
}

impl From<&NetworkAssignment> for wire::NetworkAssignment {
    fn from(network: &NetworkAssignment) -> Self {
        let gateway = network
            .gateway
            .map(|(address, mac)| wire::Gateway { address: address.into(), mac: mac_number(mac) });
        let names = network
            .names
            .iter()
            .map(|(name, found)| (name.clone(), wire::Addresses { addresses: addresses(found) }));
        Self {
            id: network.id.0,
            name: network.name.clone(),
            version: network.version,
            vni: network.vni,
            vxlan_port: network.vxlan_port.into(),
            subnet: network.subnet.into(),
            prefix_length: network.prefix_length.into(),
            internal: network.internal,
            gateway,
            peers: each(&network.peers),
            names: names.collect(),
            vips: each(&network.vips),
            ingress: each(&network.ingress),
        }
    }
}

impl TryFrom<wire::NetworkAssignment> for NetworkAssignment {
    type Error = ConvertError;

    fn try_from(network: wire::NetworkAssignment) -> Result<Self, ConvertError> {
        let at = Fields("NetworkAssignment");
        let gateway = match network.gateway {
            Some(gateway) => Some((gateway.address.into(), at.mac("gateway.mac", gateway.mac)?)),
            None => None,
        };
        let names = network.names.into_iter().map(|(name, found)| (name, list(found.addresses)));
        Ok(Self {
            id: NetworkId(network.id),
            name: network.name,
            version: network.version,
            vni: network.vni,
            vxlan_port: at.port("vxlan_port", network.vxlan_port)?,
            subnet: network.subnet.into(),
            prefix_length: at.prefix_length("prefix_length", network.prefix_length)?,
            internal: network.internal,
            gateway,
            peers: at.list("peers", network.peers)?,
            names: names.collect(),
            vips: at.list("vips", network.vips)?,
            ingress: at.list("ingress", network.ingress)?,
        }
        .sorted())
    }
}

impl From<&BackendsChange<Ipv4Addr>> for wire::VipChange {
    fn from(change: &BackendsChange<Ipv4Addr>) -> Self {
        Self {
            address: change.of.into(),
            backends: Some((&change.backends).into()),
            wakes: change.wakes.map(|service| service.0),
        }
    }
}

impl TryFrom<wire::VipChange> for BackendsChange<Ipv4Addr> {
    type Error = ConvertError;

    fn try_from(change: wire::VipChange) -> Result<Self, ConvertError> {
        Ok(Self {
            of: change.address.into(),
            backends: change.backends.unwrap_or_default().into(),
            wakes: change.wakes.map(ServiceId),
        })
    }
}

impl From<&BackendsChange<AllocatedPort>> for wire::IngressChange {
    fn from(change: &BackendsChange<AllocatedPort>) -> Self {
        Self {
            port: Some((&change.of).into()),
            backends: Some((&change.backends).into()),
            wakes: change.wakes.map(|service| service.0),
        }
    }
}

impl TryFrom<wire::IngressChange> for BackendsChange<AllocatedPort> {
    type Error = ConvertError;

    fn try_from(change: wire::IngressChange) -> Result<Self, ConvertError> {
        Ok(Self {
            of: Fields("IngressChange").required("port", change.port)?,
            backends: change.backends.unwrap_or_default().into(),
            wakes: change.wakes.map(ServiceId),
        })
    }
}

impl From<&NetworkChange> for wire::NetworkChange {
    fn from(change: &NetworkChange) -> Self {
        let names = change.names.iter().map(|(name, list)| (name.clone(), list.into()));
        Self {
            id: change.id.0,
            from: change.from,
            version: change.version,
            removed_peers: each(&change.peers.removed),
            added_peers: each(&change.peers.added),
            names: names.collect(),
            removed_names: change.removed_names.clone(),
            vips: each(&change.vips),
            removed_vips: addresses(&change.removed_vips),
            ingress: each(&change.ingress),
            removed_ingress: each(&change.removed_ingress),
        }
    }
}

impl TryFrom<wire::NetworkChange> for NetworkChange {
    type Error = ConvertError;

    fn try_from(change: wire::NetworkChange) -> Result<Self, ConvertError> {
        let at = Fields("NetworkChange");
        Ok(Self {
            id: NetworkId(change.id),
            from: change.from,
            version: change.version,
            peers: ListChange {
                removed: at.list("removed_peers", change.removed_peers)?,
                added: at.list("added_peers", change.added_peers)?,
            },
            names: change.names.into_iter().map(|(name, list)| (name, list.into())).collect(),
            removed_names: change.removed_names,
            vips: at.list("vips", change.vips)?,
            removed_vips: list(change.removed_vips),
            ingress: at.list("ingress", change.ingress)?,
            removed_ingress: at.list("removed_ingress", change.removed_ingress)?,
        })
    }
}
