//! A program that is run once, for no task: a step of a build. It is confined as a task's is, but set-user-id programs
//! count, as in any builder: what they make is only an image.

mod network;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{ServiceId, Slot, TaskId};
use swarm_proto::object::TaskState;
use swarm_proto::spec::{
    ContainerSpec, Dns, ImageSpec, Mount, MountSource, NetworkMode, RestartPolicy, Tmpfs,
};
use swarm_runtime::kernel::netlink::Socket;
use swarm_runtime::kernel::{Namespace, namespace};
use swarm_runtime::{
    CgroupSpec, Container, CreateOptions, ExitRecord, Limits, LogOptions, RootfsSpec,
    SeccompChoice, ShimProgram,
};

use super::bundle::{self, Surroundings};
use super::container::{Look, container_in, look};
use super::{Found, HostExecutor, TaskError, blocking, capability};
use crate::build::StepOptions;
use crate::image::ImageConfig;
use crate::names;
use crate::network::{KernelError, NetworkError, Networks};
pub use network::BuildSubnet;
use network::{BuildNetwork, Connected};

/// Its name for itself.
const HOSTNAME: &str = "build";
/// Names of the containers' resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Keeps its network, where that is its own.
const NAMESPACE: &str = "netns";
/// Processes that a step may have.
const MOST_PROCESSES: u64 = 16 << 10;
/// Tasks come first where processors are busy: they have 1024.
const SHARES: u64 = 256;

/// Where such programs run.
#[derive(Debug)]
pub struct OneShots {
    program: Arc<ShimProgram>,
    cgroup_parent: String,
    network: BuildNetwork,
    /// How many there are: the last one takes the parent of their control groups away.
    running: Mutex<usize>,
}

/// What is mounted for such a program.
#[derive(Debug)]
pub(crate) enum Mounted {
    /// A folder or file of the host, through which no symlink leads.
    Host { path: PathBuf, read_only: bool },
    /// Memory.
    Memory { size: Option<u64> },
    /// A file that holds a secret.
    Secret { path: PathBuf },
}

/// One such program.
#[derive(Debug)]
pub(crate) struct OneShot {
    /// Among all of this host.
    pub(crate) name: String,
    /// The container's own folder. Its log is there afterwards.
    pub(crate) folder: PathBuf,
    /// Its root, whose folder for changes is not in `folder`.
    pub(crate) rootfs: RootfsSpec,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Empty is root.
    pub(crate) user: String,
    pub(crate) workdir: String,
    /// Its own has a way out, and nobody else on it.
    pub(crate) network: NetworkMode,
    /// By the path in the container.
    pub(crate) mounts: BTreeMap<String, Mounted>,
    /// Bytes of memory that it may use.
    pub(crate) memory: Option<u64>,
    /// What the whole build has; its network is in `network` already.
    pub(crate) options: StepOptions,
}

impl HostExecutor {
    /// Runs programs with this host's means, beside its tasks.
    pub fn one_shots(&self, subnet: BuildSubnet) -> OneShots {
        // Not among those of tasks: nobody shall take them for strays.
        let cgroup_parent = format!("{}-build", self.config.cgroup_parent);
        let networks = Arc::clone(&self.networks);
        OneShots::new(Arc::clone(&self.program), cgroup_parent, networks, subnet)
    }
}

impl OneShots {
    /// With the runtime's program, below a parent of control groups that is theirs alone.
    pub fn new(
        program: Arc<ShimProgram>,
        cgroup_parent: String,
        networks: Arc<Networks>,
        subnet: BuildSubnet,
    ) -> Self {
        let network = BuildNetwork::new(networks, subnet);
        Self { program, cgroup_parent, network, running: Mutex::new(0) }
    }

    /// Runs a program until it ends, or `cancelled` does, which kills it. Nothing is left of it but its folder.
    pub(crate) async fn run(
        &self,
        one: OneShot,
        cancelled: impl Future<Output = ()>,
    ) -> Result<ExitRecord, TaskError> {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let ended = self.connected(one, cancelled).await;
        self.one_less();
        ended
    }

    /// Runs a program in its network, which is there as long as it is.
    async fn connected(
        &self,
        one: OneShot,
        cancelled: impl Future<Output = ()>,
    ) -> Result<ExitRecord, TaskError> {
        let folder = one.folder.clone();
        let connected = match one.network {
            NetworkMode::Own => Some(self.network.connect(task(&one.name, spec(&one))).await?),
            NetworkMode::Host | NetworkMode::None => None,
        };
        let ended = self.begin_and_wait(one, connected.as_ref(), cancelled).await;
        let removed = blocking(move || take_down(&folder)).await;
        if let Some(connected) = connected {
            self.network.disconnect(connected).await?;
        }
        removed?;
        ended
    }

    fn one_less(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.tidy();
    }

    /// Takes the parent of control groups away while nothing runs, also one that an earlier agent made.
    pub(crate) fn tidy(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *running == 0
            && let Err(error) = swarm_runtime::cgroup::remove_parent(&self.cgroup_parent)
        {
            tracing::debug!(%error, "the parent of control groups for builds stays");
        }
    }

