//! What older controllers would not understand waits for its cluster version.

use super::*;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::id::Slot;
use crate::object::{
    FormerAuthority, GenericResource, Incarnation, Rebalance, RebalanceMode, RegistryLogin,
    Scaling, Secret, TaskHealth, UpdateState,
};
use crate::spec::{
    Affinity, Amount, Autoscale, Canary, CanarySize, Concurrency, ContainerSpec, ContentSpec,
    CutOffAction, Dependency, Device, DeviceAccess, DeviceKind, DeviceRule, Domain, FileMount,
    HealthCheck, Hook, ImageSpec, JobSchedule, LogDriver, MissedRuns, Mount, MountSource,
    NetworkAttachmentSpec, NetworkSpec, Placement, Ratio, ResourceRequest, Resources, ServiceMode,
    ServiceSpec, StackSpec, Tmpfs, UpdateFailureAction, UpdateOrder, UpdatePolicy, VolumeSpec,
};
use crate::version::replicated_fields;

/// Later fields that an older controller may pass over, each for a reason.
const PASSED_OVER: [&str; 4] = [
    // What the gate itself writes.
    "Entry.needs",
    "StateSnapshot.cluster_version",
    // Read only by what replaces the authority, which waits for its version; each session tells it again.
    "NodeDescription.roots",
    // Clusters of an older version were never restored.
    "NextIds.generation",
];

fn cluster() -> Cluster {
    Cluster::new("c".into(), "certificate".into(), Secret::default())
}

fn file() -> FileMount {
    FileMount {
        kind: ContentKind::Secret,
        source: "s".into(),
        digest: None,
        target: "/run/secrets/s".into(),
        uid: 0,
        gid: 0,
        mode: FileMount::MODE,
    }
}

/// A stack with a secret that no service uses.
fn stack_with_secret() -> Action {
    let secrets = [("s".to_owned(), ContentSpec::default())].into();
    let spec = StackSpec { secrets, ..StackSpec::default() };
    Action::SetStack(Box::new(Stack::new(spec, Timestamp(1))))
}

/// An action about contents that makes use of a field.
fn content_user(field: &str) -> Option<Action> {
    let content = ContentId::of(ContentKind::Secret, b"");
    let (message, name) = field.split_once('.')?;
    let name = if message == "Action" { name } else { message };
    Some(match name {
        "add_content_part" | "AddContentPart" | "ContentId" | "StoredContent" => {
            let data = ContentBytes::default();
            Action::AddContentPart { content, size: 0, part: 0, data }
        }
        "keep_contents" | "KeepContents" => Action::KeepContents(vec![content]),
        "remove_content" => Action::RemoveContent(content),
        "add_named_content" | "NamedContent" => Action::AddNamedContent(Box::new(NamedContent {
            kind: content.kind,
            name: "n".into(),
            digest: content.digest,
            size: 0,
            labels: std::collections::BTreeMap::new(),
            created_at: Timestamp(1),
        })),
        "remove_named_content" | "RemoveNamedContent" => {
            Action::RemoveNamedContent { kind: content.kind, name: "n".into() }
        }
        "ContentSpec" | "StackSpec" => stack_with_secret(),
        _ => return None,
    })
}

/// A container that makes use of a field of its spec.
fn container_with(field: &str) -> ContainerSpec {
    let mut container = ContainerSpec::new(ImageSpec::new("a"));
    let access = DeviceAccess::ALL;
    match field {
        "domainname" => container.domainname = Some("d".into()),
        "stdin_open" => container.stdin_open = true,
        "shm_size" => container.shm_size = Some(1),
        "groups" => container.groups = vec!["g".into()],
        "oom_score_adj" => container.oom_score_adj = Some(0),
        "dns" => container.dns.search = vec![".".into()],
        "extra_hosts_v6" => {
            container.extra_hosts_v6 = [("h".into(), Ipv6Addr::LOCALHOST)].into();
        }
        "sharing" => container.sharing.pid = true,
        "security" => container.security.unmasked = true,
        "devices" => {
            let (source, target) = ("/dev/fuse".into(), "/dev/fuse".into());
            container.devices = vec![Device { source, target, access }];
        }
        "device_rules" => {
            let (kind, major, minor) = (DeviceKind::Any, None, None);
            container.device_rules = vec![DeviceRule { kind, major, minor, access }];
        }
        "annotations" => container.annotations = [("a".into(), "b".into())].into(),
        "logging" => container.logging.driver = LogDriver::None,
        "files" => container.files = vec![file()],
        "health" => container.health = Some(HealthCheck::none()),
        "pre_stop" => container.pre_stop = vec![Hook::default()],
        other => panic!("write here what makes use of ContainerSpec.{other}"),
    }
    container
}

