//! Stacks in one line: `web:replicas=3,image=1,port=8080:80 db:volume=data`.

use std::time::Duration;

use swarm_proto::spec::{
    Affinity, Amount, Autoscale, Canary, Concurrency, ContainerSpec, CutOffAction, Dependency,
    DependencyCondition, Domain, EndpointMode, HealthCheck, HealthTest, ImageSpec, JobSchedule,
    MissedRuns, Mount, MountSource, NetworkAttachmentSpec, NetworkMode, NetworkSpec, PortMode,
    PortSpec, Protocol, ResourceRequest, RestartCondition, Scrape, ScrapeTarget, ServiceMode,
    ServiceSpec, StackSpec, UpdateFailureAction, UpdateOrder, VolumeNodeLost, VolumeSpec,
};

/// A digest that is easy to tell from others.
pub(crate) fn digest(number: &str) -> String {
    let digit = number.bytes().last().unwrap_or(b'0') as char;
    format!("sha256:{}", digit.to_string().repeat(64))
}

pub(crate) fn stack(name: &str, services: &[&str]) -> StackSpec {
    let mut spec = StackSpec { name: name.to_owned(), ..StackSpec::default() };
    for text in services {
        let (key, options) = text.split_once(':').unwrap_or((text, ""));
        if let Some(network) = key.strip_prefix("net/") {
            let mut found = NetworkSpec::default();
            if let Some(subnet) = options.strip_prefix("subnet=") {
                let (address, length) = subnet.split_once('/').unwrap();
                found.subnet = Some((address.parse().unwrap(), length.parse().unwrap()));
            }
            spec.networks.insert(network.to_owned(), found);
            continue;
        }
        let service = service(options);
        for attachment in &service.networks {
            let external = attachment.external.is_some();
            let network = NetworkSpec { external, ..NetworkSpec::default() };
            spec.networks.entry(attachment.network.clone()).or_insert(network);
        }
        for mount in &service.container.mounts {
            if let MountSource::Volume { volume, external, .. } = &mount.source {
                let external = external.is_some();
                spec.volumes.insert(volume.clone(), VolumeSpec { external, ..Default::default() });
            }
        }
        spec.services.insert(key.to_owned(), service);
    }
    spec
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.trim_end_matches('s').parse().expect("seconds"))
}

pub(crate) fn service(options: &str) -> ServiceSpec {
    let mut spec = plain();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        set(&mut spec, name, value);
    }
    spec
}

fn set(spec: &mut ServiceSpec, name: &str, value: &str) {
    match name {
        "replicas" => spec.mode = ServiceMode::Replicated { replicas: value.parse().unwrap() },
        "global" => spec.mode = ServiceMode::Global,
        "image" => {
            // `2` is `app:2`.
            let name = if value.contains(':') { value.to_owned() } else { format!("app:{value}") };
            spec.container.image.reference = format!("docker.io/library/{name}");
            spec.container.image.digest = Some(digest(value).parse().unwrap());
        }
        "net" => spec.networks.push(NetworkAttachmentSpec::new(value)),
        "alias" => spec.networks.last_mut().unwrap().aliases.push(value.to_owned()),
        "nonet" => spec.networks.clear(),
        "port" | "hostport" => {
            let (published, target) = value.split_once(':').unwrap();
            spec.ports.push(PortSpec {
                target: target.parse().unwrap(),
                published: published.parse().ok(),
                protocol: Protocol::Tcp,
                mode: if name == "port" { PortMode::Ingress } else { PortMode::Host },
                host_address: None,
            });
        }
        "dnsrr" => spec.endpoint_mode = EndpointMode::Dnsrr,
        "volume" => {
            let source =
                MountSource::Volume { volume: value.to_owned(), no_copy: false, external: None };
            let target = format!("/{value}");
            spec.container.mounts.push(Mount { target, source, read_only: false });
        }
        "start-empty" => spec.volume_node_lost = VolumeNodeLost::StartEmpty,
        // Spaces and commas end an option of a script: `~` and `;` stand for them.
        "constraint" => {
            spec.placement
                .constraints
                .push(value.replace('~', " ").replace(';', ",").parse().unwrap());
        }
        "spread" => spec.placement.spread.push(domain(value)),
        "near" => spec.placement.near.push(affinity(value)),
        "apart" => spec.placement.apart.push(affinity(value)),
        "per-node" => spec.placement.max_replicas_per_node = Some(value.parse().unwrap()),
        "cpus" => spec.container.resources.reserve_millicpus = value.parse().unwrap(),
        "memory" => {
            spec.container.resources.reserve_memory = value.parse::<u64>().unwrap() << 20;
        }
        "pids" => spec.container.resources.reserve_pids = value.parse().unwrap(),
        "priority" => spec.priority = value.parse().unwrap(),
        "keeps" => spec.never_preempted = true,
        "need" => spec.container.resources.requests.push(request(value)),
        "restart" => {
            spec.restart.condition = match value {
                "none" => RestartCondition::None,
                "on-failure" => RestartCondition::OnFailure,
                _ => RestartCondition::Any,
            }
        }
        "delay" => spec.restart.delay = seconds(value),
        "attempts" => spec.restart.max_attempts = Some(value.parse().unwrap()),
        "window" => spec.restart.window = seconds(value),
        "parallelism" => spec.update.parallelism = value.parse().unwrap(),
        "update-delay" => spec.update.delay = seconds(value),
        other => set_more(spec, other, value),
    }
}

