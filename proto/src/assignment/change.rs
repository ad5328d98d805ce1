//! What changed of a network from one version to another: of thousands of members few come and go at a time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use super::network::{Lead, NetworkAssignment, NetworkPeer};
use crate::id::{NetworkId, ServiceId};
use crate::object::AllocatedPort;

/// What makes one ordered list of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChange<T> {
    /// No longer in it.
    pub removed: Vec<T>,
    /// New in it.
    pub added: Vec<T>,
}

impl<T> Default for ListChange<T> {
    fn default() -> Self {
        Self { removed: Vec::new(), added: Vec::new() }
    }
}

impl<T: Ord + Clone> ListChange<T> {
    /// Between two ordered lists that hold each entry once.
    pub fn between(old: &[T], new: &[T]) -> Self {
        let mut change = Self::default();
        merge(old, new, Ord::cmp, |old, new| match (old, new) {
            (Some(old), None) => change.removed.push(old.clone()),
            (None, Some(new)) => change.added.push(new.clone()),
            _ => {}
        });
        change
    }

    /// Whether the lists are the same.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Brings the change into an ordered list, which stays in order.
    pub fn apply(&self, list: &mut Vec<T>) {
        if self.is_empty() {
            return;
        }
        let mut left = Vec::with_capacity(list.len() + self.added.len());
        merge(list, &self.added, Ord::cmp, |old, new| left.extend(old.or(new).cloned()));
        left.retain(|one| self.removed.binary_search(one).is_err());
        *list = left;
    }

    fn entries(&self) -> usize {
        self.removed.len() + self.added.len()
    }
}

/// What changed of where a virtual address or a published port leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendsChange<K> {
    /// The address or the port; it may be new.
    pub of: K,
    /// The running tasks' addresses.
    pub backends: ListChange<Ipv4Addr>,
    /// The service that it wakes from now on.
    pub wakes: Option<ServiceId>,
}

/// What makes a later version of a network of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChange {
    /// The network.
    pub id: NetworkId,
    /// The version that it changes, and no other one.
    pub from: u64,
    /// The version that comes of it.
    pub version: u64,
    /// Of tasks and gateways.
    pub peers: ListChange<NetworkPeer>,
    /// Of names, some of which may be new.
    pub names: BTreeMap<String, ListChange<Ipv4Addr>>,
    /// Names that are gone.
    pub removed_names: Vec<String>,
    /// Of virtual addresses.
    pub vips: Vec<BackendsChange<Ipv4Addr>>,
    /// Virtual addresses that are gone.
    pub removed_vips: Vec<Ipv4Addr>,
    /// Of published ports.
    pub ingress: Vec<BackendsChange<AllocatedPort>>,
    /// Published ports that are gone.
    pub removed_ingress: Vec<AllocatedPort>,
}

impl NetworkChange {
    /// Between two versions; `None` where more changed than who and what is on the network.
    pub fn between(old: &NetworkAssignment, new: &NetworkAssignment) -> Option<Self> {
        if !is_same_network(old, new) {
            return None;
        }
        let (names, removed_names) = changed_names(old, new);
        let (vips, removed_vips) = changed_backends(&old.vips, &new.vips);
        let (ingress, removed_ingress) = changed_backends(&old.ingress, &new.ingress);
        Some(Self {
            id: new.id,
            from: old.version,
            version: new.version,
            peers: ListChange::between(&old.peers, &new.peers),
            names,
            removed_names,
            vips,
            removed_vips,
            ingress,
            removed_ingress,
        })
    }

    /// Whether this is what comes next for a network.
    pub fn fits(&self, network: &NetworkAssignment) -> bool {
        (self.id, self.from) == (network.id, network.version)
    }

    /// Brings the change in, where it fits.
    pub fn apply(&self, network: &mut NetworkAssignment) {
        if !self.fits(network) {
            return;
        }
        network.version = self.version;
        self.peers.apply(&mut network.peers);
        for name in &self.removed_names {
            network.names.remove(name);
        }
        for (name, change) in &self.names {
            change.apply(network.names.entry(name.clone()).or_default());
        }
        apply_backends(&mut network.vips, &self.vips, &self.removed_vips);
        apply_backends(&mut network.ingress, &self.ingress, &self.removed_ingress);
    }