fn resources_with(field: &str) -> Resources {
    let mut resources = Resources::default();
    match field {
        "limit_swap" => resources.limit_swap = Some(1),
        "soft_memory" => resources.soft_memory = Some(1),
        "cpu_shares" => resources.cpu_shares = Some(1),
        "cpu_quota" => resources.cpu_quota = Some(1),
        "cpu_period" => resources.cpu_period = Some(1),
        "cpuset" => resources.cpuset = Some("0".into()),
        "swappiness" => resources.swappiness = Some(1),
        "oom_kill_disable" => resources.oom_kill_disable = true,
        "reserve_pids" => resources.reserve_pids = 1,
        "requests" => {
            let (kind, amount) = (ResourceRequest::GPU.into(), Amount::All);
            resources.requests = vec![ResourceRequest { kind, amount, capabilities: Vec::new() }];
        }
        other => panic!("write here what makes use of Resources.{other}"),
    }
    resources
}

fn tmpfs_with(field: &str) -> Tmpfs {
    let mut tmpfs = Tmpfs::default();
    match field {
        "mode" => tmpfs.mode = Some(0),
        "uid" => tmpfs.uid = Some(0),
        "gid" => tmpfs.gid = Some(0),
        "executable" => tmpfs.executable = Some(false),
        "set_user_id" => tmpfs.set_user_id = true,
        "devices" => tmpfs.devices = true,
        other => panic!("write here what makes use of TmpfsSource.{other}"),
    }
    tmpfs
}

/// A placement that makes use of a later field.
fn placement_with(field: &str) -> Placement {
    let affinity = Affinity { service: "a".into(), within: Domain::Node };
    match field {
        "apart" => Placement { apart: vec![affinity], ..Placement::default() },
        "spread_over" | "engine_label" => {
            let spread = vec![Domain::EngineLabel("a".into())];
            Placement { spread, ..Placement::default() }
        }
        _ => Placement { near: vec![affinity], ..Placement::default() },
    }
}

fn policy_with(field: &str) -> UpdatePolicy {
    let mut policy = UpdatePolicy::default();
    match field {
        "failure_action" => policy.failure_action = UpdateFailureAction::Rollback,
        "monitor" => policy.monitor = Duration::ZERO,
        "max_failure_ratio" => policy.max_failure_ratio = Ratio::from_millionths(1).unwrap(),
        "progress_deadline" => policy.progress_deadline = Duration::ZERO,
        "hold" => policy.hold = Duration::from_secs(1),
        other => panic!("write here what makes use of UpdatePolicy.{other}"),
    }
    policy
}

fn autoscale() -> Autoscale {
    let (stabilisation, cool_down) = (Duration::ZERO, Duration::ZERO);
    let (cpu, memory, scrape, requests) = (Some(50), None, None, None);
    Autoscale { min: 1, max: 2, cpu, memory, scrape, requests, stabilisation, cool_down }
}

fn canary() -> Canary {
    Canary { size: CanarySize::Replicas(1), hold: None }
}

