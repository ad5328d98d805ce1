//! Any value of each domain type, for property tests. Durations are whole milliseconds and prefixes are at most 32 long,
//! as everything that travels.

mod stack;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::id::{Digest, NetworkId, NodeId, RaftId, ServiceId, Slot, TaskId, Timestamp, VolumeId};
use crate::object::{
    AllocatedPort, Attachment, Availability, Cluster, FilledFrom, FormerAuthority, Incarnation,
    Listener, NamedContent, Network, Node, NodeAttachment, NodeDescription, NodeStatus, Role,
    Secret, Stack, Task, TaskState, TaskStatus, Vip, Volume, VolumeHolding,
};
use crate::spec::{
    ContainerSpec, ContentId, ContentKind, ContentSpec, Device, DeviceAccess, DeviceKind,
    DeviceRule, Dns, EndpointMode, FileMount, ImageSpec, IpcMode, LogDriver, Logging, Mount,
    MountSource, NetworkAttachmentSpec, NetworkMode, NetworkSpec, PortMode, PortSpec, Protocol,
    PullPolicy, Resources, RestartCondition, RestartPolicy, Seccomp, Security, ServiceMode,
    ServiceSpec, Sharing, StackSpec, Syslog, SyslogFormat, Tmpfs, Ulimit, VolumeNodeLost,
    VolumeSpec,
};

/// `strategy!(fn name() -> Type { field: strategy, … })`: any value of a struct from any value of each field.
macro_rules! strategy {
    ($(fn $name:ident -> $type:ident { $($field:ident: $strategy:expr,)+ })+) => {
        $(pub(crate) fn $name() -> BoxedStrategy<$type> {
            strategy!(@nest [] $($field: $strategy,)+)
                .prop_map(|strategy!(@pattern [] $($field)+)| $type { $($field),+ })
                .boxed()
        })+
    };
    (@nest [] $field:ident: $strategy:expr,) => { ($strategy,) };
    (@nest [] $field:ident: $strategy:expr, $($rest:tt)+) => {
        ($strategy, strategy!(@nest [] $($rest)+))
    };
    (@pattern [] $field:ident) => { ($field,) };
    (@pattern [] $field:ident $($rest:ident)+) => { ($field, strategy!(@pattern [] $($rest)+)) };
}

mod assignment;
pub(crate) mod autoscale;
mod canary;
pub(crate) mod health;
mod jobs;
mod nodes;
mod placement;
mod rebalance;
mod resources;
mod update;

pub(crate) use assignment::{assignment_set, network_assignment, network_pair, volume_report};
use jobs::job_schedule;
pub(crate) use jobs::run_action;
use nodes::{node_loss_policy, recent_downs};
pub(crate) use resources::generic_resources;
pub(crate) use stack::leaving;
use update::update_policy;
pub(crate) use update::{service, update_status};

fn text() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), "[a-z]{1,4}", "[ -~é\n]{0,12}"].boxed()
}

fn texts() -> BoxedStrategy<Vec<String>> {
    vec(text(), 0..3).boxed()
}

fn labels() -> BoxedStrategy<BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3).boxed()
}

fn address() -> BoxedStrategy<Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from).boxed()
}

fn addresses() -> BoxedStrategy<Vec<Ipv4Addr>> {
    vec(address(), 0..3).boxed()
}

fn prefix() -> BoxedStrategy<(Ipv4Addr, u8)> {
    (address(), 0..=32_u8).boxed()
}

fn mac() -> BoxedStrategy<[u8; 6]> {
    any::<[u8; 6]>().boxed()
}

fn duration() -> BoxedStrategy<Duration> {
    any::<u64>().prop_map(Duration::from_millis).boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    any::<u64>().prop_map(Timestamp).boxed()
}

fn digest() -> BoxedStrategy<Digest> {
    "sha256:[0-9a-f]{64}".prop_map(|text| text.parse().unwrap()).boxed()
}

fn content_kind() -> BoxedStrategy<ContentKind> {
    select(vec![ContentKind::Secret, ContentKind::Config]).boxed()
}

fn protocol() -> BoxedStrategy<Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp]).boxed()
}

fn port_mode() -> BoxedStrategy<PortMode> {
    select(vec![PortMode::Ingress, PortMode::Host]).boxed()
}

pub(crate) fn task_state() -> BoxedStrategy<TaskState> {
    select(TaskState::ALL.to_vec()).boxed()
}

