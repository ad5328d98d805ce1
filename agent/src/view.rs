//! What this host knows of its own tasks, in the form in which controllers show theirs: for `swarmctl --local`.

use std::collections::BTreeMap;

use swarm_proto::assignment::{TaskAssignment, VolumeReport};
use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Node, NodeDescription, NodeStatus, Role, Service, Task, TaskState, TaskStatus,
};
use swarm_proto::spec::{ServiceMode, ServiceSpec};
use swarm_proto::wire;

use crate::clock;
use crate::journal::{Contents, Progress};

/// The tasks assigned to this host with their services, as far as a host knows them. Values of environment variables
/// stay out.
pub fn state_view(contents: &Contents, node: NodeId, hostname: &str) -> wire::StateView {
    let mut services: BTreeMap<ServiceId, Service> = BTreeMap::new();
    let mut tasks = Vec::new();
    for assignment in contents.tasks.values() {
        let service = services
            .entry(assignment.id.service)
            .or_insert_with(|| service(assignment, ServiceMode::Replicated { replicas: 0 }));
        if let ServiceMode::Replicated { replicas } = &mut service.spec.mode {
            *replicas += u32::from(assignment.desired <= TaskState::Running);
        }
        let progress = contents.progress.get(&assignment.id);
        let status = progress.map_or_else(untouched, |known| known.status.clone());
        tasks.push(wire::Task::from(&task(assignment, status, node)));
    }
    wire::StateView {
        stale: true,
        tasks,
        services: services.values().map(wire::Service::from).collect(),
        nodes: vec![wire::Node::from(&own_node(node, hostname))],
        clock: clock::now().0,
        node: hostname.to_owned(),
        known_at: clock::now().0,
        ..wire::StateView::default()
    }
}

/// The tasks and networks that this host was told of, with how far each task is, and its volumes. Differences stay out.
pub fn inspection(
    contents: &Contents,
    volumes: &[VolumeReport],
    node: NodeId,
    hostname: &str,
) -> wire::HostInspection {
    let held = |(id, progress): (&TaskId, &Progress)| wire::HeldTask {
        id: id.to_string(),
        state: progress.status.state.into(),
    };
    wire::HostInspection {
        node: node.0,
        hostname: hostname.to_owned(),
        tasks: contents.progress.iter().map(held).collect(),
        networks: contents.networks.keys().map(|id| id.0).collect(),
        volumes: volumes.iter().map(|volume| volume.id.0).collect(),
        ..wire::HostInspection::default()
    }
}

/// The status of a task that was assigned and not looked at yet.
fn untouched() -> TaskStatus {
    TaskStatus { attempt: 0, ..TaskStatus::new(TaskState::Assigned, clock::now()) }
}

fn task(assignment: &TaskAssignment, status: TaskStatus, node: NodeId) -> Task {
    Task {
        id: assignment.id,
        spec_version: 0,
        node: Some(node),
        desired: assignment.desired,
        start_after: assignment.start_after,
        status,
        attachments: assignment.attachments.clone(),
        created_at: Timestamp::default(),
        run: None,
        resources: assignment.resources.clone(),
        preempted_by: None,
        standby: false,
    }
}

fn service(assignment: &TaskAssignment, mode: ServiceMode) -> Service {
    let mut container = assignment.container.clone();
    container.environment.clear();
    let key = assignment.service.strip_prefix(&format!("{}_", assignment.stack));
    let key = key.unwrap_or(&assignment.service).to_owned();
    let spec = ServiceSpec { mode, restart: assignment.restart, ..ServiceSpec::new(container) };
    let stack = assignment.stack.clone();
    let service = Service::new(assignment.id.service, stack, key, spec, Timestamp::default());
    Service { spec_version: 0, ..service }
}

fn own_node(id: NodeId, hostname: &str) -> Node {
    let description =
        NodeDescription { hostname: hostname.to_owned(), ..NodeDescription::default() };
    Node {
        id,
        role: Role::Agent,
        availability: Availability::Active,
        labels: BTreeMap::new(),
        status: NodeStatus::Ready,
        status_since: Timestamp::default(),
        description,
        raft_id: None,
        controller_address: None,
        joined_at: Timestamp::default(),
        declared_lost: false,
        recent_downs: Vec::new(),
    }
}
