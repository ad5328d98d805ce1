//! What the cluster says of its controllers, with a quorum and without.

use swarm_proto::wire;

use crate::host::{Host, cluster, eventually, leader};

async fn ask(host: &Host, stale: bool) -> wire::ClusterStatus {
    let request = wire::GetClusterStatusRequest { stale, own: false };
    host.control().await.get_cluster_status(request).await.unwrap().into_inner()
}

fn reachable(status: &wire::ClusterStatus) -> Vec<bool> {
    status.members.iter().map(|member| member.reachable).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_controller_tells_of_all_and_names_who_is_lost() {
    let mut hosts = cluster(3).await;
    let leads = leader(&hosts).await;
    for host in &hosts {
        let status = ask(host, false).await;
        assert!(!status.stale);
        assert_eq!(reachable(&status), [true; 3], "{status:?}");
        assert!(status.members.iter().all(|member| member.member == "voter"), "{status:?}");
        let numbers = status.members.iter().map(|member| member.numbers.clone().unwrap());
        let terms: Vec<u64> = numbers.map(|numbers| numbers.term).collect();
        assert!(terms.iter().all(|term| *term == terms[0]), "{terms:?}");
    }

    let pool = wire::Prefix { address: 0x0a00_0000, length: 8 };
    let networking = ask(&hosts[0], false).await.networking.unwrap();
    assert_eq!(networking.address_pools, [pool]);
    assert_eq!((networking.vxlan_port, networking.vni_base), (4789, 0x10_0000));

    let gone = (leads + 1) % 3;
    hosts[gone].kill();
    let status = ask(&hosts[leads], false).await;
    assert!(!status.stale);
    let lost = status.members.iter().find(|member| !member.reachable).unwrap();
    assert_eq!(lost.address, hosts[gone].address);
    assert!(lost.numbers.is_none());
    assert!(lost.error.contains("cannot reach"), "{lost:?}");
    eventually("the view of all shows it too", async || {
        let lost = hosts[leads].state().await.unreachable;
        if lost.len() == 1 { Ok(()) } else { Err(format!("{lost:?}")) }
    })
    .await;

    hosts[leads].kill();
    let last = 3 - gone - leads;
    let status = ask(&hosts[last], false).await;
    assert!(status.stale, "{status:?}");
    assert_eq!(reachable(&status).iter().filter(|reachable| **reachable).count(), 1);
    assert_eq!(status.members.len(), 3);
}
