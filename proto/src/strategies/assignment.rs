//! Anything that agents are told.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::{
    address, addresses, allocated_port, attachment, autoscale, container_spec, digest, duration,
    generic_resources, health, mac, restart_policy, task_id, task_state, text, time,
};
use crate::assignment::{
    AssignmentSet, NetworkAssignment, NetworkIngress, NetworkPeer, NetworkVip, TaskAssignment,
    VolumeAssignment, VolumeReport,
};
use crate::id::{NetworkId, ServiceId, Slot, TaskId, VolumeId};

strategy! {
    fn task_assignment -> TaskAssignment {
        id: task_id(),
        name: text(),
        stack: text(),
        service: text(),
        desired: task_state(),
        start_after: option::of(time()),
        container: container_spec(),
        attachments: vec(attachment(), 0..3),
        volumes: btree_map(text(), any::<u64>().prop_map(VolumeId), 0..3),
        host_ports: vec(allocated_port(), 0..3),
        restart: restart_policy(),
        withdrawal: health::withdrawal(),
        lease: option::of(duration()),
        resources: generic_resources(),
        measure: option::of(autoscale::measure()),
    }
    fn volume_assignment -> VolumeAssignment {
        id: any::<u64>().prop_map(VolumeId),
        name: text(),
        remove: any::<bool>(),
    }
    fn network_peer -> NetworkPeer {
        address: address(),
        mac: mac(),
        host: address(),
    }
    fn network_vip -> NetworkVip {
        at: address(),
        backends: addresses(),
        wakes: option::of(any::<u64>().prop_map(ServiceId)),
    }
    fn network_ingress -> NetworkIngress {
        at: allocated_port(),
        backends: addresses(),
        wakes: option::of(any::<u64>().prop_map(ServiceId)),
    }
    fn any_network -> NetworkAssignment {
        id: any::<u64>().prop_map(NetworkId),
        name: text(),
        version: any::<u64>(),
        vni: any::<u32>(),
        vxlan_port: any::<u16>(),
        subnet: address(),
        prefix_length: 0..=32_u8,
        internal: any::<bool>(),
        gateway: option::of((address(), mac())),
        peers: vec(network_peer(), 0..3),
        names: btree_map(text(), addresses(), 0..3).prop_map(Into::into),
        vips: vec(network_vip(), 0..3),
        ingress: vec(network_ingress(), 0..3),
    }
    fn volume_report -> VolumeReport {
        id: any::<u64>().prop_map(VolumeId),
        name: text(),
        created_at: time(),
        filled_from: option::of((text(), digest())),
    }
}

/// A network whose lists are in order.
pub(crate) fn network_assignment() -> BoxedStrategy<NetworkAssignment> {
    any_network().prop_map(NetworkAssignment::sorted).boxed()
}

/// Two versions of one network, which share members, names, addresses and ports.
pub(crate) fn network_pair() -> BoxedStrategy<(NetworkAssignment, NetworkAssignment)> {
    let members = || vec((0..12_usize, any::<bool>()), 0..12);
    let pool = (vec(any_network(), 4), members(), members());
    pool.prop_map(|(pool, old, new)| {
        let version = |number: u64, chosen: &[(usize, bool)]| {
            let mut one = NetworkAssignment { version: number, ..pool[0].clone() };
            let (peers, names, vips, ingress) = Default::default();
            one = NetworkAssignment { peers, names, vips, ingress, ..one };
            for (number, other) in chosen {
                let from = &pool[number % pool.len()];
                one.peers.extend(from.peers.get(number / 4).copied());
                one.names.extend(from.names.iter().nth(number / 4).map(|(name, found)| {
                    let found = if *other { found.clone() } else { Vec::new() };
                    (name.clone(), found)
                }));
                one.vips.extend(from.vips.get(number / 4).map(|vip| NetworkVip {
                    backends: if *other { vip.backends.clone() } else { Vec::new() },
                    ..vip.clone()
                }));
                one.ingress.extend(from.ingress.get(number / 4).map(|ingress| NetworkIngress {
                    wakes: ingress.wakes.filter(|_| *other),
                    ..ingress.clone()
                }));
            }
            one.sorted()
        };
        (version(1, &old), version(2, &new))
    })
    .boxed()
}

/// Few identities, so that two sets share some.
pub(crate) fn assignment_set() -> BoxedStrategy<AssignmentSet> {
    let tasks = vec((1..4_u32, task_assignment()), 0..3);
    let networks = vec((1..4_u64, network_assignment()), 0..3);
    let volumes = vec((1..4_u64, volume_assignment()), 0..3);
    (tasks, networks, volumes)
        .prop_map(|(tasks, networks, volumes)| {
            let mut set = AssignmentSet::default();
            for (slot, mut task) in tasks {
                task.id =
                    TaskId { service: ServiceId(1), slot: Slot::Replica(slot), generation: 1 };
                set.tasks.insert(task.id, task);
            }
            for (id, mut network) in networks {
                network.id = NetworkId(id);
                set.networks.insert(network.id, network);
            }
            for (id, mut volume) in volumes {
                volume.id = VolumeId(id);
                set.volumes.insert(volume.id, volume);
            }
            set
        })
        .boxed()
}