/// A service that makes use of a later field of its spec, or of a message in that.
fn service_with(field: &str) -> Option<ServiceSpec> {
    let mut service = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
    let (message, name) = field.split_once('.')?;
    match message {
        "ServiceSpec" => use_own_field(&mut service, name),
        "JobSchedule" => service.schedule = Some(schedule()),
        "ServiceMode" | "ReplicatedJob" if name == "global_job" => {
            service.mode = ServiceMode::GlobalJob;
        }
        "ServiceMode" | "ReplicatedJob" => {
            service.mode = ServiceMode::ReplicatedJob { total: 1, max_concurrent: 1 };
        }
        "Canary" => service.canary = Some(canary()),
        "Autoscale" | "Scrape" | "ScrapeTarget" => service.autoscale = Some(autoscale()),
        "Dependency" => service.depends_on = vec![later_dependency()],
        "Placement" | "Domain" | "Affinity" => service.placement = placement_with(name),
        "Constraint" | "Comparison" => {
            service.placement.constraints = vec!["node.ip in (10.0.0.0/8)".parse().unwrap()];
        }
        "NetworkAttachmentSpec" => {
            let external = Some("n".into());
            service.networks = vec![NetworkAttachmentSpec { external, ..Default::default() }];
        }
        "VolumeSource" => {
            let (volume, external) = ("v".into(), Some("n".into()));
            let source = MountSource::Volume { volume, no_copy: false, external };
            let mount = Mount { target: "/v".into(), source, read_only: false };
            service.container.mounts = vec![mount];
        }
        "UpdatePolicy" => service.update = policy_with(name),
        "ContainerSpec" => service.container = container_with(name),
        "Resources" => service.container.resources = resources_with(name),
        "ResourceRequest" => service.container.resources = resources_with("requests"),
        "TmpfsSource" => {
            let source = MountSource::Tmpfs(tmpfs_with(name));
            let mount = Mount { target: "/t".into(), source, read_only: false };
            service.container.mounts = vec![mount];
        }
        // Messages that only a field of these leads to.
        "Dns" => service.container = container_with("dns"),
        "Sharing" => service.container = container_with("sharing"),
        "Security" => service.container = container_with("security"),
        "Device" | "DeviceAccess" => service.container = container_with("devices"),
        "DeviceRule" => service.container = container_with("device_rules"),
        "Logging" | "Syslog" => service.container = container_with("logging"),
        "FileMount" => service.container = container_with("files"),
        "HealthCheck" | "HttpCheck" => service.container = container_with("health"),
        "Hook" => service.container = container_with("pre_stop"),
        _ => return None,
    }
    Some(service)
}

fn use_own_field(service: &mut ServiceSpec, name: &str) {
    match name {
        "run_history" => service.run_history = Some(1),
        "schedule" => service.schedule = Some(schedule()),
        "depends_on" => service.depends_on = vec![Dependency::started("db")],
        "dependencies" => service.depends_on = vec![later_dependency()],
        "dependency_restarts" => service.dependency_restarts = 1,
        "rollback" => service.rollback.parallelism = 2,
        "force" => service.force = 1,
        "canary" => service.canary = Some(canary()),
        "priority" => service.priority = 1,
        "never_preempted" => service.never_preempted = true,
        "autoscale" => service.autoscale = Some(autoscale()),
        other => panic!("write here what makes use of ServiceSpec.{other}"),
    }
}

fn later_dependency() -> Dependency {
    Dependency { restart: true, ..Dependency::started("db") }
}

/// What an agent said of a task's health.
fn health_status() -> Action {
    let health = Some(TaskHealth::starting(Timestamp(1)));
    let status = TaskStatus { health, ..TaskStatus::new(TaskState::Starting, Timestamp(1)) };
    Action::SetTaskStatus { task: "1.1.1".parse().unwrap(), status: Box::new(status) }
}

fn schedule() -> JobSchedule {
    JobSchedule {
        expression: "@daily".into(),
        time_zone: JobSchedule::TIME_ZONE.into(),
        missed: MissedRuns::default(),
        concurrency: Concurrency::default(),
    }
}

/// An action about runs of jobs that makes use of a field. What the state holds of them comes of these alone.
fn run_user(field: &str) -> Option<Action> {
    let service = ServiceId(1);
    let start = RunStart { service, run: 1, scheduled_at: None, one_off: false, command: None };
    let state = RunState::Complete;
    let message = String::new();
    let progress = RunProgress { service, run: 1, state, message, completed: 1, failed: 0 };
    Some(match field.split_once('.')? {
        ("Action", "set_run") | ("SetRun", _) => Action::SetRun(Box::new(progress)),
        ("Action", "skip_runs") | ("SkipRuns", _) => {
            Action::SkipRuns { service, until: Timestamp(1) }
        }
        ("Action", "start_run") | ("Service" | "SlotHistory", _) => {
            Action::StartRun(Box::new(start))
        }
        ("StartRun" | "JobRun" | "JobRuns", _) => Action::StartRun(Box::new(start)),
        ("Task", name @ ("run" | "standby")) => Action::AddTask(Box::new(Task {
            id: "1.1.1".parse().unwrap(),
            spec_version: 1,
            node: None,
            desired: TaskState::Running,
            start_after: None,
            status: TaskStatus::new(TaskState::New, Timestamp(1)),
            attachments: Vec::new(),
            created_at: Timestamp(1),
            run: (name == "run").then_some(1),
            standby: name == "standby",
            resources: GenericResources::new(),
            preempted_by: None,
        })),
        _ => return None,
    })
}

