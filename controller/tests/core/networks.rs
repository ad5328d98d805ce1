//! What agents are told of networks: those that take it, only what changed.

use std::collections::BTreeMap;

use swarm_controller::core::{Command, Core, FromAgent, Input, Output, ToAgent};
use swarm_proto::assignment::{AssignmentSet, NetworkAssignment};
use swarm_proto::id::{NodeId, Timestamp};
use swarm_proto::object::{Role, TaskState, TaskStatus};

use crate::contract::{drive, hello, leader};
use crate::spec;

/// An agent that only listens.
#[derive(Default)]
struct Told {
    set: AssignmentSet,
    whole: usize,
    changes: usize,
}

impl Told {
    fn hear(&mut self, session: u64, outputs: &[Output]) {
        for output in outputs {
            let Output::SessionSend { session: to, message } = output else { continue };
            let ToAgent::Assignments { diff, .. } = message else { continue };
            if *to == session {
                self.whole += diff.networks.len();
                self.changes += diff.network_changes.len();
                self.set.apply(diff.clone());
            }
        }
    }

    /// The one network, but for the node's own place.
    fn network(&self) -> NetworkAssignment {
        let networks: Vec<_> = self.set.networks.values().collect();
        let [network] = networks[..] else { panic!("{networks:?}") };
        NetworkAssignment { gateway: None, ..network.clone() }
    }
}

/// Does something, lets the leader go on, and has both agents hear of it.
fn act(core: &mut Core, agents: &mut [Told; 2], input: Input) {
    let mut outputs = drive(core, input);
    for _ in 0..3 {
        outputs.extend(drive(core, Input::Tick));
    }
    for (session, agent) in (1..).zip(agents) {
        agent.hear(session, &outputs);
    }
}

#[test]
fn an_agent_is_told_what_changed_of_a_network() {
    let mut core = leader();
    let mut agents = [Told::default(), Told::default()];
    let command = |number: u64, command| {
        let request_id = format!("r{number}");
        Input::Command { token: number, request_id, command }
    };
    let (role, hostname) = (Role::Agent, "n2".to_owned());
    let join = Command::Join { hostname, role, controller_address: None };
    act(&mut core, &mut agents, command(1, join));
    for (session, takes) in [(1, true), (2, false)] {
        let input = Input::SessionOpened { session, node: NodeId(session) };
        act(&mut core, &mut agents, input);
        let mut message = hello();
        if let FromAgent::Hello { takes_network_changes, .. } = &mut message {
            *takes_network_changes = takes;
        }
        act(&mut core, &mut agents, Input::SessionMessage { session, message });
    }
    let spec = spec::stack("shop", &["web:replicas=12,net=net,port=8000:80"]);
    let deploy = Command::Deploy { spec, prune: false, warnings: Vec::new() };
    act(&mut core, &mut agents, command(2, deploy));
    let whole = agents[0].whole;
    let tasks = core.state().tasks.values().map(|task| (task.id, task.node));
    let tasks: BTreeMap<_, _> = tasks.collect();
    for (task, node) in &tasks {
        let status = TaskStatus::new(TaskState::Running, Timestamp(1));
        let message = FromAgent::Statuses(vec![(*task, status)]);
        let session = node.unwrap().0;
        act(&mut core, &mut agents, Input::SessionMessage { session, message });
        assert_eq!(agents[0].network(), agents[1].network());
    }
    let fewer = Command::Scale { service: "shop_web".to_owned(), replicas: 7 };
    act(&mut core, &mut agents, command(3, fewer));
    assert_eq!(agents[0].network(), agents[1].network());
    assert_eq!(agents[0].network().vips[0].backends.len(), 7);
    assert_eq!(agents[0].whole, whole, "no network whole after the first time");
    assert!(agents[0].changes >= tasks.len(), "{} changes", agents[0].changes);
    assert_eq!(agents[1].changes, 0);
    assert!(agents[1].whole > tasks.len());

    // Whoever begins anew is told the whole first.
    act(&mut core, &mut agents, Input::SessionOpened { session: 3, node: NodeId(1) });
    let mut anew = Told::default();
    let message = hello();
    let mut outputs = drive(&mut core, Input::SessionMessage { session: 3, message });
    outputs.extend(drive(&mut core, Input::Tick));
    anew.hear(3, &outputs);
    agents[1].hear(2, &outputs);
    assert_eq!(anew.whole, 1);
    assert_eq!(anew.network(), agents[1].network());
}
