//! Networks as a controller tells of them: whole, then what changed.

use std::net::Ipv4Addr;

use swarm_proto::assignment::{AssignmentDiff, NetworkAssignment, NetworkChange, NetworkPeer};
use swarm_proto::id::NetworkId;

use crate::controller::Seen;
use crate::host::on_a_host;

const NETWORK: NetworkId = NetworkId(7);

/// A version of the network with so many members on another host.
fn version(number: u64, members: u8) -> NetworkAssignment {
    let peer = |last: u8| NetworkPeer {
        address: Ipv4Addr::new(10, 200, 0, last),
        mac: [2, 66, 0, 0, 0, last],
        host: Ipv4Addr::new(192, 0, 2, 99),
    };
    NetworkAssignment {
        id: NETWORK,
        name: "test_net".to_owned(),
        version: number,
        vni: 0x10_0007,
        vxlan_port: 4789,
        subnet: Ipv4Addr::new(10, 200, 0, 0),
        prefix_length: 24,
        internal: false,
        gateway: None,
        peers: (1..=members).map(peer).collect(),
        names: [("web".to_owned(), vec![Ipv4Addr::new(10, 200, 0, 1)])].into_iter().collect(),
        vips: Vec::new(),
        ingress: Vec::new(),
    }
}

fn change(from: u64, to: u64, members: u8) -> AssignmentDiff {
    let change = NetworkChange::between(&version(from, members - 1), &version(to, members));
    AssignmentDiff { network_changes: vec![change.unwrap()], ..AssignmentDiff::default() }
}

#[test]
fn what_changed_is_taken_and_what_does_not_fit_begins_the_session_anew() {
    on_a_host(async |host| {
        let stands = async |number: u64| {
            let is_there =
                |seen: &Seen| (seen.networks.get(&NETWORK.0) == Some(&number)).then_some(());
            host.controller.until("a version of the network", is_there).await;
        };
        let whole = vec![version(1, 1)];
        let whole = AssignmentDiff { networks: whole, ..AssignmentDiff::default() };
        host.controller.assign(whole).await;
        stands(1).await;
        host.controller.assign(change(1, 2, 2)).await;
        stands(2).await;
        // What comes after a version that is not here: the agent says hello again, and is told the whole.
        host.controller.seen.lock().unwrap().networks.clear();
        host.controller.assign(change(9, 10, 3)).await;
        stands(2).await;
        assert_eq!(host.controller.seen.lock().unwrap().hellos.len(), 2);
        host.controller.assign(change(2, 3, 3)).await;
        stands(3).await;
        let removed_networks = vec![NETWORK];
        let gone = AssignmentDiff { removed_networks, ..AssignmentDiff::default() };
        host.controller.assign(gone).await;
        let is_gone = |seen: &Seen| seen.removed_networks.contains(&NETWORK.0).then_some(());
        host.controller.until("no network", is_gone).await;
    });
}
