//! Puts the agent together and runs it.

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::failure::sentence;
use swarm_proto::id::NodeId;
use swarm_proto::object::Role;
use swarm_proto::rehearsal::SimulatedNodeError;
use swarm_proto::transport::{self, Identity, IdentityError, Keeper, Peer, Tls, TlsError};
use swarm_proto::wire::agent_server::{Agent, AgentServer};
use swarm_proto::wire::builds_server::BuildsServer;
use swarm_proto::wire::image_store_server::ImageStoreServer;
use swarm_runtime::ShimProgram;
use swarm_runtime::kernel::Namespace;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::board::Board;
use crate::build::{BuildError, BuildService, Builder};
use crate::config::Config;
use crate::controllers::Controllers;
use crate::description::{Describer, Fixed};
use crate::executor::{Executor, ExecutorConfig, HostExecutor, OneShots, TaskError};
use crate::image::{ImageError, Images, Limits, Neighbours};
use crate::image_service::ImageStoreService;
use crate::incarnation::{IncarnationError, Latest};
use crate::journal::{Journal, JournalError};
use crate::lease::{self, Lease};
use crate::locator::Locator;
use crate::network::{NetworkConfig, NetworkError, Networks};
use crate::registry_server::{Ready, RegistryServerError};
use crate::server::AgentService;
use crate::session::Sessions;
use crate::usage;
use crate::volume::{VolumeError, Volumes};
use crate::worker::{Reach, Worker};

