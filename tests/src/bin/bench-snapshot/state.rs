//! A cluster's state with many tasks.

use std::path::PathBuf;
use std::time::Duration;

use swarm_controller::core::state::{State, apply};
use swarm_manifests::{Environment, Source};
use swarm_proto::backup;
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, ServiceId, Slot, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Node, NodeDescription, NodeStatus, Role, Service, Stack, Task, TaskState,
    TaskStatus,
};
use swarm_proto::spec::{ServiceMode, StackSpec};
use swarm_tests::bench::Outcome;

/// Tasks of a service.
const REPLICAS: u32 = 5_000;
/// Nodes on which they run.
const NODES: u64 = 100;
const STACK: &str = "services:\n  sleeper:\n    image: busybox:1\n    command: sleep 100000\n";

/// A backup with so many running tasks more. Nobody notices that their hosts do not exist.
pub(crate) fn fill(file: &[u8], tasks: u32) -> Outcome<Vec<u8>> {
    let mut backup = backup::decode(file, None)?;
    let mut state = State::from_bytes(&backup.state)?;
    let mut cluster = state.cluster.as_deref().ok_or("no cluster in the backup")?.clone();
    cluster.node_down_after = Duration::from_hours(10);
    act(&mut state, vec![Action::SetCluster(Box::new(cluster))])?;
    let nodes: Vec<NodeId> = (0..NODES).map(|n| NodeId(state.next.node + n)).collect();
    for id in &nodes {
        let node = node(*id, state.clock);
        act(&mut state, vec![Action::AddNode(Box::new(node))])?;
    }
    let spec = stack()?;
    let stack = Stack::new(spec.clone(), state.clock);
    act(&mut state, vec![Action::SetStack(Box::new(stack))])?;
    for number in 0..tasks.div_ceil(REPLICAS) {
        let id = ServiceId(state.next.service);
        let replicas = REPLICAS.min(tasks - number * REPLICAS);
        let service = service(&spec, id, number, replicas, state.clock)?;
        act(&mut state, vec![Action::SetService(Box::new(service))])?;
        for (replica, node) in (1..=replicas).zip(nodes.iter().cycle()) {
            run(
                &mut state,
                TaskId { service: id, slot: Slot::Replica(replica), generation: 1 },
                *node,
            )?;
        }
    }
    backup.state = state.to_bytes();
    Ok(backup::encode(&backup))
}

/// Applies a group, which must fit.
fn act(state: &mut State, actions: Vec<Action>) -> Outcome<()> {
    let groups = vec![Group { actions, ..Group::default() }];
    let applied = apply(state, &Entry { time: state.clock, checksum: 0, groups });
    if applied.groups == [true] { Ok(()) } else { Err("the state takes no such thing".into()) }
}

fn run(state: &mut State, id: TaskId, node: NodeId) -> Outcome<()> {
    let now = state.clock;
    let status = |state| TaskStatus { attempt: 0, ..TaskStatus::new(state, now) };
    let task = Task {
        id,
        spec_version: 1,
        node: None,
        desired: TaskState::Running,
        start_after: None,
        status: status(TaskState::New),
        attachments: Vec::new(),
        created_at: now,
        run: None,
        resources: [].into(),
        preempted_by: None,
        standby: false,
    };
    let actions = vec![
        Action::AddTask(Box::new(task)),
        Action::SetTaskAddresses { task: id, attachments: Vec::new() },
        Action::AssignTask { task: id, node, resources: [].into() },
        Action::SetTaskStatus { task: id, status: Box::new(status(TaskState::Running)) },
    ];
    act(state, actions)
}

fn stack() -> Outcome<StackSpec> {
    let environment =
        Environment { stack_name: Some(String::from("many")), ..Environment::default() };
    let name = String::from("many.yml");
    let source = Source { name, folder: PathBuf::from("/"), content: STACK.as_bytes().to_vec() };
    Ok(swarm_manifests::read_sources(&[source], &environment)?.0.spec)
}

fn service(
    stack: &StackSpec,
    id: ServiceId,
    number: u32,
    replicas: u32,
    now: Timestamp,
) -> Outcome<Service> {
    let mut spec = stack.services.values().next().ok_or("the stack has no service")?.clone();
    spec.mode = ServiceMode::Replicated { replicas };
    spec.networks.clear();
    Ok(Service::new(id, stack.name.clone(), format!("sleeper{number}"), spec, now))
}

fn node(id: NodeId, now: Timestamp) -> Node {
    Node {
        id,
        role: Role::Agent,
        availability: Availability::Active,
        labels: [].into(),
        status: NodeStatus::Ready,
        status_since: now,
        description: NodeDescription {
            hostname: format!("host{id}"),
            millicpus: 64_000,
            memory: 256 << 30,
            ..NodeDescription::default()
        },
        raft_id: None,
        controller_address: None,
        joined_at: now,
        declared_lost: false,
        recent_downs: Vec::new(),
    }
}
