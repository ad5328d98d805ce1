//! Which destinations of datagrams are gone when an assignment replaces another. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use swarm_proto::assignment::{ListChange, NetworkAssignment, NetworkIngress, NetworkVip};
use swarm_proto::spec::Protocol;

/// Virtual addresses and the backends that they led to and do not any more.
pub(super) fn removed_vip_backends(
    old: &NetworkAssignment,
    new: &NetworkAssignment,
) -> BTreeSet<(Ipv4Addr, Ipv4Addr)> {
    let of = |vip: &NetworkVip| -> &[Ipv4Addr] {
        let at = new.vips.binary_search_by_key(&vip.address, |new| new.address);
        at.map(|at| new.vips[at].backends.as_slice()).unwrap_or_default()
    };
    let removed = |vip: &NetworkVip| removed(vip.address, &vip.backends, of(vip));
    old.vips.iter().flat_map(removed).collect()
}

/// Published UDP ports and the backends that they led to and do not any more.
pub(super) fn removed_ports(
    old: &NetworkAssignment,
    new: &NetworkAssignment,
) -> BTreeSet<(u16, Ipv4Addr)> {
    let of = |ingress: &NetworkIngress| -> &[Ipv4Addr] {
        let at = new.ingress.binary_search_by_key(&ingress.port, |new| new.port);
        at.map(|at| new.ingress[at].backends.as_slice()).unwrap_or_default()
    };
    let udp = old.ingress.iter().filter(|ingress| ingress.port.protocol == Protocol::Udp);
    udp.flat_map(|one| removed(one.port.published, &one.backends, of(one))).collect()
}

fn removed<K: Copy>(
    key: K,
    old: &[Ipv4Addr],
    new: &[Ipv4Addr],
) -> impl Iterator<Item = (K, Ipv4Addr)> + use<K> {
    ListChange::between(old, new).removed.into_iter().map(move |backend| (key, backend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_named() {
        let at = |last| Ipv4Addr::new(10, 0, 0, last);
        let gone: Vec<_> = removed(1, &[at(1), at(2)], &[at(2), at(4)]).collect();
        assert_eq!(gone, [(1, at(1))]);
        assert_eq!(removed(2, &[at(3)], &[]).collect::<Vec<_>>(), [(2, at(3))]);
    }
}