    async fn begin_and_wait(
        &self,
        one: OneShot,
        connected: Option<&Connected>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<ExitRecord, TaskError> {
        let place = Place::of(connected);
        let (program, parent) = (Arc::clone(&self.program), self.cgroup_parent.clone());
        let folder = one.folder.clone();
        let begun = blocking(move || begin(&program, one, place, parent)).await;
        if let Found::Running { mut end, .. } = begun.and_then(Look::into_found)? {
            tokio::select! {
                () = end.ended() => {}
                () = cancelled => {
                    return Err(TaskError::Stopped("it was cancelled".to_owned()));
                }
            }
        }
        blocking(move || Ok(Container::open(&folder)?.wait()?)).await
    }
}

/// Takes down what runs in such a folder, also what an earlier agent left.
pub(crate) fn take_down(folder: &Path) -> Result<(), TaskError> {
    if let Some(container) = container_in(folder)? {
        container.delete()?;
    }
    namespace::delete(&folder.join(NAMESPACE)).map_err(|source| alone(source.into()))
}

/// A network of its own with nothing but loopback.
fn make_alone(folder: &Path) -> Result<PathBuf, TaskError> {
    let path = folder.join(NAMESPACE);
    let made = || -> Result<(), KernelError> {
        namespace::create(&path)?;
        let mut socket = Socket::open_in(&Namespace::open(&path)?)?;
        let loopback = socket.link("lo")?.index;
        Ok(socket.set_up(loopback, true)?)
    };
    made().map_err(alone)?;
    Ok(path)
}

fn alone(source: KernelError) -> TaskError {
    TaskError::Network(NetworkError::Host(source))
}

/// Where a program is in the network, as it sees that.
struct Place {
    namespace: Option<PathBuf>,
    resolv_conf: Option<String>,
    /// Of its own name.
    address: IpAddr,
}

impl Place {
    fn of(connected: Option<&Connected>) -> Self {
        let network = connected.map(|connected| &connected.network);
        let address = network.and_then(|network| network.addresses.first());
        Self {
            namespace: network.and_then(|network| network.namespace.clone()),
            resolv_conf: network.map(|network| network.resolv_conf.clone()),
            address: IpAddr::V4(address.copied().unwrap_or(Ipv4Addr::LOCALHOST)),
        }
    }
}

fn begin(
    program: &ShimProgram,
    one: OneShot,
    mut place: Place,
    cgroup_parent: String,
) -> Result<Look, TaskError> {
    fs::create_dir_all(&one.folder).map_err(TaskError::disk("make", &one.folder))?;
    if one.network == NetworkMode::None {
        place.namespace = Some(make_alone(&one.folder)?);
    }
    let (task, around) = described(&one, place);
    let available = capability::available();
    bundle::write(&one.folder, &task, &ImageConfig::default(), &around, available)?;
    let limits = Limits {
        memory_bytes: one.memory,
        pids: Some(MOST_PROCESSES),
        cpu_shares: Some(SHARES),
        ..Limits::default()
    };
    let options = CreateOptions {
        id: one.name.clone(),
        dir: one.folder,
        rootfs: one.rootfs,
        user: (!one.user.is_empty()).then_some(one.user),
        groups: Vec::new(),
        init: false,
        stdin_open: false,
        seccomp: SeccompChoice::Default,
        log: LogOptions::default(),
        passed_fds: Vec::new(),
        cgroup: CgroupSpec { parent: cgroup_parent, name: one.name, limits },
        fence: None,
    };
    let container = Container::create(program, options)?;
    container.start()?;
    look(&container)
}

/// The program as a task would be described, without its mounts.
fn spec(one: &OneShot) -> ContainerSpec {
    let mut spec = ContainerSpec::new(ImageSpec::new(""));
    spec.entrypoint = Some(vec![String::new()]);
    spec.command = Some(one.arguments.clone());
    let values = one.environment.iter();
    spec.environment = values.map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    spec.working_dir = Some(one.workdir.clone());
    spec.hostname = Some(HOSTNAME.to_owned());
    spec.sharing.network = one.network;
    spec.shm_size = one.options.shm_size;
    spec.ulimits.clone_from(&one.options.ulimits);
    spec.security.no_new_privileges = Some(false);
    spec
}

/// The program as a task would be described, and what is around it.
fn described(one: &OneShot, place: Place) -> (TaskAssignment, Surroundings) {
    let mut spec = spec(one);
    let (mut sources, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (target, mounted) in &one.mounts {
        let (source, read_only) = match mounted {
            Mounted::Secret { path } => {
                files.insert(target.clone(), path.clone());
                continue;
            }
            Mounted::Host { path, read_only } => {
                sources.insert(target.clone(), path.clone());
                (MountSource::Bind { path: path.display().to_string() }, *read_only)
            }
            Mounted::Memory { size } => {
                (MountSource::Tmpfs(Tmpfs { size: *size, ..Tmpfs::default() }), false)
            }
        };
        spec.mounts.push(Mount { target: target.clone(), source, read_only });
    }
    let of_host = || names::resolv_conf(Path::new(RESOLV_CONF), one.network, &Dns::default());
    let own = [
        (IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost".to_owned()),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), "localhost".to_owned()),
        (place.address, HOSTNAME.to_owned()),
    ];
    let given = one.options.extra_hosts.iter().map(|(name, address)| (*address, name.clone()));
    let around = Surroundings {
        namespace: place.namespace,
        resolv_conf: place.resolv_conf.unwrap_or_else(of_host),
        hosts: own.into_iter().chain(given).collect(),
        addresses: Vec::new(),
        sources,
        files,
        devices: Vec::new(),
    };
    (task(&one.name, spec), around)
}

fn task(name: &str, container: ContainerSpec) -> TaskAssignment {
    TaskAssignment {
        id: TaskId { service: ServiceId(0), slot: Slot::Replica(1), generation: 1 },
        name: name.to_owned(),
        stack: String::new(),
        service: String::new(),
        desired: TaskState::Running,
        start_after: None,
        container,
        attachments: Vec::new(),
        volumes: BTreeMap::new(),
        host_ports: Vec::new(),
        restart: RestartPolicy::default(),
        withdrawal: None,
        lease: None,
        measure: None,
        resources: BTreeMap::new(),
    }
}
