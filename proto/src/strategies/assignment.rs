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
        address: address(),
        backends: addresses(),
        wakes: option::of(any::<u64>().prop_map(ServiceId)),
    }
    fn network_ingress -> NetworkIngress {
        port: allocated_port(),
        backends: addresses(),
        wakes: option::of(any::<u64>().prop_map(ServiceId)),
    }
    fn network_assignment -> NetworkAssignment {
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
        names: btree_map(text(), addresses(), 0..3),
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
