//! A client that deploys one stack again and again, and remembers what it was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_controller::core::{Command, State};
use swarm_proto::spec::{
    ContainerSpec, EndpointMode, ImageSpec, Mount, MountSource, NetworkAttachmentSpec, NetworkSpec,
    Placement, PortMode, PortSpec, Protocol, PullPolicy, Resources, RestartPolicy, ServiceMode,
    ServiceSpec, StackSpec, UpdatePolicy, VolumeNodeLost, VolumeSpec,
};

use crate::random::Random;

pub(crate) struct Client {
    pub(crate) stack: String,
    /// The number in the deploy that is tried now.
    pub(crate) tried: u64,
    /// The highest number that was acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) command: Option<Command>,
    /// When to try again, while there is no answer.
    pub(crate) retry_at: u64,
}

impl Client {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            stack: format!("stack{number}"),
            tried: 0,
            acknowledged: 0,
            command: None,
            retry_at: 0,
        }
    }

    pub(crate) fn request_id(&self) -> String {
        format!("{}-{}", self.stack, self.tried)
    }

    /// Makes up the next deploy.
    pub(crate) fn next(&mut self, random: &mut Random) {
        self.tried += 1;
        let spec = stack(&self.stack, self.tried, random);
        self.command = Some(Command::Deploy { spec, prune: true, warnings: Vec::new() });
    }

    /// What was acknowledged is there, or something that this client tried later.
    pub(crate) fn check(&self, state: &State) {
        if self.acknowledged == 0 {
            return;
        }
        let stack = state.stacks.get(&self.stack).expect("an acknowledged deploy is lost");
        let number = &stack.spec.services["web"].labels["number"];
        let number: u64 = number.parse().unwrap();
        assert!(
            number >= self.acknowledged && number <= self.tried,
            "{} holds deploy {number}, but {} was acknowledged and {} tried",
            self.stack,
            self.acknowledged,
            self.tried
        );
    }
}

fn stack(name: &str, number: u64, random: &mut Random) -> StackSpec {
    let mut services = BTreeMap::new();
    let replicas = u32::try_from(random.between(1, 7)).unwrap();
    let mut web = service(ServiceMode::Replicated { replicas }, random.between(0, 2));
    web.labels.insert("number".to_owned(), number.to_string());
    web.ports.push(PortSpec {
        target: 80,
        published: None,
        protocol: Protocol::Tcp,
        mode: PortMode::Ingress,
        host_address: None,
    });
    services.insert("web".to_owned(), web);
    let mut data = service(ServiceMode::Replicated { replicas: 1 }, 0);
    let source = MountSource::Volume { volume: "data".to_owned(), no_copy: false };
    data.container.mounts.push(Mount { target: "/data".to_owned(), source, read_only: false });
    services.insert("data".to_owned(), data);
    if random.chance(50) {
        services.insert("every".to_owned(), service(ServiceMode::Global, 0));
    }
    StackSpec {
        name: name.to_owned(),
        services,
        networks: BTreeMap::from([("net".to_owned(), NetworkSpec::default())]),
        volumes: BTreeMap::from([("data".to_owned(), VolumeSpec::default())]),
    }
}

fn service(mode: ServiceMode, version: u64) -> ServiceSpec {
    ServiceSpec {
        mode,
        container: container(version),
        networks: vec![NetworkAttachmentSpec { network: "net".to_owned(), aliases: Vec::new() }],
        ports: Vec::new(),
        endpoint_mode: EndpointMode::Vip,
        placement: Placement::default(),
        restart: RestartPolicy { delay: Duration::from_millis(500), ..RestartPolicy::default() },
        update: UpdatePolicy { parallelism: 2, ..UpdatePolicy::default() },
        volume_node_lost: VolumeNodeLost::Wait,
        labels: BTreeMap::new(),
    }
}

fn container(version: u64) -> ContainerSpec {
    ContainerSpec {
        image: ImageSpec {
            reference: "docker.io/library/web:1".to_owned(),
            digest: Some(format!("sha256:{}", "a".repeat(64)).parse().unwrap()),
            pull_policy: PullPolicy::Missing,
        },
        entrypoint: None,
        command: Some(vec![format!("v{version}")]),
        environment: BTreeMap::new(),
        user: None,
        working_dir: None,
        hostname: None,
        labels: BTreeMap::new(),
        mounts: Vec::new(),
        extra_hosts: BTreeMap::new(),
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        privileged: false,
        read_only: false,
        init: false,
        tty: false,
        sysctls: BTreeMap::new(),
        ulimits: Vec::new(),
        stop_signal: None,
        stop_grace_period: Duration::from_secs(10),
        resources: Resources { reserve_millicpus: 50, ..Resources::default() },
    }
}
