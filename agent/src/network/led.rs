//! Where virtual addresses and published ports lead, in the order in which packet rules have it: a task keeps its place
//! there, so that few places change when few tasks come and go. Pure.

use std::net::Ipv4Addr;

use swarm_proto::assignment::{ListChange, NetworkAssignment, NetworkIngress, NetworkVip};
use swarm_proto::id::ServiceId;

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
    pub(super) address: Ipv4Addr,
    pub(super) backends: Vec<Ipv4Addr>,
    /// As of a [`NetworkVip`].
    pub(super) wakes: Option<ServiceId>,
    /// How many places there are: more than tasks, where these are many, so that the number stays when some come and go.
    places: usize,
}

impl Led {
    /// Of a network that was not known before.
    pub(super) fn new(network: &NetworkAssignment) -> Self {
        let vips = network.vips.iter().map(LedVip::new).collect();
        let mut led = Self { vips, ingress: network.ingress.clone() };
        // Each host starts its turns at another task, so that single requests spread as well.
        if let Some((gateway, _)) = network.gateway {
            for NetworkIngress { backends, .. } in &mut led.ingress {
                let start = usize::from(gateway.octets()[3]) % backends.len().max(1);
                backends.rotate_left(start);
            }
        }
        led
    }

    /// What it becomes with another version of the network. It was made of, or became, the old one.
    pub(super) fn follow(&self, old: &NetworkAssignment, new: &NetworkAssignment) -> Self {
        let mut led = Self::new(new);
        for (vip, told) in led.vips.iter_mut().zip(&new.vips) {
            if let Ok(at) = old.vips.binary_search_by_key(&vip.address, |old| old.address) {
                let (placed, before) = (&self.vips[at], &old.vips[at].backends);
                vip.backends = keep(&placed.backends, before, &told.backends);
                vip.places = places(vip.backends.len(), Some(placed.places));
            }
        }
        for (ingress, told) in led.ingress.iter_mut().zip(&new.ingress) {
            if let Ok(at) = old.ingress.binary_search_by_key(&ingress.port, |old| old.port) {
                let (placed, before) = (&self.ingress[at].backends, &old.ingress[at].backends);
                ingress.backends = keep(placed, before, &told.backends);
            }
        }
        led
    }
}

impl LedVip {
    pub(super) fn new(vip: &NetworkVip) -> Self {
        let NetworkVip { address, backends, wakes } = vip.clone();
        let places = places(backends.len(), None);
        Self { address, backends, wakes, places }
    }

    /// Of how many places one is drawn, again and again until a task is there. At the last of them all have one.
    pub(super) fn draws(&self) -> Vec<usize> {
        if self.places == self.backends.len() {
            return vec![self.places];
        }
        let mut draws = vec![self.places; DRAWS];
        draws.push(taken(self.places));
        draws
    }
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
fn keep(placed: &[Ipv4Addr], old: &[Ipv4Addr], new: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let change = ListChange::between(old, new);
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
    use super::*;

    #[test]
    fn few_places_change() {
        let at = |numbers: &[u8]| -> Vec<Ipv4Addr> {
            numbers.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect()
        };
        let keep = |placed: &[u8], old: &[u8], new: &[u8]| keep(&at(placed), &at(old), &at(new));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2, 3]), at(&[3, 1, 2]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2]), at(&[2, 1]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[1, 2, 3, 4]), at(&[3, 1, 2, 4]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[2, 3, 5]), at(&[3, 2, 5]));
        assert_eq!(keep(&[3, 1, 2], &[1, 2, 3], &[]), at(&[]));
        assert_eq!(keep(&[], &[], &[7]), at(&[7]));
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
