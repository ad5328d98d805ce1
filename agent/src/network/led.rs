//! Where virtual addresses and published ports lead, in the order in which packet rules have it: a task keeps its place
//! there, so that few places change when few tasks come and go. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use swarm_proto::assignment::{Lead, ListChange, NetworkAssignment, NetworkIngress, NetworkVip};
use swarm_proto::spec::Protocol;

/// From so many tasks on, one of somewhat more places than there are tasks is drawn.
const MANY: usize = 64;
/// How often, before one of those is drawn that are surely taken. At most an eighth is empty, so that comes to this once in
/// 512 times: every task is as likely as any other.
const DRAWS: usize = 3;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Led {
    pub(super) vips: Vec<LedVip>,
    pub(super) ingress: Vec<NetworkIngress>,
}

/// A virtual address, and the tasks at their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedVip {
    pub(super) lead: NetworkVip,
    /// How many places there are: more than tasks, where these are many, so that the number stays when some come and go.
    places: usize,
}

/// The destinations that datagrams were led to and are not any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Virtual addresses and backends.
    pub(super) vips: BTreeSet<(Ipv4Addr, Ipv4Addr)>,
    /// Published UDP ports and backends.
    pub(super) ports: BTreeSet<(u16, Ipv4Addr)>,
}

impl Led {
    /// Of a network that was not known before.
    pub(super) fn new(network: &NetworkAssignment) -> Self {
        let vips = network.vips.iter().map(LedVip::new).collect();
        let ingress = network.ingress.iter().map(|port| turned(port, network)).collect();
        Self { vips, ingress }
    }

    /// What it becomes with another version of the network. It was made of, or became, the old one.
    pub(super) fn follow(&self, old: &NetworkAssignment, new: &NetworkAssignment) -> (Self, Gone) {
        let mut gone = Gone::default();
        let vips = follow(&old.vips, &new.vips, |vip, known| {
            let Some((at, change)) = known else { return LedVip::new(vip) };
            gone.vips.extend(change.removed.iter().map(|backend| (vip.at, *backend)));
            let backends = keep(&self.vips[at].lead.backends, change);
            let places = places(backends.len(), Some(self.vips[at].places));
            LedVip { lead: Lead { backends, ..*vip }, places }
        });
        let ingress = follow(&old.ingress, &new.ingress, |port, known| {
            let Some((at, change)) = known else { return turned(port, new) };
            gone.take_port(port, &change.removed);
            Lead { backends: keep(&self.ingress[at].backends, change), ..*port }
        });
        for vip in vanished(&old.vips, &new.vips) {
            gone.vips.extend(vip.backends.iter().map(|backend| (vip.at, *backend)));
        }
        for port in vanished(&old.ingress, &new.ingress) {
            gone.take_port(port, &port.backends);
        }
        (Self { vips, ingress }, gone)
    }
}

impl LedVip {
    pub(super) fn new(vip: &NetworkVip) -> Self {
        Self { lead: vip.clone(), places: places(vip.backends.len(), None) }
    }

    /// Of how many places one is drawn, again and again until a task is there. At the last of them all have one.
    pub(super) fn draws(&self) -> Vec<usize> {
        if self.places == self.lead.backends.len() {
            return vec![self.places];
        }
        let mut draws = vec![self.places; DRAWS];
        draws.push(taken(self.places));
        draws
    }
}

impl Gone {
    fn take_port(&mut self, NetworkIngress { at, .. }: &NetworkIngress, removed: &[Ipv4Addr]) {
        if at.protocol == Protocol::Udp {
            self.ports.extend(removed.iter().map(|backend| (at.published, *backend)));
        }
    }
}

/// Each host starts its turns at another task, so that single requests spread as well.
fn turned(port: &NetworkIngress, network: &NetworkAssignment) -> NetworkIngress {
    let mut port = port.clone();
    if let Some((gateway, _)) = network.gateway {
        let start = usize::from(gateway.octets()[3]) % port.backends.len().max(1);
        port.backends.rotate_left(start);
    }
    port
}

/// What each of `new` becomes, given where it was in `old`, if it was there, and what changed.
fn follow<K: Ord + Copy, T>(
    old: &[Lead<K>],
    new: &[Lead<K>],
    mut become_of: impl FnMut(&Lead<K>, Option<(usize, ListChange<Ipv4Addr>)>) -> T,
) -> Vec<T> {
    let each = new.iter().map(|lead| {
        let at = old.binary_search_by_key(&lead.at, |old| old.at).ok();
        let change = |at: usize| ListChange::between(&old[at].backends, &lead.backends);
        become_of(lead, at.map(|at| (at, change(at))))
    });
    each.collect()
}