/// `gpu*2`, `gpu*all`, or `gpu:a;b`.
fn request(text: &str) -> ResourceRequest {
    let (kind, amount) = match text.split_once('*') {
        Some((kind, "all")) => (kind, Amount::All),
        Some((kind, count)) => (kind, Amount::Count(count.parse().unwrap())),
        None => {
            let (kind, ids) = text.split_once(':').unwrap();
            (kind, Amount::Ids(ids.split(';').map(str::to_owned).collect()))
        }
    };
    // What only devices can be asked for in a stack file.
    let is_device = !matches!(amount, Amount::Count(_));
    let capabilities = if is_device { vec![ResourceRequest::GPU.to_owned()] } else { Vec::new() };
    ResourceRequest { kind: kind.to_owned(), amount, capabilities }
}

fn set_more(spec: &mut ServiceSpec, name: &str, value: &str) {
    match name {
        "unreachable" => spec.node_loss.unreachable_after = seconds(value),
        "stop-cut-off" => spec.node_loss.on_cut_off = CutOffAction::Stop,
        // What is external has its full name as its key here.
        "extnet" => {
            let external = Some(value.to_owned());
            spec.networks
                .push(NetworkAttachmentSpec { external, ..NetworkAttachmentSpec::new(value) });
        }
        "extvolume" => {
            let (volume, external) = (value.to_owned(), Some(value.to_owned()));
            let source = MountSource::Volume { volume, no_copy: false, external };
            let target = format!("/{value}");
            spec.container.mounts.push(Mount { target, source, read_only: false });
        }
        "after" => spec.depends_on.push(dependency(value)),
        "check" => {
            let test = Some(HealthTest::Tcp(80));
            spec.container.health = Some(HealthCheck { test, ..HealthCheck::default() });
        }
        "hostnet" => {
            spec.networks.clear();
            spec.container.sharing.network = NetworkMode::Host;
        }
        "job" => {
            let (total, most) = value.split_once('/').unwrap_or((value, value));
            let (total, max_concurrent) = (total.parse().unwrap(), most.parse().unwrap());
            spec.mode = ServiceMode::ReplicatedJob { total, max_concurrent };
        }
        "globaljob" => spec.mode = ServiceMode::GlobalJob,
        // `0_3_*_*_*`
        "cron" => schedule(spec).expression = value.replace('_', " "),
        "every" => schedule(spec).expression = format!("@every {value}"),
        "zone" => value.clone_into(&mut schedule(spec).time_zone),
        "missed" => {
            schedule(spec).missed = match value {
                "run-once" => MissedRuns::RunOnce,
                "run-all" => MissedRuns::RunAll,
                _ => MissedRuns::Skip,
            }
        }
        "concurrency" => {
            schedule(spec).concurrency = match value {
                "allow" => Concurrency::Allow,
                "replace" => Concurrency::Replace,
                _ => Concurrency::Forbid,
            }
        }
        "history" => spec.run_history = Some(value.parse().unwrap()),
        "tag" => spec.container.logging.tag = Some(value.to_owned()),
        "hostname" => spec.container.hostname = Some(value.to_owned()),
        "force" => spec.force = value.parse().unwrap(),
        "canary" => spec.canary = Some(canary(value)),
        // `2-8;cpu:50;stab:60s;cool:10s`
        "auto" => spec.autoscale = Some(autoscale(value)),
        "label" => {
            spec.labels.insert("label".to_owned(), value.to_owned());
        }
        other => set_policy(spec, other, value),
    }
}