    /// How many members and names it speaks of.
    pub fn entries(&self) -> usize {
        let backends = self.vips.iter().map(|one| &one.backends);
        let backends = backends.chain(self.ingress.iter().map(|one| &one.backends));
        let lists = self.names.values().chain(backends);
        self.peers.entries()
            + self.removed_names.len()
            + lists.map(|list| 1 + list.entries()).sum::<usize>()
    }
}

fn is_same_network(old: &NetworkAssignment, new: &NetworkAssignment) -> bool {
    let head = |of: &NetworkAssignment| {
        let subnet = (of.subnet, of.prefix_length);
        (of.id, of.vni, of.vxlan_port, subnet, of.internal, of.gateway)
    };
    head(old) == head(new) && old.name == new.name
}

type Names = (BTreeMap<String, ListChange<Ipv4Addr>>, Vec<String>);

fn changed_names(old: &NetworkAssignment, new: &NetworkAssignment) -> Names {
    let (mut changed, mut removed) = (BTreeMap::new(), Vec::new());
    for difference in old.names.diff(&new.names) {
        match difference {
            DiffItem::Add(name, found) => {
                changed.insert(name.clone(), ListChange::between(&[], found));
            }
            DiffItem::Update { old: (_, old), new: (name, new) } => {
                changed.insert(name.clone(), ListChange::between(old, new));
            }
            DiffItem::Remove(name, _) => removed.push(name.clone()),
        }
    }
    (changed, removed)
}

fn changed_backends<K: Ord + Copy>(
    old: &[Lead<K>],
    new: &[Lead<K>],
) -> (Vec<BackendsChange<K>>, Vec<K>) {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    merge(
        old,
        new,
        |one, other| one.at.cmp(&other.at),
        |old, new| {
            let Some(new) = new else {
                removed.extend(old.map(|old| old.at));
                return;
            };
            let before = old.map(|old| old.backends.as_slice()).unwrap_or_default();
            let backends = ListChange::between(before, &new.backends);
            let is_same = old.is_some_and(|old| old.wakes == new.wakes);
            if !is_same || !backends.is_empty() {
                changed.push(BackendsChange { of: new.at, backends, wakes: new.wakes });
            }
        },
    );
    (changed, removed)
}

fn apply_backends<K: Ord + Copy>(
    list: &mut Vec<Lead<K>>,
    changed: &[BackendsChange<K>],
    removed: &[K],
) {
    list.retain(|one| !removed.contains(&one.at));
    for BackendsChange { of, backends, wakes } in changed {
        let at = list.binary_search_by_key(of, |one| one.at).unwrap_or_else(|at| {
            list.insert(at, Lead { at: *of, backends: Vec::new(), wakes: None });
            at
        });
        backends.apply(&mut list[at].backends);
        list[at].wakes = *wakes;
    }
}

/// Walks two ordered lists together: what is in both comes as a pair.
fn merge<'a, T>(
    old: &'a [T],
    new: &'a [T],
    order: impl Fn(&T, &T) -> Ordering,
    mut each: impl FnMut(Option<&'a T>, Option<&'a T>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => order(old, new),
        };
        match order {
            Ordering::Less => each(old.next(), None),
            Ordering::Greater => each(None, new.next()),
            Ordering::Equal => each(old.next(), new.next()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::NetworkChange;
    use crate::strategies::{network_assignment, network_pair};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn a_change_makes_the_later_version_of_the_earlier_one((old, new) in network_pair()) {
            let change = NetworkChange::between(&old, &new).unwrap();
            let mut network = old.clone();
            change.apply(&mut network);
            prop_assert_eq!(&network, &new);
            // It is no longer what comes next.
            change.apply(&mut network);
            prop_assert_eq!(&network, &new);
        }

        #[test]
        fn nothing_else_may_change((old, new) in network_pair(), vni in any::<u32>()) {
            let new = crate::assignment::NetworkAssignment { vni, ..new };
            prop_assert_eq!(NetworkChange::between(&old, &new).is_some(), old.vni == vni);
        }

        #[test]
        fn nothing_changes_between_the_same(one in network_assignment()) {
            let later = crate::assignment::NetworkAssignment { version: one.version.wrapping_add(1), ..one.clone() };
            prop_assert_eq!(NetworkChange::between(&one, &later).unwrap().entries(), 0);
        }
    }
}
