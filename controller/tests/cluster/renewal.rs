//! Certificates that live seconds: they are renewed while everything goes on, and a host that slept comes back.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swarm_proto::transport::{
    CONTROLLER_NAME, Identity, Keeper, Tls, certificate_validity, keep_valid, renew,
};
use swarm_proto::wire::dispatcher_client::DispatcherClient;
use tokio::time::sleep;

use crate::agent::{Agent, agent_identity};
use crate::host::{Host, cluster_with, deploy, eventually, scale, stack};

/// Waits until a certificate has been over for so long.
async fn outlive(certificate_pem: &str, by: Duration) {
    let (_, until) = certificate_validity(certificate_pem).unwrap();
    sleep((until + by).duration_since(SystemTime::now()).unwrap_or_default()).await;
}

fn identity(host: &Host) -> Identity {
    Identity::load(&host.dir.path().join("state")).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_without_a_session_or_a_write_noticing() {
    let hosts = cluster_with("certificate_seconds = 12\n", 3).await;
    let first: Vec<Identity> = hosts.iter().map(identity).collect();
    // A host with an agent only, as the agent keeps its certificate.
    let state = tempfile::tempdir().unwrap();
    let agent = agent_identity(&hosts[0]).await;
    agent.save(state.path()).unwrap();
    let tls = Tls::new(&agent.credentials()).unwrap();
    let (folder, used) = (state.path().to_owned(), agent.credentials());
    tokio::spawn(keep_valid(folder, Arc::clone(&tls), used, Keeper::First, renew));
    let mut session = Agent::connect(&agent, &hosts[1].address).await;
    session.welcomed().await;
    assert!(session.assigned().await.complete);
    let mut control = hosts[2].control().await;
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();

    for identity in first.iter().chain([&agent]) {
        outlive(&identity.certificate_pem, Duration::from_secs(1)).await;
    }
    for (host, old) in hosts.iter().zip(&first) {
        let new = identity(host);
        assert_ne!(new.certificate_pem, old.certificate_pem);
        assert_ne!(new.key_pem, old.key_pem);
        let scaled = scale(&format!("s-{}", host.address), "web", 2);
        host.control().await.scale_service(scaled).await.unwrap();
    }
    // The session that began under the old certificates still hears of changes.
    session.heartbeat().await;
    assert!(!session.assigned().await.complete);
    // And connections that begin now show new ones, on both sides.
    let renewed = Identity::load(state.path()).unwrap().unwrap();
    assert_ne!(renewed.certificate_pem, agent.certificate_pem);
    let channel = tls.connect(&hosts[2].address, CONTROLLER_NAME).await.unwrap();
    let empty = DispatcherClient::new(channel).session(tokio_stream::empty()).await;
    let refused = empty.err().map(|status| status.message().to_owned()).unwrap_or_default();
    assert!(!refused.contains("expired"), "{refused}");
    let mut session = Agent::connect(&renewed, &hosts[2].address).await;
    assert_eq!(session.welcomed().await.node_id, agent.node_id.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_slept_past_its_certificate_comes_back_within_the_grace() {
    let settings = "certificate_seconds = 10\nrenewal_grace_seconds = 3600\n";
    let mut hosts = cluster_with(settings, 1).await;
    let slept = agent_identity(&hosts[0]).await;
    let slept_long = agent_identity(&hosts[0]).await;
    // The controller sleeps, too.
    hosts[0].kill();
    outlive(&slept.certificate_pem, Duration::from_secs(1)).await;
    hosts[0].start();
    eventually("the controller renews its own", async || {
        let (_, until) = certificate_validity(&identity(&hosts[0]).certificate_pem).unwrap();
        if until > SystemTime::now() { Ok(()) } else { Err(String::from("not yet")) }
    })
    .await;

    let tls = Tls::new(&slept.credentials()).unwrap();
    let channel = eventually("it shows its new certificate", async || {
        let connected = tls.connect(&hosts[0].address, CONTROLLER_NAME).await;
        connected.map_err(|error| error.to_string())
    })
    .await;
    let refused = DispatcherClient::new(channel).session(tokio_stream::empty()).await.unwrap_err();
    let expected = format!("the certificate of node {} has expired", slept.node_id);
    assert!(refused.message().starts_with(&expected), "{refused}");
    let renewed = eventually("it is renewed", async || {
        renew(slept.clone()).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(renewed.node_id, slept.node_id);
    let mut session = Agent::connect(&renewed, &hosts[0].address).await;
    assert_eq!(session.welcomed().await.node_id, slept.node_id.0);

    let config = hosts[0].dir.path().join("controller.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("grace_seconds = 3600", "grace_seconds = 1")).unwrap();
    hosts[0].kill();
    outlive(&slept_long.certificate_pem, Duration::from_secs(2)).await;
    hosts[0].start();
    eventually("it is refused for good", async || {
        let refused = renew(slept_long.clone()).await.unwrap_err().to_string();
        let clear = "ago, and can be renewed for 1 seconds only\n\nhint: remove the node";
        if refused.contains(clear) { Ok(()) } else { Err(refused) }
    })
    .await;
}