/// An action about what nodes have and tasks are given that makes use of a field.
fn resource_user(field: &str) -> Option<Action> {
    let node = NodeId(1);
    let one = || [("gpu".into(), GenericResource::Count(1))].into();
    let mut description = NodeDescription::default();
    match field.split_once('.')? {
        // What the state holds of it comes of this action alone.
        ("AssignTask" | "Task", "resources") => {
            let task = "1.1.1".parse().unwrap();
            return Some(Action::AssignTask { task, node, resources: one() });
        }
        ("Action", "preempt_tasks") | ("PreemptTasks", _) | ("Task", "preempted_by") => {
            let task = "1.1.1".parse().unwrap();
            return Some(Action::PreemptTasks { task, node, victims: vec![task] });
        }
        ("NodeDescription", "pids") => description.pids = 1,
        ("NodeDescription", "reserve") | ("HostShare", _) => description.reserve.memory = 1,
        ("NodeDescription", "generic_resources") | ("GenericResource", _) => {
            description.generic_resources = one();
        }
        _ => return None,
    }
    Some(Action::SetNodeDescription { node, description: Box::new(description) })
}

fn action_with(service: ServiceSpec) -> Action {
    let spec = StackSpec { services: [("a".into(), service)].into(), ..StackSpec::default() };
    Action::SetStack(Box::new(Stack::new(spec, Timestamp(1))))
}

/// An action about objects outside of a stack, or what leaves one, that makes use of a field.
fn stack_user(field: &str) -> Option<Action> {
    let leaving = Leaving { services: ["a".into()].into(), ..Leaving::default() };
    let mut spec = StackSpec::default();
    match field.split_once('.')? {
        ("NetworkSpec", _) => {
            let network = NetworkSpec { external: true, ..NetworkSpec::default() };
            spec.networks.insert("n".into(), network);
        }
        ("VolumeSpec", _) => {
            let volume = VolumeSpec { external: true, ..VolumeSpec::default() };
            spec.volumes.insert("v".into(), volume);
        }
        ("Action", "set_stack_leaving") | ("SetStackLeaving", _) => {
            return Some(Action::SetStackLeaving { stack: "s".into(), leaving });
        }
        ("Stack", "leaving") | ("Leaving", _) => {
            let stack = Stack { leaving, ..Stack::new(spec, Timestamp(1)) };
            return Some(Action::SetStack(Box::new(stack)));
        }
        _ => return None,
    }
    Some(Action::SetStack(Box::new(Stack::new(spec, Timestamp(1)))))
}

/// An action about updates that makes use of a field.
fn update_user(field: &str) -> Option<Action> {
    let id = ServiceId(1);
    let update = UpdateStatus::begin(1, UpdateState::Updating, 1, Timestamp(1));
    let spec = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
    let mut service = Service::new(id, "s".into(), "a".into(), spec, Timestamp(1));
    match field {
        "Service.update" => service.update = Some(update),
        "Service.previous" => service.previous = Some(Box::new(service.spec.clone())),
        "Service.previous_version" => service.previous_version = 1,
        "Service.latest_version" => service.latest_version = 2,
        "Service.scaling" | "Scaling.at" | "Scaling.from" | "Scaling.to" | "Scaling.reason" => {
            let reason = String::new();
            service.scaling = Some(Scaling { at: Timestamp(1), from: 1, to: 2, reason });
        }
        // A slot's history follows from this action, and from tasks of a service with an update.
        "Action.count_update_failure" | "SlotHistory.failed_update" => {
            let task = TaskId { service: id, slot: Slot::Replica(1), generation: 1 };
            return Some(Action::CountUpdateFailure(task));
        }
        _ if ["Action.set_update", "SetUpdate.", "UpdateStatus."]
            .iter()
            .any(|start| field.starts_with(start)) =>
        {
            return Some(Action::SetUpdate { service: id, update: Box::new(update) });
        }
        _ => return None,
    }
    Some(Action::SetService(Box::new(service)))
}

/// An action about lost nodes that makes use of a field.
fn node_user(field: &str) -> Option<Action> {
    match field.split_once('.')? {
        ("Action", "count_move") | ("Rebalance" | "Move", _) => {
            let task = TaskId { service: ServiceId(1), slot: Slot::Replica(1), generation: 1 };
            Some(Action::CountMove(task))
        }
        // What a node remembers of its downs follows from its status, once the version is in force.
        ("Action", "set_node_lost") | ("Node", _) => Some(Action::SetNodeLost(NodeId(1))),
        ("ServiceSpec", "node_loss") | ("NodeLossPolicy", _) => {
            let mut spec = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
            spec.node_loss.on_cut_off = CutOffAction::Stop;
            Some(action_with(spec))
        }
        _ => None,
    }
}

