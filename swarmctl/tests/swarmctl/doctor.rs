//! `doctor`: what differs is named, and nothing else.

use std::sync::atomic::Ordering;

use expect_test::expect;
use swarm_proto::id::NodeId;
use swarm_proto::object::{NodeStatus, TaskState};
use swarm_proto::wire;
use swarmctl::doctor::{Answers, differences};
use swarmctl::state::State;
use swarmctl::view::DifferenceView;

use crate::fake::Fake;
use crate::objects::{cluster_status, state};

/// What a host says that holds exactly what the cluster thinks.
fn host(state: &State, id: u64) -> wire::HostInspection {
    let node = NodeId(id);
    let tasks = state.tasks.values().filter(|task| task.node == Some(node));
    let networks = state.networks.values();
    let networks = networks.filter(|network| network.gateways.iter().any(|g| g.node == node));
    let volumes = state.volumes.values().filter(|volume| volume.holdings.contains_key(&node));
    wire::HostInspection {
        node: id,
        hostname: format!("n{id}"),
        tasks: tasks
            .map(|task| wire::HeldTask { id: task.id.to_string(), state: task.status.state.into() })
            .collect(),
        networks: networks.map(|network| network.id.0).collect(),
        volumes: volumes.map(|volume| volume.id.0).collect(),
        ..wire::HostInspection::default()
    }
}

/// A cluster in which nothing differs.
fn healthy() -> Answers {
    let mut state = state();
    for id in 1..=3 {
        state.nodes.get_mut(&NodeId(id)).unwrap().status = NodeStatus::Ready;
    }
    state.tasks.retain(|_, task| task.status.state == TaskState::Running);
    for service in state.services.values_mut() {
        let tasks = state.tasks.values().filter(|task| task.id.service == service.id).count();
        let replicas = u32::try_from(tasks).unwrap();
        service.spec.mode = swarm_proto::spec::ServiceMode::Replicated { replicas };
    }
    let mut status = cluster_status(false);
    let numbers = status.members[0].numbers.clone();
    for member in &mut status.members {
        member.reachable = true;
        member.numbers.clone_from(&numbers);
    }
    let hosts = (1..=3).map(|id| host(&state, id)).collect();
    Answers { status, state, hosts }
}

fn words(answers: &Answers) -> String {
    let line = |one: DifferenceView| {
        let DifferenceView { node, kind, object, problem, .. } = one;
        format!("{node}: {kind} `{object}` {problem}\n")
    };
    differences(answers).into_iter().map(line).collect::<Vec<_>>().concat()
}

#[test]
fn nothing_is_said_of_a_cluster_in_which_all_is_as_it_should_be() {
    assert_eq!(words(&healthy()), "");
}

#[test]
fn each_kind_of_difference_is_named_where_it_is() {
    let mut answers = healthy();
    let members = &mut answers.status.members;
    members[1].numbers.as_mut().unwrap().checksum = 5;
    for (member, applied) in members.iter_mut().zip([5_000, 5_000, 7]) {
        let numbers = member.numbers.as_mut().unwrap();
        (numbers.applied, numbers.commit) = (applied, applied);
    }
    let hosts = &mut answers.hosts;
    let gone = hosts[0].tasks.remove(0);
    hosts[1].tasks.push(gone);
    hosts[0].networks.clear();
    hosts[0].volumes = vec![9];
    hosts[1].differences.push(wire::Difference {
        kind: String::from("link"),
        object: String::from("gw0"),
        problem: String::from("of network counter_default is gone"),
        hint: String::from("restart the agent"),
    });
    hosts[2].error = String::from("its agent did not answer in 8 s");
    answers.state.nodes.get_mut(&NodeId(3)).unwrap().status = NodeStatus::Down;
    expect![[r#"
        n2: controller `n2` holds another state than `n1` at entry 5000 of the log
        n3: controller `n3` is 4993 entries of the log behind
        n1: task `counter_web.1` is assigned to this host, which does not know it
        n1: network `counter_default` has a place on this host, which does not know it
        n1: volume `counter_data` should be on this host, and its content is gone
        n1: volume `9` is on this host's disk, and the cluster does not know it there
        n2: task `counter_web.1` is running on the host, and the cluster does not know it there
        n2: link `gw0` of network counter_default is gone
        n3: node `n3` is down: its agent is not heard
        n3: host `n3` could not be looked at: its agent did not answer in 8 s
    "#]]
    .assert_eq(&words(&answers));
}

#[tokio::test]
async fn differences_make_the_exit_code_and_are_shown_with_what_to_do() {
    let fake = Fake::start(state()).await;
    let all = healthy();
    let mut hosts = all.hosts;
    hosts[2].error = String::from("agent of node n3: it is down");
    *fake.script.hosts.lock().unwrap() = hosts;
    expect![[r#"
        controller `n3` cannot be reached: nobody listens there
          hint: see that swarm-controller runs there, and that the host can be reached
        service `counter_web` 2 of 3 running (counter_web.3: pending: no suitable node: constraint `node.labels.zone!=c` on 1 node)
          hint: see its tasks: `swarmctl ps counter_web`
        node `n3` is down: its agent is not heard
          hint: start the host and its agent; if it is lost, `swarmctl node lost` has its tasks replaced at once, and `swarmctl node rm` removes it
        host `n3` could not be looked at: agent of node n3: it is down
          hint: see that swarm-agent runs there, and that the controllers reach it
        4 differences between 2 controllers and 2 hosts
        ---
        ---
        exit code 1
    "#]].assert_eq(&fake.run(&["doctor"]).await.transcript());
    fake.script.leaderless.store(true, Ordering::Relaxed);
    let said = fake.run(&["doctor", "-o", "json"]).await.transcript();
    assert!(said.contains("no quorum confirmed this"), "{said}");
    assert!(said.contains(r#""stale": true"#) && said.ends_with("exit code 1\n"), "{said}");
}
