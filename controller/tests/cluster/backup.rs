//! Backup while running, and restore after everything is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use swarm_proto::{backup, wire};

use crate::host::{Host, cluster, deploy, eventually, leader, scale, stack};

/// Everything acknowledged so far, as a file.
async fn make_backup(host: &Host, path: &Path) -> wire::Backup {
    let mut control = host.control().await;
    let request = wire::BackupRequest { stale: false };
    let mut pieces = control.backup(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes.extend(piece.data);
    }
    fs::write(path, &bytes).unwrap();
    backup::decode(&bytes, None).unwrap()
}

fn wreck(host: &mut Host) {
    host.kill();
    fs::remove_dir_all(host.dir.path().join("state/controller")).unwrap();
}

async fn settled(host: &Host) -> wire::StateView {
    eventually("the restored controller leads", async || {
        let state = host.state().await;
        if state.leader == 0 { Err(format!("{:?}", state.voters)) } else { Ok(state) }
    })
    .await
}

fn task_ids(state: &wire::StateView) -> BTreeSet<String> {
    state.tasks.iter().map(|task| task.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cluster_comes_back_on_one_host() {
    let mut hosts = cluster(3).await;
    let first = leader(&hosts).await;
    let mut control = hosts[first].control().await;
    control.deploy(deploy("d1", stack("web", 4))).await.unwrap();
    let tokens = hosts[0].expect(&["token"]);
    let file = hosts[0].dir.path().join("backup");
    let made = make_backup(&hosts[(first + 1) % 3], &file).await;
    assert!(!made.stale && made.term > 0);
    let before = hosts[first].state().await;
    assert!(before.applied >= made.applied);
    // What comes after the backup is lost.
    control.scale_service(scale("s1", "web", 9)).await.unwrap();
    drop(control);
    for host in &mut hosts {
        wreck(host);
    }
    let said = hosts[0].expect(&["restore", file.to_str().unwrap()]);
    assert!(said.contains("only controller of cluster") && said.contains("as node 1"), "{said}");
    hosts[0].start();
    let after = settled(&hosts[0]).await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.voters.len(), 1);
    assert!(before.voters.iter().all(|old| *old < after.voters[0]), "no raft id is used twice");
    let tasks = task_ids(&before);
    assert_eq!(tasks.len(), 4);
    assert_eq!(task_ids(&after), tasks);
    assert_eq!(hosts[0].expect(&["token"]).lines().count(), tokens.lines().count());
    // It goes on: what is made now is made with new identities.
    let mut control = hosts[0].control().await;
    control.scale_service(scale("s2", "web", 6)).await.unwrap();
    control.deploy(deploy("d2", stack("new", 1))).await.unwrap();
    let grown = eventually("new tasks", async || {
        let state = hosts[0].state().await;
        if state.tasks.len() == 7 { Ok(state) } else { Err(format!("{}", state.tasks.len())) }
    })
    .await;
    assert!(task_ids(&grown).is_superset(&tasks));
    let controllers = grown.nodes.iter().filter(|node| node.raft_id.is_some()).count();
    assert_eq!((grown.nodes.len(), controllers), (3, 1));
    // Others are let in as ever.
    let token = hosts[0].expect(&["token", "controller"]);
    let mut further = Host::new();
    further.expect(&["join", "--token", token.trim(), &hosts[0].address.clone()]);
    further.start();
    eventually("two voters", async || match further.state().await.voters.len() {
        2 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_past_may_restore() {
    let hosts = cluster(1).await;
    let mut control = hosts[0].control().await;
    control.deploy(deploy("d1", stack("web", 1))).await.unwrap();
    let file = hosts[0].dir.path().join("backup");
    let made = make_backup(&hosts[0], &file).await;
    drop(hosts.into_iter().map(|mut host| host.kill()).collect::<Vec<_>>());
    let bytes = backup::encode(&made);
    let mut host = Host::new();
    let file = host.dir.path().join("backup");
    fs::write(&file, &bytes).unwrap();
    host.expect(&["restore", file.to_str().unwrap()]);
    let refused = host.refused(&["restore", file.to_str().unwrap()]);
    assert!(refused.contains("holds a log"), "{refused}");
    host.start();
    let state = settled(&host).await;
    assert_eq!((state.nodes.len(), state.stacks.len()), (2, 1));
    let own = state.nodes.iter().find(|node| node.raft_id.is_some()).unwrap();
    assert!(own.id > 1_000, "node {} may be another host's", own.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_changes_nothing() {
    let hosts = cluster(1).await;
    let file = hosts[0].dir.path().join("backup");
    let made = make_backup(&hosts[0], &file).await;
    let whole = fs::read(&file).unwrap();
    let host = Host::new();
    let path = host.dir.path().join("backup");
    let attempt = || host.refused(&["restore", path.to_str().unwrap()]);
    let missing = attempt();
    assert!(missing.contains("cannot be restored: cannot read it: No such file"), "{missing}");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "it is cut off"),
        (&damaged[..], "it is damaged: its checksum does not match"),
        (b"version: 3\n", "it is not a backup of a cluster"),
        (
            &backup::encode(&wire::Backup { state: vec![0xff; 9], ..made.clone() }),
            "cannot be decoded",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        let refused = attempt();
        assert!(refused.contains(why), "{why}: {refused}");
        assert!(!host.dir.path().join("state").exists());
    }
    // A host of another cluster keeps that.
    let other = Host::new();
    other.expect(&["init"]);
    fs::remove_dir_all(other.dir.path().join("state/controller")).unwrap();
    let refused = other.refused(&["restore", file.to_str().unwrap()]);
    assert!(refused.contains("and the backup is of cluster"), "{refused}");
    assert!(!other.dir.path().join("state/controller").exists());
}
