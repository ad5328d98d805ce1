//! Controllers are killed, stopped and paused; acknowledged writes stay.

use std::time::{Duration, Instant};

use swarm_proto::wire;
use tonic::Code;

use crate::host::{cluster, deploy, eventually, leader, scale, stack};

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