/// `1`, `20%`, `1+60s`
fn canary(text: &str) -> Canary {
    let (size, hold) = text.split_once('+').unwrap_or((text, ""));
    let hold = (!hold.is_empty()).then(|| seconds(hold));
    Canary { size: size.parse().unwrap(), hold }
}

/// `2-8;cpu:50;memory:80;requests:20;scrape:12.5;stab:60s;cool:10s`
fn autoscale(text: &str) -> Autoscale {
    let mut words = text.split(';');
    let (min, max) = words.next().unwrap().split_once('-').unwrap();
    let mut autoscale = Autoscale {
        min: min.parse().unwrap(),
        max: max.parse().unwrap(),
        cpu: None,
        memory: None,
        scrape: None,
        requests: None,
        stabilisation: Duration::from_mins(1),
        cool_down: Duration::from_secs(10),
    };
    for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
        match name {
            "cpu" => autoscale.cpu = Some(value.parse().unwrap()),
            "requests" => autoscale.requests = Some(value.parse().unwrap()),
            "memory" => autoscale.memory = Some(value.parse().unwrap()),
            "scrape" => {
                let (path, metric) = (Scrape::PATH.to_owned(), "queue".to_owned());
                let (scrape, target) = (Scrape { port: 80, path, metric }, value.parse().unwrap());
                autoscale.scrape = Some(ScrapeTarget { scrape, target });
            }
            "stab" => autoscale.stabilisation = seconds(value),
            "cool" => autoscale.cool_down = seconds(value),
            other => panic!("unknown part of autoscale {other}"),
        }
    }
    autoscale
}

/// `monitor=1s` is of updates, `rollback-monitor=1s` of rollbacks.
fn set_policy(spec: &mut ServiceSpec, name: &str, value: &str) {
    let (name, policy) = match name.strip_prefix("rollback-") {
        Some(name) => (name, &mut spec.rollback),
        None => (name, &mut spec.update),
    };
    match name {
        "monitor" => policy.monitor = seconds(value),
        "ratio" => policy.max_failure_ratio = value.parse().unwrap(),
        "deadline" => policy.progress_deadline = seconds(value),
        "parallelism" => policy.parallelism = value.parse().unwrap(),
        "delay" => policy.delay = seconds(value),
        "start-first" => policy.order = UpdateOrder::StartFirst,
        "blue-green" => policy.order = UpdateOrder::BlueGreen,
        "hold" => policy.hold = seconds(value),
        "failure" => {
            policy.failure_action = match value {
                "pause" => UpdateFailureAction::Pause,
                "continue" => UpdateFailureAction::Continue,
                "rollback" => UpdateFailureAction::Rollback,
                other => panic!("unknown failure action {other}"),
            }
        }
        other => panic!("unknown option {other}"),
    }
}

fn schedule(spec: &mut ServiceSpec) -> &mut JobSchedule {
    spec.schedule.get_or_insert_with(|| JobSchedule {
        expression: "@daily".to_owned(),
        time_zone: JobSchedule::TIME_ZONE.to_owned(),
        missed: MissedRuns::default(),
        concurrency: Concurrency::default(),
    })
}

/// `zone` is `node.labels.zone`.
fn domain(text: &str) -> Domain {
    Domain::label(text).unwrap_or_else(|| Domain::NodeLabel(text.to_owned()))
}

/// `db`, `db+healthy`, `db+completed+restart`.
fn dependency(text: &str) -> Dependency {
    let mut words = text.split('+');
    let mut dependency = Dependency::started(words.next().unwrap());
    for word in words {
        match word {
            "healthy" => dependency.condition = DependencyCondition::Healthy,
            "completed" => dependency.condition = DependencyCondition::Completed,
            "restart" => dependency.restart = true,
            other => panic!("unknown condition {other}"),
        }
    }
    dependency
}

/// `db`, or `db@zone`.
fn affinity(text: &str) -> Affinity {
    let (service, within) = match text.split_once('@') {
        Some((service, label)) => (service, domain(label)),
        None => (text, Domain::Node),
    };
    Affinity { service: service.to_owned(), within }
}

fn plain() -> ServiceSpec {
    ServiceSpec {
        networks: vec![NetworkAttachmentSpec::new("net")],
        ..ServiceSpec::new(container())
    }
}

fn container() -> ContainerSpec {
    ContainerSpec::new(ImageSpec {
        digest: Some(digest("1").parse().unwrap()),
        ..ImageSpec::new("docker.io/library/app:1")
    })
}