/// An action about registries that makes use of a field. What the state holds of them comes of these alone.
fn registry_user(field: &str) -> Option<Action> {
    let registry: RegistryName = "a.example".parse().unwrap();
    match field.split_once('.')? {
        ("Action", "remove_registry_login") => Some(Action::RemoveRegistryLogin(registry)),
        ("Action", "set_registry_login")
        | ("StateSnapshot", "registry_logins")
        | ("RegistryLogin", _) => {
            let login = RegistryLogin::new(registry, "ada".into(), Secret::default());
            Some(Action::SetRegistryLogin(Box::new(login)))
        }
        _ => None,
    }
}

/// An action that makes use of a field.
fn user_of(field: &str) -> Action {
    if let Some(action) = registry_user(field) {
        return action;
    }
    if let Some(action) = node_user(field) {
        return action;
    }
    if let Some(action) = stack_user(field) {
        return action;
    }
    if let Some(action) = update_user(field) {
        return action;
    }
    if let Some(service) = service_with(field) {
        return action_with(service);
    }
    if field == "TaskStatus.health" || field.starts_with("TaskHealth.") {
        return health_status();
    }
    if let Some(action) = run_user(field).or_else(|| resource_user(field)) {
        return action;
    }
    // What the state holds beside its objects comes of these actions alone.
    let of_state = ["StateSnapshot.contents", "StoredObject.named_content"].contains(&field);
    let of_expect = ["ObjectId.secret", "ObjectId.config"].contains(&field);
    let field = if of_state || of_expect { "NamedContent.name" } else { field };
    if let Some(action) = content_user(field) {
        return action;
    }
    let former = FormerAuthority {
        certificate: "former".into(),
        vouched: "vouched".into(),
        roots: "digest".into(),
        controllers: vec![NodeId(1)],
        since: Timestamp(1),
    };
    let cluster = match field {
        "Action.set_cluster_version" => return Action::SetClusterVersion(ClusterVersion(2)),
        "Cluster.rebalance" => {
            let rebalance = Rebalance { mode: RebalanceMode::Auto, ..Rebalance::default() };
            Cluster { rebalance, ..cluster() }
        }
        "Cluster.vni_base" => Cluster { vni_base: 5000, ..cluster() },
        "Cluster.incarnation" | "Incarnation.number" | "Incarnation.mark" => {
            Cluster { incarnation: Incarnation::first(7), ..cluster() }
        }
        "Cluster.unlock_key" => Cluster { unlock_key: Some(Secret::default()), ..cluster() },
        field if field == "Cluster.former_authority" || field.starts_with("FormerAuthority.") => {
            Cluster { former_authority: Some(former), ..cluster() }
        }
        other => panic!("write here what makes use of {other}, or why it may be passed over"),
    };
    Action::SetCluster(Box::new(cluster))
}

#[test]
fn the_gate_sees_each_field_that_an_older_controller_would_drop() {
    for (field, version) in replicated_fields() {
        if version > ClusterVersion::FIRST && !PASSED_OVER.contains(&field) {
            let group = Group { actions: vec![user_of(field)], ..Group::default() };
            let entry = Entry { groups: vec![group], ..Entry::default() };
            assert!(entry.needs() >= version, "{field} passes unseen");
        }
    }
}

#[test]
fn only_what_is_used_needs_a_later_version() {
    let needs = |cluster: Cluster| Action::SetCluster(Box::new(cluster)).needs();
    assert_eq!(needs(cluster()), ClusterVersion::FIRST);
    let one = vec![(Ipv4Addr::new(172, 16, 0, 0), 12)];
    let two = [&one[..], &[Cluster::ADDRESS_POOL]].concat();
    assert_eq!(needs(Cluster { address_pools: one, ..cluster() }), ClusterVersion::FIRST);
    assert_eq!(needs(Cluster { address_pools: two, ..cluster() }), ClusterVersion(2));
    let plain = ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")));
    assert_eq!(action_with(plain.clone()).needs(), ClusterVersion::FIRST);
    let mut blue_green = plain;
    blue_green.update.order = UpdateOrder::BlueGreen;
    assert_eq!(action_with(blue_green).needs(), ClusterVersion(4));
}
