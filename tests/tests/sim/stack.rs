//! Stacks that clients deploy.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_proto::object::{GenericResource, GenericResources};
use swarm_proto::spec::{
    Amount, Canary, CanarySize, Concurrency, ContainerSpec, ContentBytes, ContentId, ContentKind,
    ContentSpec, CutOffAction, Dependency, DependencyCondition, FileMount, HealthCheck, HealthTest,
    ImageSpec, JobSchedule, MissedRuns, Mount, MountSource, NetworkAttachmentSpec, NetworkSpec,
    NodeLossPolicy, PortMode, PortSpec, Protocol, Ratio, ResourceRequest, Resources, RestartPolicy,
    ServiceMode, ServiceSpec, StackSpec, UpdateFailureAction, UpdateOrder, UpdatePolicy,
    VolumeNodeLost, VolumeSpec,
};
use swarm_tests::random::Random;

use crate::autoscale;

/// None that a service which goes on for ever cannot meet.
const CONDITIONS: [DependencyCondition; 2] =
    [DependencyCondition::Started, DependencyCondition::Healthy];

/// The version of which every container fails at its start.
const FAILING: u64 = 9;

/// Whether a container fails at its start.
pub(crate) fn fails(container: &ContainerSpec) -> bool {
    container.command == self::container(FAILING).command
}

/// How a service's tasks are exchanged.
fn policy(random: &mut Random) -> UpdatePolicy {
    let actions =
        [UpdateFailureAction::Pause, UpdateFailureAction::Continue, UpdateFailureAction::Rollback];
    let ratio = u32::try_from(random.between(0, 3)).unwrap_or(0) * 250_000;
    UpdatePolicy {
        parallelism: u32::try_from(random.between(0, 4)).unwrap_or(1),
        delay: Duration::from_millis(random.between(0, 2) * 700),
        // With start-first a slot has two containers by design; the simulation looks for those that have by mistake.
        order: UpdateOrder::StopFirst,
        hold: Duration::ZERO,
        failure_action: random.one_of(&actions).copied().unwrap_or_default(),
        monitor: Duration::from_millis(random.between(100, 3_000)),
        max_failure_ratio: Ratio::from_millionths(ratio).unwrap_or_default(),
        progress_deadline: Duration::from_mins(1),
    }
}

/// A part of a service that an update exchanges first.
fn canary(random: &mut Random) -> Canary {
    let size = if random.chance(50) {
        CanarySize::Replicas(u32::try_from(random.between(1, 4)).unwrap_or(1))
    } else {
        CanarySize::Percent(u32::try_from(random.between(1, 100)).unwrap_or(1))
    };
    let hold = random.chance(30).then(|| Duration::from_millis(random.between(100, 5_000)));
    Canary { size, hold }
}

/// What becomes of tasks whose node is lost: many stop by themselves.
fn node_loss(random: &mut Random) -> NodeLossPolicy {
    NodeLossPolicy {
        unreachable_after: Duration::from_millis(random.between(0, 3) * 1_500),
        on_cut_off: if random.chance(70) { CutOffAction::Stop } else { CutOffAction::Keep },
    }
}