pub(crate) fn task_id() -> BoxedStrategy<TaskId> {
    let slot = prop_oneof![
        any::<u32>().prop_map(Slot::Replica),
        any::<u32>().prop_map(Slot::OneOff),
        any::<u64>().prop_map(|node| Slot::Node(NodeId(node))),
    ];
    (any::<u64>(), slot, any::<u32>())
        .prop_map(|(service, slot, generation)| TaskId {
            service: ServiceId(service),
            slot,
            generation,
        })
        .boxed()
}

fn mount_source() -> BoxedStrategy<MountSource> {
    prop_oneof![
        text().prop_map(|path| MountSource::Bind { path }),
        (text(), any::<bool>(), option::of(text())).prop_map(|(volume, no_copy, external)| {
            MountSource::Volume { volume, no_copy, external }
        }),
        Just(MountSource::Anonymous),
        tmpfs().prop_map(MountSource::Tmpfs),
    ]
    .boxed()
}

fn service_mode() -> BoxedStrategy<ServiceMode> {
    prop_oneof![
        any::<u32>().prop_map(|replicas| ServiceMode::Replicated { replicas }),
        Just(ServiceMode::Global),
        any::<(u32, u32)>().prop_map(|(total, max_concurrent)| ServiceMode::ReplicatedJob {
            total,
            max_concurrent
        }),
        Just(ServiceMode::GlobalJob),
    ]
    .boxed()
}

