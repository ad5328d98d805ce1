//! Which destinations of datagrams are gone when an assignment replaces another. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use swarm_proto::assignment::NetworkAssignment;
use swarm_proto::spec::Protocol;

/// Virtual addresses and the backends that they led to and do not any more.
pub(super) fn removed_vip_backends(
    old: &NetworkAssignment,
    new: &NetworkAssignment,
) -> BTreeSet<(Ipv4Addr, Ipv4Addr)> {
    let backends = |network: &NetworkAssignment| -> BTreeMap<Ipv4Addr, Vec<Ipv4Addr>> {
        network.vips.iter().map(|vip| (vip.address, vip.backends.clone())).collect()
    };
    removed(&backends(old), &backends(new))
}

/// Published UDP ports and the backends that they led to and do not any more.
pub(super) fn removed_ports(
    old: &NetworkAssignment,
    new: &NetworkAssignment,
) -> BTreeSet<(u16, Ipv4Addr)> {
    let backends = |network: &NetworkAssignment| -> BTreeMap<u16, Vec<Ipv4Addr>> {
        let udp = network.ingress.iter().filter(|ingress| ingress.port.protocol == Protocol::Udp);
        udp.map(|ingress| (ingress.port.published, ingress.backends.clone())).collect()
    };
    removed(&backends(old), &backends(new))
}

fn removed<K: Ord + Copy>(
    old: &BTreeMap<K, Vec<Ipv4Addr>>,
    new: &BTreeMap<K, Vec<Ipv4Addr>>,
) -> BTreeSet<(K, Ipv4Addr)> {
    let pairs = |of: &BTreeMap<K, Vec<Ipv4Addr>>| -> BTreeSet<(K, Ipv4Addr)> {
        of.iter().flat_map(|(key, backends)| backends.iter().map(|b| (*key, *b))).collect()
    };
    &pairs(old) - &pairs(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_named() {
        let at = |last| Ipv4Addr::new(10, 0, 0, last);
        let old = BTreeMap::from([(1, vec![at(1), at(2)]), (2, vec![at(3)])]);
        let new = BTreeMap::from([(1, vec![at(2), at(4)])]);
        assert_eq!(removed(&old, &new), BTreeSet::from([(1, at(1)), (2, at(3))]));
    }
}
