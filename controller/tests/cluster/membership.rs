//! Controllers come and go: under load, with lost disks, after the loss of a majority.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use swarm_proto::object::Role;
use swarm_proto::transport::{self, Identity, JoinToken};
use swarm_proto::wire;
use tonic::Code;

use crate::host::{Host, cluster, deploy, eventually, leader, scale, stack};

/// What a controller ends with that must not be started again.
const FINAL: Option<i32> = Some(78);

async fn raft_id(host: &Host) -> u64 {
    let ask = wire::GetVersionRequest {};
    host.control().await.get_version(ask).await.unwrap().into_inner().raft_id
}

async fn node_of(host: &Host, raft_id: u64) -> u64 {
    let state = host.state().await;
    state.nodes.iter().find(|node| node.raft_id == Some(raft_id)).unwrap().id
}

fn demotion(node: u64) -> wire::UpdateNodeRequest {
    wire::UpdateNodeRequest {
        request_id: format!("demote-{node}"),
        node: node.to_string(),
        demote: true,
        ..wire::UpdateNodeRequest::default()
    }
}

fn removal(id: &str, node: u64, force: bool) -> wire::RemoveNodeRequest {
    wire::RemoveNodeRequest { request_id: id.to_owned(), node: node.to_string(), force }
}

/// Waits until so many vote, and nobody else belongs to the group.
async fn votes(host: &Host, count: usize) {
    eventually("all vote", async || {
        let state = host.state().await;
        let found = (state.voters.len(), state.learners.len(), state.leader != 0);
        if found == (count, 0, true) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn add(hosts: &mut Vec<Host>) {
    let token = hosts[0].expect(&["token", "controller"]);
    let mut host = Host::new();
    host.expect(&["join", "--token", token.trim(), &hosts[0].address]);
    host.start();
    hosts.push(host);
    votes(&hosts[0], hosts.len()).await;
}

/// Writes at one controller until told to stop; answers with the number of acknowledged writes, each of which set the
/// replicas to its own number.
async fn load(host: &Host, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u32> {
    let mut control = host.control().await;
    control.deploy(deploy("load", stack("load", 0))).await.unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let id = format!("load-{number}");
            loop {
                // Around 500, so that the rules have little to do.
                let answer = control.scale_service(scale(&id, "load", number % 7)).await;
                match answer {
                    Ok(answer) => {
                        let previous = answer.into_inner().previous;
                        assert_eq!(previous, (number - 1) % 7, "write {number} after a lost one");
                        break;
                    }
                    Err(status) if status.code() == Code::Unavailable => {}
                    Err(status) => panic!("write {number}: {status}"),
                }
            }
        }
        number
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_three_five_three_one_under_load() {
    let mut hosts = cluster(1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = load(&hosts[0], Arc::clone(&stop)).await;
    for _ in 0..4 {
        add(&mut hosts).await;
    }
    let mut seen: Vec<u64> = Vec::new();
    for host in &hosts {
        seen.push(raft_id(host).await);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);

    // The leader goes first, unless the load is written there.
    while hosts.len() > 1 {
        let leads = leader(&hosts).await;
        let gone = if leads == 0 { hosts.len() - 1 } else { leads };
        let own = raft_id(&hosts[gone]).await;
        let node = node_of(&hosts[0], own).await;
        hosts[0].control().await.update_node(demotion(node)).await.unwrap();
        let mut host = hosts.remove(gone);
        assert_eq!(host.wait(), FINAL, "{}", host.log());
        assert!(host.log().contains("taken out of the cluster"), "{}", host.log());
        let identity = Identity::load(&host.dir.path().join("state")).unwrap().unwrap();
        assert_eq!((identity.role, identity.raft_id), (Role::Agent, None));
        assert!(!host.dir.path().join("state/controller").exists(), "it kept the state");
        votes(&hosts[0], hosts.len()).await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(written > 20, "only {written} writes");
    let mut control = hosts[0].control().await;
    let refused = control.update_node(demotion(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("runs the only controller"), "{refused}");

    // Who comes now gets an id that nobody had.
    add(&mut hosts).await;
    assert_eq!(raft_id(&hosts[1]).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_demoted_hands_over() {
    let mut hosts = cluster(3).await;
    let leads = leader(&hosts).await;
    let other = (leads + 1) % 3;
    let own = raft_id(&hosts[leads]).await;
    let mut control = hosts[other].control().await;
    control.update_node(demotion(node_of(&hosts[other], own).await)).await.unwrap();
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    assert_eq!(hosts[leads].wait(), FINAL, "{}", hosts[leads].log());
    votes(&hosts[other], 2).await;
    // Started again, it says at once that it is none any more.
    let message = hosts[leads].output(&["run"]);
    assert_eq!(message.status.code(), FINAL);
    let text = String::from_utf8(message.stderr).unwrap();
    assert!(text.contains("joined its cluster as an agent"), "{text}");
}

/// Waits until the leader has noticed that another is lost, so that this one must stay. It is in touch, so it stays
/// before that too.
async fn must_stay(host: &Host, node: u64) {
    eventually("the loss is noticed", async || {
        let mut control = host.control().await;
        let refused = control.remove_node(removal("stays", node, false)).await.unwrap_err();
        let noticed = refused.message().contains("cannot be reached");
        if noticed { Ok(()) } else { Err(refused.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_controller_is_replaced_and_a_quorum_is_never_removed() {
    let mut hosts = cluster(3).await;
    let leads = leader(&hosts).await;
    let (lost, other) = ((leads + 1) % 3, (leads + 2) % 3);
    let (lost_id, other_id) = (raft_id(&hosts[lost]).await, raft_id(&hosts[other]).await);
    let lost_node = node_of(&hosts[leads], lost_id).await;
    let other_node = node_of(&hosts[leads], other_id).await;
    let mut control = hosts[leads].control().await;
    let refused = control.remove_node(removal("r0", other_node, false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("runs a controller that is in touch"), "{refused}");

    hosts[lost].signal("STOP");
    eventually("the loss is noticed, and it may go", async || {
        let mut control = hosts[leads].control().await;
        let removed = control.remove_node(removal("r1", lost_node, false)).await;
        removed.map_err(|status| status.to_string())
    })
    .await;
    votes(&hosts[leads], 2).await;
    hosts[lost].signal("CONT");
    assert_eq!(hosts[lost].wait(), FINAL, "{}", hosts[lost].log());
    assert!(hosts[lost].log().contains("was removed from the cluster"), "{}", hosts[lost].log());

    let token = hosts[leads].expect(&["token", "controller"]);
    let mut third = Host::new();
    third.expect(&["join", "--token", token.trim(), &hosts[leads].address]);
    third.start();
    votes(&hosts[leads], 3).await;
    let third_node = node_of(&hosts[leads], raft_id(&third).await).await;
    third.kill();
    must_stay(&hosts[leads], other_node).await;
    for refused in [
        control.update_node(demotion(other_node)).await.unwrap_err(),
        control.remove_node(removal("r2", other_node, true)).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("1 of 2 controllers with a vote"), "{refused}");
        assert!(refused.message().contains("cannot be reached\n\nhint: start `"), "{refused}");
    }
    control.remove_node(removal("r3", third_node, false)).await.unwrap();
    votes(&hosts[leads], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_log_is_lost_is_let_in_anew() {
    let mut hosts = cluster(3).await;
    hosts[0].control().await.deploy(deploy("r0", stack("web", 1))).await.unwrap();
    let node = node_of(&hosts[0], 3).await;
    hosts[2].kill();
    fs::remove_dir_all(hosts[2].dir.path().join("state/controller")).unwrap();
    let output = hosts[2].output(&["run"]);
    assert_eq!(output.status.code(), FINAL);
    let message = String::from_utf8(output.stderr).unwrap();
    let (_, command) = message.trim().split_once("under another one: ").unwrap();
    let config = hosts[2].dir.path().join("controller.toml");
    assert_eq!(command, format!("swarm-controller --config {} join", config.display()));

    hosts[2].expect(&["join"]);
    hosts[2].start();
    assert_eq!(raft_id(&hosts[2]).await, 4);
    votes(&hosts[2], 3).await;
    assert_eq!(node_of(&hosts[2], 4).await, node, "the node is another one");
    let state = hosts[2].state().await;
    assert_eq!((state.nodes.len(), state.stacks.len()), (3, 1));
    assert!(!state.voters.contains(&3), "{:?}", state.voters);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_host_becomes_a_controller_as_the_node_that_it_is() {
    let hosts = cluster(1).await;
    transport::install_crypto_provider();
    let token: JoinToken = hosts[0].expect(&["token", "agent"]).trim().parse().unwrap();
    let agent = transport::join(&hosts[0].address, &token, "a1", None).await.unwrap();
    let mut host = Host::new();
    agent.save(&host.dir.path().join("state")).unwrap();
    let message = host.refused(&["join"]);
    assert!(message.contains("a token is needed to make it a controller"), "{message}");
    let message = host.refused(&["join", "--token", &token.to_string()]);
    assert!(message.contains("this host is node 2 already, and this token"), "{message}");

    let token = hosts[0].expect(&["token", "controller"]);
    host.expect(&["join", "--token", token.trim()]);
    host.start();
    votes(&host, 2).await;
    let state = host.state().await;
    assert_eq!(state.nodes.len(), 2, "{:?}", state.nodes);
    let node = state.nodes.iter().find(|node| node.id == agent.node_id.0).unwrap();
    assert_eq!((node.role, node.raft_id), (wire::Role::Controller as i32, Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_begins_from_one_survivor() {
    let mut hosts = cluster(3).await;
    for number in 0..5 {
        let request = deploy(&format!("r{number}"), stack(&format!("s{number}"), 1));
        hosts[0].control().await.deploy(request).await.unwrap();
    }
    let message = hosts[2].refused(&["force-new-cluster", "--i-know-the-others-are-lost"]);
    assert!(message.starts_with("the controller of this host is running"), "{message}");
    hosts.iter_mut().for_each(Host::kill);
    let message = hosts[2].refused(&["force-new-cluster"]);
    assert!(message.contains("\n\nhint: where the others are lost for good"), "{message}");
    let printed = hosts[2].expect(&["force-new-cluster", "--i-know-the-others-are-lost"]);
    assert!(printed.contains("The old log is kept in "), "{printed}");
    let kept = |host: &Host, prefix: &str| {
        let folders = fs::read_dir(host.dir.path().join("state")).unwrap();
        let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).count()
    };
    assert_eq!(kept(&hosts[2], "controller.before-"), 1);

    hosts[2].start();
    votes(&hosts[2], 1).await;
    let mut control = hosts[2].control().await;
    control.deploy(deploy("after", stack("after", 1))).await.unwrap();
    let state = hosts[2].state().await;
    assert_eq!((state.stacks.len(), state.nodes.len(), state.voters), (6, 3, vec![4]));

    // One of the others comes back after all: it is turned away, and stops for good.
    hosts[1].start();
    assert_eq!(hosts[1].wait(), FINAL, "{}", hosts[1].log());
    let said = hosts[1].log();
    assert!(said.contains("or forced anew, as "), "{said}");
    assert_eq!(kept(&hosts[1], "controller.of-1-"), 1, "its log is not lost");
    let token = hosts[2].expect(&["token", "controller"]);
    hosts[1].expect(&["join", "--token", token.trim(), &hosts[2].address.clone()]);
    hosts[1].start();
    votes(&hosts[2], 2).await;
}