strategy! {
    fn image_spec -> ImageSpec {
        reference: text(),
        digest: option::of(digest()),
        pull_policy: select(vec![PullPolicy::Missing, PullPolicy::Never]),
    }
    fn mount -> Mount {
        target: text(),
        source: mount_source(),
        read_only: any::<bool>(),
    }
    fn tmpfs -> Tmpfs {
        size: any::<Option<u64>>(),
        mode: any::<Option<u32>>(),
        uid: any::<Option<u32>>(),
        gid: any::<Option<u32>>(),
        executable: any::<Option<bool>>(),
        set_user_id: any::<bool>(),
        devices: any::<bool>(),
    }
    fn dns -> Dns {
        servers: vec(any::<IpAddr>(), 0..3),
        search: texts(),
        options: texts(),
    }
    fn sharing -> Sharing {
        network: select(vec![NetworkMode::Own, NetworkMode::Host, NetworkMode::None]),
        ipc: select(vec![IpcMode::Own, IpcMode::Host, IpcMode::None]),
        pid: any::<bool>(),
        uts: any::<bool>(),
        cgroup: any::<bool>(),
    }
    fn security -> Security {
        no_new_privileges: any::<Option<bool>>(),
        seccomp: prop_oneof![
            Just(Seccomp::Default),
            Just(Seccomp::Unconfined),
            text().prop_map(Seccomp::Profile),
        ],
        unmasked: any::<bool>(),
    }
    fn device_access -> DeviceAccess {
        read: any::<bool>(),
        write: any::<bool>(),
        make: any::<bool>(),
    }
    fn device -> Device {
        source: text(),
        target: text(),
        access: device_access(),
    }
    fn device_rule -> DeviceRule {
        kind: select(vec![DeviceKind::Any, DeviceKind::Block, DeviceKind::Character]),
        major: any::<Option<u32>>(),
        minor: any::<Option<u32>>(),
        access: device_access(),
    }
    fn syslog -> Syslog {
        address: option::of(text()),
        facility: any::<Option<u8>>(),
        format: select(vec![
            SyslogFormat::Rfc3164,
            SyslogFormat::Rfc5424,
            SyslogFormat::Rfc5424Micro,
        ]),
    }
    fn logging -> Logging {
        driver: select(vec![
            LogDriver::Local,
            LogDriver::None,
            LogDriver::Journald,
            LogDriver::Syslog,
        ]),
        max_bytes: any::<Option<u64>>(),
        max_files: any::<Option<u32>>(),
        tag: option::of(text()),
        labels: texts(),
        environment: texts(),
        syslog: syslog(),
    }
    fn ulimit -> Ulimit {
        name: text(),
        soft: any::<u64>(),
        hard: any::<u64>(),
    }
    fn resources -> Resources {
        limit_millicpus: any::<Option<u64>>(),
        limit_memory: any::<Option<u64>>(),
        limit_pids: any::<Option<u64>>(),
        reserve_millicpus: any::<u64>(),
        reserve_memory: any::<u64>(),
        limit_swap: any::<Option<u64>>(),
        soft_memory: any::<Option<u64>>(),
        cpu_shares: any::<Option<u64>>(),
        cpu_quota: any::<Option<u64>>(),
        cpu_period: any::<Option<u64>>(),
        cpuset: option::of(text()),
        swappiness: any::<Option<u8>>(),
        oom_kill_disable: any::<bool>(),
        reserve_pids: any::<u64>(),
        requests: vec(resources::resource_request(), 0..3),
    }
    fn content_spec -> ContentSpec {
        name: option::of(text()),
        external: any::<bool>(),
        digest: option::of(digest()),
        labels: labels(),
    }
    fn file_mount -> FileMount {
        kind: content_kind(),
        source: text(),
        digest: option::of(digest()),
        target: text(),
        uid: any::<u32>(),
        gid: any::<u32>(),
        mode: any::<u32>(),
    }
    fn content_id -> ContentId {
        kind: content_kind(),
        digest: digest(),
    }
    fn named_content -> NamedContent {
        kind: content_kind(),
        name: text(),
        digest: digest(),
        size: any::<u64>(),
        labels: labels(),
        created_at: time(),
    }
    fn container_spec -> ContainerSpec {
        image: image_spec(),
        entrypoint: option::of(texts()),
        command: option::of(texts()),
        environment: btree_map(text(), option::of(text()), 0..3),
        user: option::of(text()),
        working_dir: option::of(text()),
        hostname: option::of(text()),
        labels: labels(),
        mounts: vec(mount(), 0..3),
        extra_hosts: btree_map(text(), address(), 0..3),
        cap_add: texts(),
        cap_drop: texts(),
        privileged: any::<bool>(),
        read_only: any::<bool>(),
        init: any::<bool>(),
        tty: any::<bool>(),
        sysctls: labels(),
        ulimits: vec(ulimit(), 0..3),
        stop_signal: option::of(text()),
        stop_grace_period: duration(),
        resources: resources(),
        domainname: option::of(text()),
        stdin_open: any::<bool>(),
        shm_size: any::<Option<u64>>(),
        groups: texts(),
        oom_score_adj: any::<Option<i32>>(),
        dns: dns(),
        extra_hosts_v6: btree_map(text(), any::<Ipv6Addr>(), 0..3),
        sharing: sharing(),
        security: security(),
        devices: vec(device(), 0..3),
        device_rules: vec(device_rule(), 0..3),
        annotations: labels(),
        logging: logging(),
        files: vec(file_mount(), 0..3),
        health: option::of(health::health_check()),
        pre_stop: vec(health::hook(), 0..3),
    }
    fn network_spec -> NetworkSpec {
        name: option::of(text()),
        subnet: option::of(prefix()),
        internal: any::<bool>(),
        labels: labels(),
        external: any::<bool>(),
    }
    fn network_attachment_spec -> NetworkAttachmentSpec {
        network: text(),
        aliases: texts(),
        external: option::of(text()),
    }
    fn port_spec -> PortSpec {
        target: any::<u16>(),
        published: any::<Option<u16>>(),
        protocol: protocol(),
        mode: port_mode(),
        host_address: option::of(address()),
    }
    fn restart_policy -> RestartPolicy {
        condition: select(vec![
            RestartCondition::None,
            RestartCondition::OnFailure,
            RestartCondition::Any,
        ]),
        delay: duration(),
        max_attempts: any::<Option<u32>>(),
        window: duration(),
    }
    fn service_spec -> ServiceSpec {
        mode: service_mode(),
        container: container_spec(),
        networks: vec(network_attachment_spec(), 0..3),
        ports: vec(port_spec(), 0..3),
        endpoint_mode: select(vec![EndpointMode::Vip, EndpointMode::Dnsrr]),
        placement: placement::placement(),
        restart: restart_policy(),
        update: update_policy(),
        volume_node_lost: select(vec![VolumeNodeLost::Wait, VolumeNodeLost::StartEmpty]),
        labels: labels(),
        depends_on: health::dependencies(),
        dependency_restarts: any::<u64>(),
        schedule: option::of(job_schedule()),
        run_history: any::<Option<u32>>(),
        rollback: update_policy(),
        force: any::<u64>(),
        canary: option::of(canary::canary()),
        node_loss: node_loss_policy(),
        priority: any::<i32>(),
        never_preempted: any::<bool>(),
        autoscale: option::of(autoscale::autoscale()),
    }
    fn volume_spec -> VolumeSpec {
        name: option::of(text()),
        labels: labels(),
        external: any::<bool>(),
    }
    fn stack_spec -> StackSpec {
        name: text(),
        services: btree_map(text(), service_spec(), 0..3),
        networks: btree_map(text(), network_spec(), 0..3),
        volumes: btree_map(text(), volume_spec(), 0..3),
        secrets: btree_map(text(), content_spec(), 0..3),
        configs: btree_map(text(), content_spec(), 0..3),
    }
    fn cluster -> Cluster {
        id: text(),
        ca_certificate: text(),
        ca_key: text().prop_map(Secret::new),
        controller_token: text().prop_map(Secret::new),
        agent_token: text().prop_map(Secret::new),
        heartbeat: duration(),
        node_down_after: duration(),
        task_history: any::<u32>(),
        address_pools: vec(prefix(), 1..4),
        subnet_prefix_length: 0..=32_u8,
        vxlan_port: any::<u16>(),
        vni_base: 1..=u32::MAX,
        former_authority: option::of(former_authority()),
        unlock_key: option::of(text().prop_map(Secret::new)),
        incarnation: incarnation(),
        rebalance: rebalance::rebalance(),
    }
    fn incarnation -> Incarnation {
        number: any::<u64>(),
        mark: any::<u64>(),
    }
    fn former_authority -> FormerAuthority {
        certificate: text(),
        vouched: text(),
        roots: text(),
        controllers: vec(any::<u64>().prop_map(NodeId), 0..3),
        since: time(),
    }
    fn attachment -> Attachment {
        network: any::<u64>().prop_map(NetworkId),
        address: address(),
        mac: mac(),
    }
    fn node_attachment -> NodeAttachment {
        node: any::<u64>().prop_map(NodeId),
        address: address(),
        mac: mac(),
    }
    fn network -> Network {
        id: any::<u64>().prop_map(NetworkId),
        stack: text(),
        key: text(),
        name: text(),
        spec: network_spec(),
        vni: any::<u32>(),
        subnet: address(),
        prefix_length: 0..=32_u8,
        gateways: vec(node_attachment(), 0..3),
        removing: any::<bool>(),
    }
    fn listener -> Listener {
        protocol: protocol(),
        address: address(),
        port: any::<u16>(),
        owner: text(),
    }
    fn node_description -> NodeDescription {
        hostname: text(),
        address: option::of(address()),
        agent_port: any::<u16>(),
        os: text(),
        arch: text(),
        millicpus: any::<u64>(),
        memory: any::<u64>(),
        agent_version: text(),
        engine_labels: labels(),
        routed_prefixes: vec(prefix(), 0..3),
        listeners: vec(listener(), 0..3),
        warnings: texts(),
        roots: text(),
        pids: any::<u64>(),
        generic_resources: generic_resources(),
        reserve: resources::host_share(),
    }
    fn node -> Node {
        id: any::<u64>().prop_map(NodeId),
        role: select(vec![Role::Controller, Role::Agent]),
        availability: select(vec![
            Availability::Active,
            Availability::Pause,
            Availability::Drain,
        ]),
        labels: labels(),
        status: select(vec![NodeStatus::Unknown, NodeStatus::Ready, NodeStatus::Down]),
        status_since: time(),
        description: node_description(),
        raft_id: option::of(any::<u64>().prop_map(RaftId)),
        controller_address: option::of(text()),
        joined_at: time(),
        declared_lost: any::<bool>(),
        recent_downs: recent_downs(),
    }
    fn vip -> Vip {
        network: any::<u64>().prop_map(NetworkId),
        address: address(),
    }
    fn allocated_port -> AllocatedPort {
        published: any::<u16>(),
        target: any::<u16>(),
        protocol: protocol(),
        mode: port_mode(),
        host_address: option::of(address()),
    }
    fn stack -> Stack {
        spec: stack_spec(),
        revision: any::<u64>(),
        deployed_at: time(),
        removing: any::<bool>(),
        leaving: leaving(),
    }
    fn task_status -> TaskStatus {
        state: task_state(),
        since: time(),
        message: text(),
        exit_code: any::<Option<i32>>(),
        pid: any::<Option<u32>>(),
        started_at: option::of(time()),
        attempt: any::<u32>(),
        health: option::of(health::task_health()),
    }
    fn task -> Task {
        id: task_id(),
        spec_version: any::<u64>(),
        node: option::of(any::<u64>().prop_map(NodeId)),
        desired: task_state(),
        start_after: option::of(time()),
        status: task_status(),
        attachments: vec(attachment(), 0..3),
        created_at: time(),
        run: any::<Option<u64>>(),
        resources: generic_resources(),
        preempted_by: option::of(task_id()),
        standby: any::<bool>(),
    }
    fn filled_from -> FilledFrom {
        reference: text(),
        digest: digest(),
    }
    fn volume_holding -> VolumeHolding {
        created_at: time(),
        filled_from: option::of(filled_from()),
        removing: any::<bool>(),
    }
    fn volume -> Volume {
        id: any::<u64>().prop_map(VolumeId),
        stack: text(),
        key: text(),
        name: text(),
        spec: volume_spec(),
        holdings: btree_map(any::<u64>().prop_map(NodeId), volume_holding(), 0..3),
        removing: any::<bool>(),
    }
}