/// Where root on this host asks the agent, in the folder of sockets.
const SOCKET: &str = "agent.sock";
/// How often an identity is looked for on a host that has none yet.
const IDENTITY_POLL: Duration = Duration::from_millis(200);
/// Between tries of what another program must do first.
const RETRY: Duration = Duration::from_secs(1);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its certificate cannot be used.
    #[error("the host's certificate cannot be used")]
    Tls(#[from] TlsError),
    /// What the host has beside CPUs, memory and processes cannot be told.
    #[error("the configuration's `generic_resources` are wrong: {0}")]
    Resources(String),
    /// No address is known at which other hosts reach this one.
    #[error(
        "cannot tell the address at which other hosts reach this one\n\n\
         hint: set `advertise_address` in the agent's configuration"
    )]
    NoAddress,
    /// The folder of the agent's state, or of its sockets, cannot be made.
    #[error("cannot make the folder `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent's port cannot be listened on.
    #[error("cannot listen on port {port}")]
    Listen {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// It cannot be told how long tasks may run without a controller.
    #[error("cannot tell one boot of this host from another")]
    Boot(#[source] io::Error),
    /// The socket for root on this host cannot be listened on.
    #[error("cannot listen on the socket `{}`", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stored images cannot be used.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The volumes cannot be used.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// It cannot be told which controllers to believe.
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The program that runs containers cannot be used.
    #[error(transparent)]
    Runtime(#[from] swarm_runtime::ProgramError),
    /// The host's networks cannot be used.
    #[error(transparent)]
    Networks(#[from] NetworkError),
    /// The folder of containers cannot be used.
    #[error(transparent)]
    Executor(#[from] TaskError),
    /// What earlier builds left cannot be taken away, or the folder of builds cannot be used.
    #[error(transparent)]
    Builds(#[from] BuildError),
    /// A mirror in the configuration is wrong.
    #[error("{0}")]
    Mirrors(String),
    /// The host's registry cannot be begun.
    #[error(transparent)]
    RegistryServer(#[from] RegistryServerError),
    /// What a simulated node begins with cannot be read.
    #[error(transparent)]
    Simulated(#[from] SimulatedNodeError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
}

/// Runs until told to stop. Containers, networks and names go on without the agent.
pub async fn run(config: Config) -> Result<(), RunError> {
    until_told(serve(config)).await
}

/// Does its work until the program is told to stop.
pub(crate) async fn until_told(
    work: impl Future<Output = Result<(), RunError>>,
) -> Result<(), RunError> {
    let mut stop = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::select! {
        result = work => result,
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Programs of images in the agent's folder may be set-user-id: nobody else of this host may come by one.
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

async fn serve(config: Config) -> Result<(), RunError> {
    let agent = config.agent_dir();
    make_private(&agent).map_err(|source| RunError::Folder { path: agent.clone(), source })?;
    let identity = wait_for_identity(&config.state_dir).await?;
    let address = advertised(&config, &identity)?;
    tracing::info!(node = %identity.node_id, %address, "starting");
    let registry = registry(&config).await?;
    let tls = Tls::new(&identity.credentials())?;
    tokio::spawn(keep_certificate(config.state_dir.clone(), Arc::clone(&tls), &identity));
    let images = images(&config, &agent)?;
    let executor = Arc::new(executor(&config, &agent, address, &images).await?);
    let board = Arc::new(Board::default());
    let (cut_off, in_reach) = watch::channel(false);
    let latest = Latest::open(&agent, &identity.cluster_id)?;
    let journal = Journal::open(&agent.join("journal"))?;
    let means = Arc::clone(&executor) as Arc<dyn Executor>;
    let lease = Arc::new(lease(&config.run_dir)?);
    let reach = Reach { cut_off: in_reach, lease: Arc::clone(&lease) };
    let worker = Worker::start(journal, Arc::clone(&means), Arc::clone(&board), reach).await;
    let worker = Arc::new(worker);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let one_shots = executor.one_shots(config.build_subnet);
    let folder = agent.clone();
    let builder = builder(agent, Arc::clone(&images), one_shots).await?;
    let controllers = Arc::new(Controllers::default());
    share(&images, neighbours(&tls, &controllers, identity.node_id), &worker);
    // Everybody who keeps content has been let in.
    keep_tidy(&images, config.build_cache_age);
    let store = ImageStoreService::server(Images::clone(&images), hostname.clone());
    let service = AgentService::server(
        Arc::clone(&images),
        Arc::clone(&executor),
        Arc::clone(&worker),
        (identity.node_id, hostname, address),
    );
    let services = (service, (BuildService::server(builder), store));
    answer(&config, services, &controllers, &tls).await?;
    match registry {
        Some(registry) => registry.start(Images::clone(&images), &folder)?,
        None => tell_of_repositories(&images),
    }
    let fixed = fixed(&config, address, &tls)?;
    let usages = usage::start(Arc::clone(&worker), Arc::clone(&means));
    let sessions = Sessions {
        identity,
        state_dir: config.state_dir,
        tls,
        controllers,
        worker,
        board,
        executor: means,
        describer: Describer::new(fixed),
        latest,
        cut_off,
        lease,
        usages,
        images: images.held(),
    };
    sessions.run().await;
    Ok(())
}

fn keep_tidy(images: &Images, unused_for: Duration) {
    let images = images.clone();
    tokio::spawn(async move { images.keep_tidy(unused_for).await });
}

/// What does not change in what this host says of itself.
fn fixed(config: &Config, address: Ipv4Addr, tls: &Arc<Tls>) -> Result<Fixed, RunError> {
    Ok(Fixed {
        address,
        port: config.port,
        labels: config.engine_labels.clone(),
        resources: config.resources().map_err(RunError::Resources)?,
        reserve: config.reserve.clone(),
        tls: Arc::clone(tls),
    })
}

/// The registry that this host is to be, before anything else begins that it could end half done.
async fn registry(config: &Config) -> Result<Option<Ready>, RunError> {
    let settings = config.registry_server.settings().map_err(RegistryServerError::Files)?;
    let Some(settings) = settings else { return Ok(None) };
    let registry = Ready::open(&settings).await?;
    tracing::info!(address = %settings.listen, tls = settings.tls.is_some(), "a registry is here");
    Ok(Some(registry))
}

/// What was pushed here stays, though nobody can ask for it now.
fn tell_of_repositories(images: &Images) {
    let count = images.repositories().len();
    if count > 0 {
        tracing::info!(count, "repositories stay on the disk, for there is no `[registry_server]`");
    }
}

fn images(config: &Config, agent: &Path) -> Result<Arc<Images>, RunError> {
    let registries = config.registries().map_err(RunError::Mirrors)?;
    let limits = Limits {
        reserve: config.image_reserve,
        pull_rate: config.pull_rate,
        share_rate: config.share_rate,
    };
    Ok(Arc::new(Images::open_with(agent, registries, limits)?))
}

async fn builder(
    agent: PathBuf,
    images: Arc<Images>,
    one_shots: OneShots,
) -> Result<Arc<Builder>, RunError> {
    let builder = tokio::task::spawn_blocking(move || Builder::open(&agent, images, one_shots));
    Ok(builder.await.map_err(|error| BuildError::Stopped(error.to_string()))??)
}

fn neighbours(tls: &Arc<Tls>, controllers: &Arc<Controllers>, node: NodeId) -> Neighbours {
    let locator = Locator::new(Arc::clone(tls), Arc::clone(controllers));
    Neighbours { tls: Arc::clone(tls), node, directory: Arc::new(locator) }
}

/// From now on images are copied from other hosts, and what tasks use is kept.
fn share(images: &Images, neighbours: Neighbours, worker: &Arc<Worker>) {
    images.share_with(neighbours);
    let worker = Arc::downgrade(worker);
    let users = move || worker.upgrade().map(|worker| worker.image_users()).unwrap_or_default();
    images.used_by(Box::new(users));
}

/// What earlier agents of this boot were told.
pub(crate) fn lease(run_dir: &Path) -> Result<Lease, RunError> {
    std::fs::create_dir_all(run_dir)
        .map_err(|source| RunError::Folder { path: run_dir.to_owned(), source })?;
    Lease::open(run_dir).map_err(RunError::Boot)
}

/// Builds, and the store of images.
type MoreServices = (BuildsServer<BuildService>, ImageStoreServer<ImageStoreService>);

/// Answers controllers on the network, and who is root on this host on a socket.
async fn answer(
    config: &Config,
    (service, more): (AgentServer<AgentService>, MoreServices),
    controllers: &Arc<Controllers>,
    tls: &Arc<Tls>,
) -> Result<(), RunError> {
    let services = (service.clone(), Some(more));
    answer_controllers(config.port, services, controllers, tls).await?;
    let run_dir = &config.run_dir;
    std::fs::create_dir_all(run_dir)
        .map_err(|source| RunError::Folder { path: run_dir.clone(), source })?;
    let socket = run_dir.join(SOCKET);
    let local = transport::accept_unix(&socket)
        .await
        .map_err(|source| RunError::Socket { path: socket, source })?;
    tokio::spawn(until_error(transport::server().add_service(service).serve_with_incoming(local)));
    Ok(())
}

/// Answers controllers on the network, hosts that copy images, and nobody else.
pub(crate) async fn answer_controllers<T: Agent>(
    port: u16,
    (service, more): (AgentServer<T>, Option<MoreServices>),
    controllers: &Arc<Controllers>,
    tls: &Arc<Tls>,
) -> Result<(), RunError> {
    let incoming = controllers.connections().accept(listen(port).await?, Arc::clone(tls));
    let members = Arc::clone(controllers);
    let members = Arc::new(move |call: &str, peer: &Peer| members.check_call(call, peer));
    let (builds, store) = more.unzip();
    let server = transport::guarded_server(members)
        .add_service(service)
        .add_optional_service(builds)
        .add_optional_service(store)
        .serve_with_incoming(incoming);
    tokio::spawn(until_error(server));
    Ok(())
}

async fn executor(
    config: &Config,
    agent: &Path,
    underlay: Ipv4Addr,
    images: &Arc<Images>,
) -> Result<HostExecutor, RunError> {
    let volumes = Volumes::open(&agent.join("volumes"))?;
    let program = ShimProgram::seal(&config.runtime_program())?;
    let networks = networks(config, underlay).await?;
    let starts = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let config = ExecutorConfig {
        containers: agent.join("containers"),
        cgroup_parent: config.cgroup_parent.clone(),
        resource_devices: config.resource_devices.clone(),
        starts: starts.clamp(2, 8),
        lease_file: config.run_dir.join(lease::FILE),
    };
    let (images, volumes, networks) = (Arc::clone(images), Arc::new(volumes), Arc::new(networks));
    Ok(HostExecutor::new(config, images, volumes, networks, program)?)
}

async fn until_error(server: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = server.await {
        tracing::error!(error = %sentence(&error), "the agent's own service ended");
    }
}

/// At boot the address may come later than the agent.
async fn networks(config: &Config, underlay: Ipv4Addr) -> Result<Networks, RunError> {
    loop {
        let config = NetworkConfig {
            run_dir: config.run_dir.clone(),
            underlay,
            host: Namespace::current().map_err(|e| NetworkError::Host(e.into()))?,
            resolv_conf: "/etc/resolv.conf".into(),
        };
        match Networks::new(config).await {
            Err(error @ NetworkError::NoUnderlay { .. }) => {
                tracing::warn!(error = %sentence(&error), "waiting for it");
                tokio::time::sleep(RETRY).await;
            }
            other => return Ok(other?),
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener, RunError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { port, source })
}

/// A host gets its identity from `swarm-agent join`, or from its own controller.
pub(crate) async fn wait_for_identity(state_dir: &Path) -> Result<Identity, RunError> {
    let mut told = false;
    loop {
        if let Some(identity) = Identity::load(state_dir)? {
            return Ok(identity);
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("this host is not a member of a cluster yet; waiting for its identity");
        }
        tokio::time::sleep(IDENTITY_POLL).await;
    }
}

/// Keeps the host's certificate valid. Where a controller runs, too, the certificate is that one's to renew.
pub(crate) fn keep_certificate(
    state_dir: PathBuf,
    tls: Arc<Tls>,
    identity: &Identity,
) -> impl Future<Output = ()> + use<> {
    let keeper = match identity.role {
        Role::Controller => Keeper::Second,
        Role::Agent => Keeper::First,
    };
    transport::keep_valid(state_dir, tls, identity.credentials(), keeper, transport::renew)
}

/// The address at which other hosts reach this one.
pub(crate) fn advertised(config: &Config, identity: &Identity) -> Result<Ipv4Addr, RunError> {
    config
        .advertise_address
        .or_else(|| own_address(&identity.controllers))
        .ok_or(RunError::NoAddress)
}

/// The address from which packets to the controllers leave.
fn own_address(controllers: &[String]) -> Option<Ipv4Addr> {
    controllers.iter().find_map(|controller| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect(controller).ok()?;
        match socket.local_addr().ok()? {
            SocketAddr::V4(own) if !own.ip().is_loopback() => Some(*own.ip()),
            _ => None,
        }
    })
}
