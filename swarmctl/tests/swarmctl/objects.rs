//! A small cluster to look at: three nodes, one stack.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use swarm_manifests::{Environment, Source, read_sources};
use swarm_proto::id::{NetworkId, NodeId, RaftId, ServiceId, Slot, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{
    AllocatedPort, Attachment, Availability, FilledFrom, GenericResource, GenericResources,
    HostShare, Network, Node, NodeAttachment, NodeDescription, NodeStatus, Role, Service, Stack,
    Task, TaskState, TaskStatus, Vip, Volume, VolumeHolding,
};
use swarm_proto::spec::{PortMode, Protocol, StackSpec};
use swarm_proto::wire;
use swarmctl::state::{NamedContent, Reserved, State};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) const COUNTER: &str = "\
name: counter
services:
  web:
    image: counter-web:1
    ports: ['5001:5000']
    environment: {MODE: test}
    volumes: ['data:/code', '/stack/conf:/conf:ro']
    deploy: {replicas: 3, placement: {constraints: [node.labels.zone!=c]}}
  redis:
    image: redis:alpine
volumes:
  data:
";

pub(crate) fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

pub(crate) fn spec() -> StackSpec {
    let source = Source {
        name: "stack.yml".to_owned(),
        folder: PathBuf::from("/stack"),
        content: COUNTER.as_bytes().to_vec(),
    };
    read_sources(&[source], &Environment::default()).unwrap().0.spec
}

pub(crate) fn stack(revision: u64) -> Stack {
    Stack { revision, ..Stack::new(spec(), ago(3600)) }
}

pub(crate) fn service(id: u64, key: &str) -> Service {
    let spec = spec().services[key].clone();
    let ports = spec.ports.iter().map(|port| AllocatedPort {
        published: port.published.unwrap(),
        target: port.target,
        protocol: Protocol::Tcp,
        mode: PortMode::Ingress,
        host_address: None,
    });
    let ports = ports.collect();
    let mut service = Service::new(ServiceId(id), "counter".into(), key.into(), spec, ago(3600));
    service.ports = ports;
    service.vips = vec![Vip { network: NetworkId(1), address: Ipv4Addr::new(10, 0, 1, 2) }];
    service
}

pub(crate) fn task(service: u64, slot: u32, generation: u32, state: TaskState) -> Task {
    let is_over = state.is_terminal();
    let host = u8::try_from(10 * service + u64::from(slot)).unwrap();
    Task {
        id: TaskId { service: ServiceId(service), slot: Slot::Replica(slot), generation },
        spec_version: 1,
        node: (state >= TaskState::Assigned).then(|| NodeId(u64::from(slot))),
        desired: if is_over { TaskState::Shutdown } else { TaskState::Running },
        start_after: None,
        status: TaskStatus {
            pid: (state == TaskState::Running).then_some(4000 + u32::from(host)),
            started_at: (state == TaskState::Running).then(|| ago(60)),
            ..TaskStatus::new(state, ago(60))
        },
        attachments: vec![Attachment {
            network: NetworkId(1),
            address: Ipv4Addr::new(10, 0, 1, host),
            mac: [2, 0, 0, 0, 0, host],
        }],
        created_at: ago(70),
        run: None,
        resources: BTreeMap::new(),
        preempted_by: None,
        standby: false,
    }
}

fn resources(names: &[&str]) -> GenericResources {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    GenericResources::from([("gpu".to_owned(), GenericResource::Named(names))])
}

/// What tasks have of the first node.
fn reserved() -> BTreeMap<NodeId, Reserved> {
    let share = HostShare { millicpus: 500, memory: 1 << 30, pids: 100 };
    [(NodeId(1), Reserved { share, resources: resources(&["GPU-2"]) })].into()
}

pub(crate) fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        role: Role::Controller,
        availability: Availability::Active,
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        status: NodeStatus::Ready,
        status_since: ago(7200),
        description: NodeDescription {
            hostname: format!("n{id}"),
            address: Some(Ipv4Addr::new(10, 9, 0, u8::try_from(id).unwrap())),
            agent_port: 2387,
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            millicpus: 2500,
            memory: 8 << 30,
            agent_version: "0.1.0".to_owned(),
            pids: 30_000,
            generic_resources: resources(&["GPU-1", "GPU-2"]),
            reserve: HostShare { millicpus: 100, memory: 512 << 20, pids: 1_000 },
            ..NodeDescription::default()
        },
        raft_id: Some(RaftId(id)),
        controller_address: Some(format!("10.9.0.{id}:2377")),
        joined_at: ago(7300),
        declared_lost: false,
        recent_downs: Vec::new(),
    }
}

pub(crate) fn network() -> Network {
    Network {
        id: NetworkId(1),
        stack: "counter".to_owned(),
        key: "default".to_owned(),
        name: "counter_default".to_owned(),
        spec: spec().networks["default"].clone(),
        vni: 0x10_0001,
        subnet: Ipv4Addr::new(10, 0, 1, 0),
        prefix_length: 24,
        gateways: vec![NodeAttachment {
            node: NodeId(1),
            address: Ipv4Addr::new(10, 0, 1, 1),
            mac: [2, 0, 0, 0, 0, 1],
        }],
        removing: false,
    }
}

