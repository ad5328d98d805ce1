//! A locked cluster: controllers that start wait for its unlock key.

use std::fs;

use swarm_proto::transport::connect_unix;
use swarm_proto::wire;
use swarm_proto::wire::local_client::LocalClient;
use tonic::{Code, Status};

use crate::host::{Host, cluster, deploy, eventually, stack};
use crate::secrets::shown;

async fn set(host: &Host, id: &str, rotate: bool, off: bool) -> Result<String, Status> {
    let request = wire::SetLockRequest { request_id: id.to_owned(), rotate, off };
    Ok(host.control().await.set_lock(request).await?.get_ref().unlock_key.clone())
}

/// Waits until the key of a host's disk is wrapped, or is not.
async fn is_wrapped(host: &Host, wanted: bool) {
    eventually("the key is kept as the cluster wishes", async || {
        let text = fs::read_to_string(host.dir.path().join("state/controller/data.key")).unwrap();
        let wrapped = text.starts_with("SWDATA-2-");
        if wrapped == wanted { Ok(()) } else { Err(text[..9].to_owned()) }
    })
    .await;
}

async fn unlock(host: &Host, key: &str) -> Result<(), Status> {
    let channel = eventually("the socket answers", async || {
        connect_unix(&host.socket()).await.map_err(|error| error.to_string())
    });
    let request = wire::UnlockRequest { unlock_key: key.to_owned() };
    LocalClient::new(channel.await).unlock(request).await.map(drop)
}

async fn works(host: &Host) {
    eventually("it takes part", async || {
        let Ok(channel) = connect_unix(&host.socket()).await else {
            return Err(String::from("the socket does not answer"));
        };
        let mut control = wire::control_client::ControlClient::new(channel);
        let read = control.get_state(wire::GetStateRequest { stale: false }).await;
        read.map(drop).map_err(|status| status.message().to_owned())
    })
    .await;
}

/// Starts a host again that must then be locked.
async fn locked_again(host: &mut Host) {
    host.kill();
    host.start();
    let mut control = host.control().await;
    let refused = control.get_state(wire::GetStateRequest { stale: true }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let why = "this controller is locked: the key of its disk is wrapped\n\nhint: ";
    assert!(refused.message().starts_with(why), "{refused}");
    let token = host.refused(&["token", "agent"]);
    assert!(token.contains("this controller is locked"), "{token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_of_a_locked_cluster_waits_for_the_key_after_a_start() {
    let mut hosts = cluster(3).await;
    hosts[0].control().await.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let off = set(&hosts[0], "l1", false, true).await.unwrap_err();
    assert!(off.message().starts_with("the cluster is not locked"), "{off}");
    let refused = set(&hosts[0], "l2", true, false).await.unwrap_err();
    assert!(refused.message().starts_with("the cluster is not locked"), "{refused}");

    let key = set(&hosts[1], "l3", false, false).await.unwrap();
    assert!(key.starts_with("SWKEY-1-") && key.len() == 72, "the form of the key");
    assert_eq!(set(&hosts[1], "l3", false, false).await.unwrap(), key, "asked again, made once");
    let twice = set(&hosts[2], "l4", false, false).await.unwrap_err();
    assert!(twice.message().starts_with("the cluster is locked already\n\nhint: "), "{twice}");
    for host in &hosts {
        is_wrapped(host, true).await;
        assert!(shown(host, &key[8..]).is_empty(), "the disk shows the unlock key");
    }
    assert_eq!(
        unlock(&hosts[0], &key).await.unwrap_err().message(),
        "this controller is not locked"
    );

    locked_again(&mut hosts[2]).await;
    let wrong = format!("SWKEY-1-{}", "5a".repeat(32));
    let refused = unlock(&hosts[2], &wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("this is not the unlock key of this controller"));
    let refused = unlock(&hosts[2], "open sesame").await.unwrap_err();
    assert!(refused.message().starts_with("this is no unlock key"), "{refused}");
    unlock(&hosts[2], &key).await.unwrap();
    works(&hosts[2]).await;
    assert_eq!(hosts[2].state().await.stacks.len(), 1);
    let log = hosts[2].log();
    assert!(log.contains(r#"call="Unlock""#) && !log.contains(&key[8..]), "{log}");

    // One that joins locks its disk as well.
    let token = hosts[0].expect(&["token", "controller"]);
    let mut fourth = Host::new();
    fourth.expect(&["join", "--token", token.trim(), &hosts[0].address.clone()]);
    fourth.start();
    is_wrapped(&fourth, true).await;
    locked_again(&mut fourth).await;
    unlock(&fourth, &key).await.unwrap();
    works(&fourth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_changed_and_the_lock_taken_off() {
    let mut hosts = cluster(3).await;
    let key = set(&hosts[0], "l1", false, false).await.unwrap();
    for host in &hosts {
        is_wrapped(host, true).await;
    }
    hosts[2].kill();
    let next = set(&hosts[0], "l2", true, false).await.unwrap();
    assert_ne!(next, key);
    // It was away, and has the key before.
    hosts[2].start();
    let refused = unlock(&hosts[2], &next).await.unwrap_err();
    assert!(refused.message().contains("is opened by the key before"), "{refused}");
    let file = hosts[2].dir.path().join("state/controller/data.key");
    let before = fs::read(&file).unwrap();
    unlock(&hosts[2], &key).await.unwrap();
    works(&hosts[2]).await;
    eventually("it has heard of the new one", async || {
        let wrapped_anew = fs::read(&file).unwrap() != before;
        if wrapped_anew { Ok(()) } else { Err(String::from("the key is wrapped as before")) }
    })
    .await;
    locked_again(&mut hosts[2]).await;
    assert!(unlock(&hosts[2], &key).await.is_err());
    unlock(&hosts[2], &next).await.unwrap();
    works(&hosts[2]).await;

    assert_eq!(set(&hosts[1], "l3", false, true).await.unwrap(), "");
    for host in &mut hosts {
        is_wrapped(host, false).await;
        host.kill();
    }
    for host in &mut hosts {
        host.start();
    }
    for host in &hosts {
        works(host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_of_a_locked_cluster_needs_the_key_for_a_new_cluster() {
    let mut hosts = cluster(2).await;
    let key = set(&hosts[0], "l1", false, false).await.unwrap();
    for host in &mut hosts {
        is_wrapped(host, true).await;
        host.kill();
    }
    let force = ["force-new-cluster", "--i-know-the-others-are-lost"];
    let refused = hosts[0].refused(&force);
    assert!(refused.starts_with("this controller is locked\n\nhint: give"), "{refused}");
    let file = hosts[0].dir.path().join("key");
    fs::write(&file, format!("{key}\n")).unwrap();
    let forced = hosts[0].command(&force).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(forced.status.success(), "{forced:?}");
    hosts[0].start();
    unlock(&hosts[0], &key).await.unwrap();
    works(&hosts[0]).await;
}