/// A stack with this number, and otherwise at random; of each hundred, so many with containers that fail.
pub(crate) fn make(name: &str, number: u64, failing: u64, random: &mut Random) -> StackSpec {
    let mut services = BTreeMap::new();
    let replicas = u32::try_from(random.between(1, 7)).unwrap();
    let version = if random.chance(failing) { FAILING } else { random.between(0, 2) };
    let mut web = service(ServiceMode::Replicated { replicas }, version);
    web.update = policy(random);
    web.rollback = UpdatePolicy { failure_action: UpdateFailureAction::Pause, ..policy(random) };
    web.node_loss = node_loss(random);
    if random.chance(30) {
        web.update.order = UpdateOrder::BlueGreen;
        web.update.hold = Duration::from_millis(random.between(0, 2) * 4_000);
        // What runs twice cannot promise not to.
        web.node_loss.on_cut_off = CutOffAction::Keep;
    } else {
        web.canary = random.chance(40).then(|| canary(random));
    }
    web.labels.insert("number".to_owned(), number.to_string());
    web.ports.push(PortSpec {
        target: 80,
        published: None,
        protocol: Protocol::Tcp,
        mode: PortMode::Ingress,
        host_address: None,
    });
    if random.chance(60) {
        let test = Some(HealthTest::Tcp(80));
        web.container.health = Some(HealthCheck { test, ..HealthCheck::default() });
    }
    if random.chance(30) {
        let condition = *random.one_of(&CONDITIONS).expect("there are some");
        let restart = random.chance(50);
        web.depends_on = vec![Dependency { service: "data".to_owned(), condition, restart }];
    }
    reserve(&mut web, random);
    web.priority = i32::try_from(random.between(0, 3)).unwrap_or(0);
    web.autoscale = autoscale::of(name, number, replicas);
    services.insert("web".to_owned(), web);
    let mut data = service(ServiceMode::Replicated { replicas: 1 }, 0);
    let source = MountSource::Volume { volume: "data".to_owned(), no_copy: false, external: None };
    data.container.mounts.push(Mount { target: "/data".to_owned(), source, read_only: false });
    data.node_loss = node_loss(random);
    services.insert("data".to_owned(), data);
    if random.chance(50) {
        services.insert("every".to_owned(), service(ServiceMode::Global, 0));
    }
    if random.chance(50) {
        services.insert("job".to_owned(), job(random));
    }
    if random.chance(50) {
        services.insert(GREEDY.to_owned(), greedy(random));
    }
    StackSpec {
        name: name.to_owned(),
        services,
        networks: BTreeMap::from([("net".to_owned(), NetworkSpec::default())]),
        volumes: BTreeMap::from([("data".to_owned(), VolumeSpec::default())]),
        ..StackSpec::default()
    }
}

/// The service that reserves more than there may be: whether all of it runs in the end depends on the others.
pub(crate) const GREEDY: &str = "greedy";

/// Reserves something, of which there is enough for everybody once all nodes are there.
fn reserve(service: &mut ServiceSpec, random: &mut Random) {
    let resources = &mut service.container.resources;
    if random.chance(30) {
        resources.reserve_memory = random.between(0, 64) << 20;
        resources.reserve_pids = random.between(0, 4);
    }
    if random.chance(40) {
        resources.requests = vec![request("port", Amount::Count(random.between(1, 3)))];
    }
}

/// Reserves what only some can have.
fn greedy(random: &mut Random) -> ServiceSpec {
    let replicas = u32::try_from(random.between(1, 5)).unwrap();
    let mut greedy = service(ServiceMode::Replicated { replicas }, 0);
    let amount = match random.between(0, 4) {
        0 => Amount::All,
        1 => Amount::Ids(vec!["a".to_owned()]),
        _ => Amount::Count(random.between(1, 3)),
    };
    let kind = if random.chance(50) { "gpu" } else { "slots" };
    let resources = &mut greedy.container.resources;
    resources.reserve_memory = random.between(0, 2) << 30;
    resources.requests = vec![match amount {
        Amount::Count(_) => request(kind, amount),
        // Only devices are asked for otherwise.
        amount => request("gpu", amount),
    }];
    greedy.priority = -i32::try_from(random.between(0, 4)).unwrap_or(0);
    greedy.never_preempted = random.chance(10);
    greedy
}

fn request(kind: &str, amount: Amount) -> ResourceRequest {
    let is_device = !matches!(amount, Amount::Count(_));
    let capabilities = if is_device { vec![ResourceRequest::GPU.to_owned()] } else { Vec::new() };
    ResourceRequest { kind: kind.to_owned(), amount, capabilities }
}

/// What each machine has beside the usual.
pub(crate) fn resources(machine: u64) -> GenericResources {
    let names = |names: &[String]| GenericResource::Named(names.iter().cloned().collect());
    let ports: Vec<String> = (0..200).map(|number| format!("p{number}")).collect();
    let gpus = ["a".to_owned(), "b".to_owned()];
    let mut resources = GenericResources::from([
        ("port".to_owned(), names(&ports)),
        ("slots".to_owned(), GenericResource::Count(3)),
    ]);
    if machine.is_multiple_of(2) {
        resources.insert("gpu".to_owned(), names(&gpus));
    }
    resources
}