/// Those of `old` that are not in `new`.
fn vanished<'a, K: Ord + Copy>(
    old: &'a [Lead<K>],
    new: &'a [Lead<K>],
) -> impl Iterator<Item = &'a Lead<K>> {
    let is_gone = |lead: &&Lead<K>| new.binary_search_by_key(&lead.at, |new| new.at).is_err();
    old.iter().filter(is_gone)
}

/// How many places so many tasks have, which had so many `before`.
fn places(tasks: usize, before: Option<usize>) -> usize {
    if tasks < MANY {
        return tasks;
    }
    let fits = |places: &usize| *places >= MANY && (taken(*places)..=*places).contains(&tasks);
    let step = step(tasks);
    before.filter(fits).unwrap_or((tasks + step + step / 2) / step * step)
}

/// How many of many places always have a task.
fn taken(places: usize) -> usize {
    places - 2 * step(places)
}

fn step(count: usize) -> usize {
    count.next_power_of_two() / 32
}

/// The last ones take the places of those that are gone, and new ones come behind.
fn keep(placed: &[Ipv4Addr], change: ListChange<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut placed = placed.to_vec();
    for gone in &change.removed {
        if let Some(place) = placed.iter().position(|one| one == gone) {
            placed.swap_remove(place);
        }
    }
    placed.extend(change.added);
    placed
}

#[cfg(test)]
mod tests {
    use swarm_proto::object::AllocatedPort;
    use swarm_proto::spec::PortMode;

    use super::*;
    use crate::network::rules::tests::network;

    fn at(numbers: &[u8]) -> Vec<Ipv4Addr> {
        numbers.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect()
    }

    #[test]
    fn few_places_change() {
        let keep = |placed: &[u8], old: &[u8], new: &[u8]| {
            keep(&at(placed), ListChange::between(&at(old), &at(new)))
        };
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2, 3]), at(&[3, 1, 2]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2]), at(&[2, 1]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2, 3, 4]), at(&[3, 1, 2, 4]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[2, 3, 5]), at(&[3, 2, 5]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[]), at(&[]));
        assert_eq!(keep(&[], &[], &[7]), at(&[7]));
    }

    #[test]
    fn only_what_is_gone_is_named() {
        let vip = |number: u8, backends: &[u8]| Lead {
            at: Ipv4Addr::new(10, 0, 0, number),
            backends: at(backends),
            wakes: None,
        };
        let port = |published, protocol, backends: &[u8]| {
            let (mode, host_address) = (PortMode::Ingress, None);
            let at_port = AllocatedPort { published, target: 80, protocol, mode, host_address };
            Lead { at: at_port, backends: at(backends), wakes: None }
        };
        let version =
            |vips, ingress| NetworkAssignment { vips, ..network(1, false, ingress) }.sorted();
        let old = version(
            vec![vip(100, &[1, 2]), vip(101, &[3]), vip(102, &[4])],
            vec![
                port(53, Protocol::Udp, &[1, 2]),
                port(54, Protocol::Udp, &[3]),
                port(80, Protocol::Tcp, &[1, 2]),
            ],
        );
        let new = version(
            vec![vip(100, &[2, 5]), vip(102, &[4]), vip(103, &[6])],
            vec![port(53, Protocol::Udp, &[2]), port(80, Protocol::Tcp, &[2])],
        );
        let (led, gone) = Led::new(&old).follow(&old, &new);
        let pair = |of: u8, backend: u8| (at(&[of])[0], at(&[backend])[0]);
        assert_eq!(gone.vips, [pair(100, 1), pair(101, 3)].into());
        assert_eq!(gone.ports, [(53, at(&[1])[0]), (54, at(&[3])[0])].into());
        let leads: Vec<_> = led.vips.iter().map(|vip| vip.lead.clone()).collect();
        assert_eq!(leads, [vip(100, &[2, 5]), vip(102, &[4]), vip(103, &[6])]);
        assert_eq!(led.follow(&new, &new), (led.clone(), Gone::default()));
    }

    #[test]
    fn the_number_of_places_stays_as_long_as_it_fits() {
        for tasks in 0..10_000 {
            let first = places(tasks, None);
            if tasks < MANY {
                assert_eq!(first, tasks);
                continue;
            }
            for now in [tasks - 1, tasks, tasks + 1] {
                let many = now >= MANY;
                assert_eq!(places(now, Some(first)), if many { first } else { now }, "{tasks}");
            }
            assert!(taken(first) <= tasks && tasks <= first, "{tasks} at {first}");
            assert!(first - taken(first) <= first / 8, "{first}");
        }
        assert_eq!((places(3_000, None), taken(3_072)), (3_072, 2_816));
        assert_eq!(places(2_000, Some(3_072)), places(2_000, None));
    }
}