pub(crate) fn volume() -> Volume {
    let filled_from = FilledFrom {
        reference: "docker.io/library/counter-web:1".to_owned(),
        digest: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
    };
    let holding =
        VolumeHolding { created_at: ago(3000), filled_from: Some(filled_from), removing: false };
    Volume {
        id: VolumeId(1),
        stack: "counter".to_owned(),
        key: "data".to_owned(),
        name: "counter_data".to_owned(),
        spec: spec().volumes["data"].clone(),
        holdings: BTreeMap::from([(NodeId(1), holding)]),
        removing: false,
    }
}

/// Three nodes, of which one is down; four of the counter's tasks run or wait, one failed before.
pub(crate) fn state() -> State {
    let mut lost = node(3);
    lost.status = NodeStatus::Down;
    lost.availability = Availability::Drain;
    lost.description
        .warnings
        .push("chain `FORWARD` of `filter` drops forwarded packets".to_owned());
    let mut failed = task(1, 2, 1, TaskState::Failed);
    failed.status.exit_code = Some(137);
    failed.status.message = String::from("killed by signal 9");
    let mut waiting = task(1, 3, 1, TaskState::Pending);
    waiting.status.message =
        String::from("no suitable node: constraint `node.labels.zone!=c` on 1 node");
    let mut shut = task(1, 4, 1, TaskState::Shutdown);
    shut.node = Some(NodeId(1));
    let tasks = [
        task(1, 1, 1, TaskState::Running),
        failed,
        task(1, 2, 2, TaskState::Running),
        waiting,
        shut,
        task(2, 1, 1, TaskState::Running),
    ];
    State {
        stacks: BTreeMap::from([("counter".to_owned(), stack(2))]),
        services: [service(1, "web"), service(2, "redis")].map(|s| (s.id, s)).into(),
        tasks: tasks.map(|task| (task.id, task)).into(),
        nodes: [node(1), node(2), lost].map(|node| (node.id, node)).into(),
        networks: BTreeMap::from([(NetworkId(1), network())]),
        volumes: BTreeMap::from([(VolumeId(1), volume())]),
        named_contents: BTreeMap::new(),
        leader: 2,
        voters: vec![1, 2],
        learners: vec![3],
        unreachable: vec![],
        cluster_id: "c".to_owned(),
        clock: NOW,
        stale: false,
        reserved: reserved(),
    }
}

fn content_view(named: &NamedContent) -> wire::ContentView {
    wire::ContentView {
        kind: named.kind.into(),
        name: named.name.clone(),
        digest: named.digest.clone(),
        size: named.size,
        labels: named.labels.clone(),
        created_at: named.created_at.0,
    }
}

/// A state as a controller shows it.
pub(crate) fn view(state: &State) -> wire::StateView {
    wire::StateView {
        stacks: state.stacks.values().map(Into::into).collect(),
        services: state.services.values().map(Into::into).collect(),
        tasks: state.tasks.values().map(Into::into).collect(),
        nodes: state.nodes.values().map(Into::into).collect(),
        networks: state.networks.values().map(Into::into).collect(),
        volumes: state.volumes.values().map(Into::into).collect(),
        named_contents: state.named_contents.values().map(content_view).collect(),
        leader: state.leader,
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        unreachable: state.unreachable.clone(),
        cluster_id: state.cluster_id.clone(),
        clock: state.clock.0,
        node: "n1".to_owned(),
        known_at: NOW.0,
        reserved: state
            .reserved
            .iter()
            .map(|(node, reserved)| wire::NodeReserved {
                node: node.0,
                share: Some((&reserved.share).into()),
                resources: reserved.resources.iter().map(Into::into).collect(),
            })
            .collect(),
        ..wire::StateView::default()
    }
}

/// Three controllers, of which the third is lost.
pub(crate) fn cluster_status(stale: bool) -> wire::ClusterStatus {
    let member = |raft_id: u64, reachable: bool| wire::MemberStatus {
        raft_id,
        node: raft_id,
        hostname: format!("n{raft_id}"),
        address: format!("10.9.0.{raft_id}:2377"),
        member: "voter".to_owned(),
        reachable,
        since: if raft_id == 1 { 0 } else { ago(90).0 },
        error: if reachable { String::new() } else { "nobody listens there".to_owned() },
        numbers: reachable.then(|| wire::ControllerNumbers {
            version: "0.1.0".to_owned(),
            term: 4,
            commit: 90 + raft_id,
            applied: 90 + raft_id,
            leader: 2,
            sync_p50: Some(1_250),
            sync_p99: Some(8_040),
            election_timeout: Some(250),
            certificate_from: Some(ago(86_400).0),
            certificate_until: Some(NOW.0 + 89 * 86_400_000),
            knows: 2,
            ..wire::ControllerNumbers::default()
        }),
    };
    wire::ClusterStatus {
        stale,
        cluster_id: "0123456789abcdef".to_owned(),
        answered_by: 1,
        leader: 2,
        members: vec![member(1, true), member(2, true), member(3, false)],
        clock: NOW.0,
        cluster_version: 2,
        rotation: None,
        locked: false,
        root: "5e".repeat(32),
        networking: Some(wire::ClusterNetworking {
            address_pools: vec![
                wire::Prefix { address: 0x0a00_0000, length: 8 },
                wire::Prefix { address: 0xac10_0000, length: 12 },
            ],
            subnet_prefix_length: 24,
            vxlan_port: 4789,
            vni_base: 0x10_0000,
        }),
        rebalance: Some(wire::ClusterRebalance {
            mode: wire::RebalanceMode::Auto.into(),
            moves_per_minute: 6,
        }),
    }
}