/// Puts services of a stack on a network and a volume that belong to no stack: perhaps they are there.
pub(crate) fn share(spec: &mut StackSpec, random: &mut Random) {
    let (network, volume) = (shared_network(random), shared_volume(random));
    let web = spec.services.get_mut("web").expect("each stack has it");
    if random.chance(60) {
        let external = NetworkSpec { external: true, ..NetworkSpec::default() };
        spec.networks.insert(network.clone(), external);
        web.networks.push(NetworkAttachmentSpec::new(network));
    }
    if random.chance(60) {
        let external = VolumeSpec { external: true, ..VolumeSpec::default() };
        spec.volumes.insert(volume.clone(), external);
        let source = MountSource::Volume { volume, no_copy: false, external: None };
        let read_only = web.update.order == UpdateOrder::BlueGreen;
        web.container.mounts.push(Mount { target: "/shared".to_owned(), source, read_only });
    }
}

/// A name of a network that belongs to no stack.
pub(crate) fn shared_network(random: &mut Random) -> String {
    format!("front{}", random.between(0, 2))
}

/// A name of a volume that belongs to no stack.
pub(crate) fn shared_volume(random: &mut Random) -> String {
    format!("common{}", random.between(0, 2))
}

/// What a container does that ends by itself.
pub(crate) const ENDS: &str = "end";

/// A job: now, or at its times.
fn job(random: &mut Random) -> ServiceSpec {
    let mode = if random.chance(33) {
        ServiceMode::GlobalJob
    } else {
        let total = u32::try_from(random.between(1, 6)).unwrap();
        let max_concurrent = u32::try_from(random.between(1, 4)).unwrap();
        ServiceMode::ReplicatedJob { total, max_concurrent }
    };
    let mut job = service(mode, 0);
    job.container.command = Some(vec![ENDS.to_owned(), random.between(0, 3).to_string()]);
    job.update = UpdatePolicy::default();
    if random.chance(50) {
        let all = [Concurrency::Forbid, Concurrency::Replace, Concurrency::Allow];
        let concurrency = random.one_of(&all).copied().unwrap_or_default();
        let overlaps = mode == ServiceMode::GlobalJob && concurrency == Concurrency::Allow;
        let missed = [MissedRuns::Skip, MissedRuns::RunOnce, MissedRuns::RunAll];
        job.schedule = Some(JobSchedule {
            expression: format!("@every {}s", random.between(30, 60)),
            time_zone: JobSchedule::TIME_ZONE.to_owned(),
            missed: random.one_of(&missed).copied().unwrap_or_default(),
            concurrency: if overlaps { Concurrency::Forbid } else { concurrency },
        });
        job.run_history = Some(3);
    }
    job
}

/// What is in a stack's config at its n-th deploy; some follow each other with the same.
pub(crate) fn content(number: u64) -> ContentBytes {
    ContentBytes::new(format!("config {}", number / 2 % 4).into_bytes())
}

/// Gives the stack's service a config with these bytes.
pub(crate) fn configure(spec: &mut StackSpec, bytes: &ContentBytes) -> ContentId {
    let id = ContentId::of(ContentKind::Config, bytes.reveal());
    let config = ContentSpec { digest: Some(id.digest.clone()), ..ContentSpec::default() };
    spec.configs.insert("page".to_owned(), config);
    let file = FileMount {
        kind: ContentKind::Config,
        source: "page".to_owned(),
        digest: None,
        target: "/page".to_owned(),
        uid: 0,
        gid: 0,
        mode: FileMount::MODE,
    };
    let web = spec.services.get_mut("web").expect("each stack has it");
    web.container.files.push(file);
    id
}

fn service(mode: ServiceMode, version: u64) -> ServiceSpec {
    ServiceSpec {
        mode,
        networks: vec![NetworkAttachmentSpec::new("net")],
        restart: RestartPolicy { delay: Duration::from_millis(500), ..RestartPolicy::default() },
        update: UpdatePolicy { parallelism: 2, ..UpdatePolicy::default() },
        volume_node_lost: VolumeNodeLost::StartEmpty,
        ..ServiceSpec::new(container(version))
    }
}

fn container(version: u64) -> ContainerSpec {
    let image = ImageSpec {
        digest: Some(format!("sha256:{}", "a".repeat(64)).parse().unwrap()),
        ..ImageSpec::new("docker.io/library/web:1")
    };
    ContainerSpec {
        command: Some(vec![format!("v{version}")]),
        resources: Resources { reserve_millicpus: 50, ..Resources::default() },
        ..ContainerSpec::new(image)
    }
}
