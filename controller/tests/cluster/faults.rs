//! Controllers are killed, stopped and paused; acknowledged writes stay.

use std::time::{Duration, Instant};

use swarm_proto::wire;
use tonic::Code;

use crate::host::{cluster, cluster_with, deploy, eventually, leader, scale, stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_acknowledged_write() {
    let mut hosts = cluster(3).await;
    hosts[0].control().await.deploy(deploy("r0", stack("web", 1))).await.unwrap();
    for round in 1..=4_u32 {
        let gone = leader(&hosts).await;
        hosts[gone].kill();
        let other = &hosts[(gone + 1) % 3];
        let id = format!("scale-{round}");
        let began = Instant::now();
        let scaled = other.control().await.scale_service(scale(&id, "web", round + 1)).await;
        assert_eq!(scaled.unwrap().into_inner().previous, round, "round {round}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        hosts[gone].start();
        eventually("the killed one catches up", async || {
            let state = hosts[gone].state().await;
            let spec = state.services.first().and_then(|service| service.spec.clone());
            let mode = spec.and_then(|spec| spec.mode).and_then(|mode| mode.mode);
            match mode {
                Some(wire::service_mode::Mode::Replicated(found))
                    if found.replicas == round + 1 =>
                {
                    Ok(())
                }
                found => Err(format!("{found:?}")),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_of_all_loses_nothing() {
    let mut hosts = cluster(3).await;
    let mut control = hosts[1].control().await;
    for number in 0..20 {
        let id = format!("r{number}");
        control.deploy(deploy(&id, stack(&format!("s{number}"), 1))).await.unwrap();
    }
    hosts.iter_mut().for_each(crate::host::Host::kill);
    hosts.iter_mut().for_each(crate::host::Host::start);
    let mut control = hosts[2].control().await;
    let ask = wire::GetStateRequest { stale: false };
    let state = eventually("the cluster reads again", async || {
        let mut control = control.clone();
        control.get_state(ask).await.map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(state.into_inner().stacks.len(), 20);
    control.deploy(deploy("after", stack("after", 1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_writes_are_refused_and_stale_reads_served() {
    let mut hosts = cluster(3).await;
    hosts[0].control().await.deploy(deploy("r0", stack("web", 1))).await.unwrap();
    hosts[1].kill();
    hosts[2].kill();
    let mut control = hosts[0].control().await;
    let began = Instant::now();
    let refused = control.deploy(deploy("r1", stack("other", 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("\n\nhint: "), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let ask = wire::GetStateRequest { stale: false };
    let refused = control.get_state(ask).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("no leader: 2 of 3 controllers must"), "{refused}");
    let state = hosts[0].state().await;
    assert!(state.stale);
    assert_eq!(state.stacks.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_hands_over_and_ends_with_zero() {
    let mut hosts = cluster(3).await;
    let first = leader(&hosts).await;
    hosts[first].signal("TERM");
    let began = Instant::now();
    let other = &hosts[(first + 1) % 3];
    other.control().await.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(hosts[first].wait(), Some(0), "{}", hosts[first].log());
    assert!(!hosts[first].socket().exists());
    hosts[first].start();
    eventually("it is back", async || {
        let state = hosts[first].state().await;
        if state.stacks.len() == 1 { Ok(()) } else { Err(String::from("it lags")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_is_replaced_and_comes_back_as_follower() {
    let hosts = cluster(3).await;
    let first = leader(&hosts).await;
    hosts[first].signal("STOP");
    let other = &hosts[(first + 1) % 3];
    other.control().await.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    hosts[first].signal("CONT");
    eventually("it follows", async || {
        let mut control = hosts[first].control().await;
        let ask = wire::GetStateRequest { stale: false };
        let state = control.get_state(ask).await.map_err(|status| status.to_string())?.into_inner();
        if state.stacks.len() == 1 { Ok(()) } else { Err(String::from("a stale read")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_for_long_gets_a_snapshot_and_survives_with_it() {
    let mut hosts = cluster_with("snapshot_entries = 100\n", 3).await;
    let away = (leader(&hosts).await + 1) % 3;
    hosts[away].kill();
    let mut control = hosts[(away + 1) % 3].control().await;
    control.deploy(deploy("r0", stack("web", 1))).await.unwrap();
    // More than a snapshot keeps behind it for slow followers.
    for number in 1..=800_u32 {
        control.scale_service(scale(&format!("r{number}"), "web", number % 3)).await.unwrap();
    }
    let reached = hosts[(away + 1) % 3].state().await.applied;
    hosts[away].start();
    let caught_up = async |hosts: &[crate::host::Host]| {
        eventually("it catches up", async || {
            let state = hosts[away].state().await;
            let count = state.services.len();
            if state.applied >= reached && count == 1 { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
    };
    caught_up(&hosts).await;
    let snapshots = hosts[away].dir.path().join("state/controller/snapshots");
    eventually("one snapshot is kept", async || {
        let count = std::fs::read_dir(&snapshots).unwrap().count();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    hosts.iter_mut().for_each(crate::host::Host::kill);
    hosts.iter_mut().for_each(crate::host::Host::start);
    caught_up(&hosts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_under_way_while_leaders_die_are_applied_once() {
    let mut hosts = cluster(3).await;
    let first = leader(&hosts).await;
    let writer = (first + 1) % 3;
    let mut control = hosts[writer].control().await;
    let write = tokio::spawn(async move {
        for number in 0..60 {
            let id = format!("w{number}");
            let mut answer;
            loop {
                let request = deploy(&id, stack(&format!("s{number}"), 1));
                answer = control.deploy(request).await;
                match &answer {
                    Err(status) if status.code() == Code::Unavailable => {}
                    _ => break,
                }
            }
            let answer = answer.unwrap().into_inner();
            assert!(answer.changed && answer.revision == 1, "{number}: {answer:?}");
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let gone = leader(&hosts).await;
        if gone != writer {
            hosts[gone].kill();
            tokio::time::sleep(Duration::from_millis(400)).await;
            hosts[gone].start();
        }
    }
    write.await.unwrap();
    let ask = wire::GetStateRequest { stale: false };
    let state = hosts[writer].control().await.get_state(ask).await.unwrap().into_inner();
    assert_eq!(state.stacks.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_controller_is_out_for_good() {
    let mut hosts = cluster(3).await;
    let gone = (leader(&hosts).await + 1) % 3;
    let other = (gone + 1) % 3;
    let node = hosts[gone].control().await.get_version(wire::GetVersionRequest {}).await.unwrap();
    let raft_id = node.into_inner().raft_id;
    let state = hosts[other].state().await;
    let node = state.nodes.iter().find(|node| node.raft_id == Some(raft_id)).unwrap().id;
    hosts[gone].kill();
    let remove = wire::RemoveNodeRequest {
        request_id: String::from("remove"),
        node: node.to_string(),
        force: true,
    };
    let mut control = hosts[other].control().await;
    control.remove_node(remove).await.unwrap();
    eventually("two vote", async || {
        let state = hosts[other].state().await;
        let left = (state.voters.len(), state.nodes.len());
        if left == (2, 2) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    hosts[gone].start();
    assert_eq!(hosts[gone].wait(), Some(78), "{}", hosts[gone].log());
    assert!(hosts[gone].log().contains("was removed from the cluster"), "{}", hosts[gone].log());
    control.deploy(deploy("r2", stack("web", 1))).await.unwrap();
    assert_eq!(hosts[other].state().await.voters.len(), 2);
}
