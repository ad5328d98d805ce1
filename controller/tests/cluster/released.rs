//! This program goes on with what a released one left.

use std::path::Path;

use swarm_proto::transport::{self, CONTROLLER_NAME, JoinToken, KeyAndRequest, Tls};
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;
use swarm_proto::wire::join_client::JoinClient;

use crate::host::{Host, cluster, eventually};

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
