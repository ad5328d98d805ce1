//! This program goes on with what a released one left.

use std::path::Path;

use swarm_proto::transport::{self, CONTROLLER_NAME, JoinToken, KeyAndRequest, Tls};
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;
use swarm_proto::wire::join_client::JoinClient;

use crate::host::{Host, cluster, cluster_of, deploy, eventually, leader, scale, stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_an_older_release_is_restored_and_raised() {
    let backup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0/backup");
    let mut host = Host::new();
    host.expect(&["restore", backup.to_str().unwrap()]);
    host.start();
    let status = eventually("the newest cluster version", async || {
        let request = wire::GetClusterStatusRequest::default();
        let asked = host.control().await.get_cluster_status(request).await;
        let status = asked.map_err(|status| status.message().to_owned())?.into_inner();
        match status.cluster_version {
            version if version == ClusterVersion::NEWEST.0 => Ok(status),
            other => Err(format!("version {other}")),
        }
    })
    .await;
    assert_eq!(status.members[0].numbers.as_ref().unwrap().knows, ClusterVersion::NEWEST.0);
    let state = host.state().await;
    let wanted = |task: &&wire::Task| task.desired() == wire::TaskState::Running;
    assert_eq!((state.stacks.len(), state.tasks.iter().filter(wanted).count()), (1, 4));
    let scale = wire::ScaleServiceRequest {
        request_id: String::from("s1"),
        service: String::from("shop_web"),
        replicas: 5,
    };
    host.control().await.scale_service(scale).await.unwrap();
}

/// Waits until the cluster has a version.
async fn has_version(host: &Host, version: u32) {
    eventually(&format!("cluster version {version}"), async || {
        let request = wire::GetClusterStatusRequest::default();
        let asked = host.control().await.get_cluster_status(request).await;
        let found = asked.map_err(|status| status.message().to_owned())?.into_inner();
        match found.cluster_version {
            found if found == version => Ok(()),
            other => Err(format!("version {other}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_controller_that_knows_less_holds_the_version_until_it_knows_more() {
    const HOLD: &str = "cluster_version_at_most = 3\n";
    let mut hosts = vec![Host::with(HOLD), Host::new(), Host::new()];
    hosts = cluster_of(hosts).await;
    let first = leader(&hosts).await;
    has_version(&hosts[first], 3).await;
    // What the third version knows is done, by whoever leads; what it does not know waits.
    hosts[first].control().await.deploy(deploy("d1", stack("web", 2))).await.unwrap();
    let create = |id: &str| wire::CreateNetworkRequest {
        request_id: id.to_owned(),
        name: String::from("own"),
        ..wire::CreateNetworkRequest::default()
    };
    for host in &hosts {
        let refused = host.control().await.create_network(create("n1")).await.unwrap_err();
        let words = "needs cluster version 4, and the cluster has version 3: `";
        assert!(refused.message().contains(words), "{refused}");
        assert!(refused.message().contains("raise their `cluster_version_at_most`"), "{refused}");
    }
    // The leader goes, and the next one goes on with the same.
    hosts[first].kill();
    let others: Vec<usize> = (0..3).filter(|index| *index != first).collect();
    eventually("another leader", async || {
        let scale = scale(&format!("s{first}"), "web", 3);
        let done = hosts[others[0]].control().await.scale_service(scale).await;
        done.map(drop).map_err(|status| status.message().to_owned())
    })
    .await;
    hosts[first].start();
    has_version(&hosts[others[0]], 3).await;

    // It is upgraded: the version rises, and does not fall again.
    hosts[0].kill();
    hosts[0].configure("");
    hosts[0].start();
    has_version(&hosts[1], ClusterVersion::NEWEST.0).await;
    hosts[1].control().await.create_network(create("n2")).await.unwrap();
    hosts[0].kill();
    hosts[0].configure(HOLD);
    hosts[0].start();
    // It stops in the middle, by a signal: it may apply nothing of what it does not know.
    assert_eq!(hosts[0].wait(), None);
    let log = hosts[0].log();
    assert!(log.contains("the cluster has version 4"), "{log}");
    assert!(log.contains("or raise `cluster_version_at_most` where that is set"), "{log}");
    let backup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0/backup");
    let refused = Host::with(HOLD).refused(&["restore", backup.to_str().unwrap()]);
    assert!(refused.contains("hint: take the setting out of the configuration first"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_of_an_older_release_is_not_let_in() {
    let hosts = cluster(1).await;
    transport::install_crypto_provider();
    let token: JoinToken = hosts[0].expect(&["token", "controller"]).trim().parse().unwrap();
    let root = transport::fetch_root(&hosts[0].address, &token).await.unwrap();
    let tls = Tls::without_certificate(&root).unwrap();
    let channel = tls.connect(&hosts[0].address, CONTROLLER_NAME).await.unwrap();
    // Release 0.1.0 says nothing of what it knows.
    let request = wire::JoinClusterRequest {
        token: token.secret().reveal().to_owned(),
        certificate_signing_request: KeyAndRequest::make().unwrap().request_pem,
        hostname: String::from("old"),
        controller_address: String::from("127.0.0.1:9"),
        knows: 0,
    };
    let status = JoinClient::new(channel).join_cluster(request).await.unwrap_err();
    let expected = "this host's swarm-controller is too old: it knows cluster versions up to 1, and the cluster has version 4";
    assert!(status.message().starts_with(expected), "{status}");
    assert_eq!(hosts[0].state().await.nodes.len(), 1);
}
