//! `swarm-controller run`: puts threads, services and connections together, and takes them down in good order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Incarnation, Role};
use swarm_proto::transport::{
    self, Connections, Departure, Identity, IdentityError, MAX_MESSAGE, Peer, Tls, TlsError,
    accept_unix,
};
use swarm_proto::wire;
use swarm_proto::wire::control_server::ControlServer;
use swarm_proto::wire::dispatcher_server::DispatcherServer;
use swarm_proto::wire::image_index_server::ImageIndexServer;
use swarm_proto::wire::images_server::ImagesServer;
use swarm_proto::wire::join_server::JoinServer;
use swarm_proto::wire::local_server::LocalServer;
use swarm_proto::wire::raft_server::RaftServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::control_service::ControlService;
use super::controller::Controller;
use super::departure::{self, DepartureError};
use super::disk::{DiskError, DiskStore, LOCK_PATIENCE};
use super::dispatcher::DispatcherService;
use super::hub::Hub;
use super::image_service::{ImageIndexService, ImageService};
use super::join_service::JoinService;
use super::local_service::LocalService;
use super::peers::Peers;
use super::raft_service::RaftService;
use super::{address, authority, lock, membership, raft_thread, setup, upkeep};
use crate::config::Config;
use crate::core::{Core, CoreConfig, Recovered, StartError};

/// How long a stopping leader tries to hand over.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long streams may take to end when stopping.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No `init` or `join` has been done.
    #[error(
        "this host belongs to no cluster yet: {} does not exist\n\nhint: make a cluster with `swarm-controller init --advertise IP`, or enter one with `swarm-controller join --token TOKEN ADDRESS`",
        folder.display()
    )]
    NoIdentity {
        /// Where the identity would be.
        folder: PathBuf,
    },
    /// The host joined as an agent.
    #[error(
        "this host joined its cluster as an agent, not as a controller\n\nhint: run `swarm-agent run` on it"
    )]
    NotController,
    /// The log that this controller promised things in is gone.
    #[error(
        "the log of this controller in {} is gone, though it is member {raft_id} of its cluster: it must not begin anew under the same raft id\n\nhint: let it in anew, under another one: {command}",
        folder.display()
    )]
    LostLog {
        /// Where it was.
        folder: PathBuf,
        /// What it was.
        raft_id: RaftId,
        /// What to run.
        command: String,
    },
    /// It was a controller, and its node goes on without one.
    #[error(
        "this controller was taken out of the cluster and stops for good; the host's agent goes on\n\nhint: to make the host a controller again: swarm-controller join --token TOKEN"
    )]
    Demoted,
    /// Its node is no member any more.
    #[error(
        "node {node} was removed from the cluster: its controller stops for good\n\nhint: to let this host in again, remove {} and join anew",
        state_dir.display()
    )]
    Removed {
        /// Which it was.
        node: NodeId,
        /// What holds its identity and log.
        state_dir: PathBuf,
    },
    /// Its cluster was restored or forced anew without it.
    #[error(
        "this controller belongs to incarnation {own} of its cluster, which was restored from a backup, or forced anew, as {by}: it stops for good, and the host's agent goes on; the log is kept in {}\n\nhint: to make the host a controller again: {command} --token TOKEN, with what `swarmctl cluster token controller` prints on a controller's host",
        kept.display()
    )]
    Superseded {
        /// The controller's incarnation.
        own: Incarnation,
        /// The cluster's.
        by: Incarnation,
        /// Where the log is.
        kept: PathBuf,
        /// What to run, but for the token.
        command: String,
    },
    /// A demoted controller's host could not be made an agent's.
    #[error(transparent)]
    Departure(#[from] DepartureError),
    /// The identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate cannot be used.
    #[error("this host's certificate cannot be used")]
    Tls(#[from] TlsError),
    /// The disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Core(#[from] StartError),
    /// Nothing can listen there.
    #[error("cannot listen on {at}")]
    Listen {
        /// Address or socket.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// A folder cannot be made.
    #[error("cannot make {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Threads or signals are not to be had.
    #[error("the system refuses a {what}")]
    System {
        /// Thread, signal or runtime.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    /// Whether starting the controller again would end in the same way.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::NoIdentity { .. }
                | Self::NotController
                | Self::LostLog { .. }
                | Self::Demoted
                | Self::Removed { .. }
                | Self::Superseded { .. }
        )
    }
}

/// Waits for an identity, when `wait`, then runs until a signal asks to stop.
pub async fn run(config: &Config, wait: bool) -> Result<(), RunError> {
    let mut stop = StopSignals::listen()?;
    let identity = tokio::select! {
        identity = identity(config, wait) => identity?,
        () = stop.received() => return Ok(()),
    };
    let (Role::Controller, Some(raft_id)) = (identity.role, identity.raft_id) else {
        return Err(RunError::NotController);
    };
    transport::install_crypto_provider();
    let tls = Tls::new(&identity.credentials())?;
    refuse_lost_log(config, raft_id)?;
    let (store, recovered) = tokio::select! {
        opened = open(config) => opened?,
        () = stop.received() => {
            remove_socket(config);
            return Ok(());
        }
    };
    let core = Core::new(core_config(config, raft_id, recovered))?;
    let queue = raft_thread::queue();
    let hub = Arc::new(Hub::new(config.knows()));
    hub.applied(Arc::new(core.state().clone()), Vec::new());
    let seeds = identity.controllers.clone();
    let peers = Peers::start(raft_id, &hub, queue.0.clone(), Arc::clone(&tls), seeds);
    let own = (identity.node_id, raft_id, identity.cluster_id.clone());
    let handle = queue.0.clone();
    let controller = Arc::new(Controller::new(
        own,
        handle.clone(),
        Arc::clone(&hub),
        Arc::clone(&tls),
        config.signing(),
        store.key(),
    ));
    // Listens before the core starts: a taken port must not disturb the cluster.
    let mut servers = serve(config, &controller, tls).await?;
    let thread = raft_thread::start(core, config.tick(), queue, store, peers, hub)
        .map_err(|source| RunError::System { what: "thread", source })?;
    see_to(&mut servers, &controller, config, &identity);
    let departed = departure::departed(&controller.hub, identity.node_id, raft_id);
    let departure = tokio::select! {
        departure = departed => Some(departure),
        () = stop.received() => None,
    };
    tracing::info!(?departure, "controller stops");
    handle.stop(HAND_OVER).await;
    let joined = tokio::task::spawn_blocking(move || thread.join());
    // A panic of the thread has stopped the process already.
    let _ = joined.await;
    tokio::time::sleep(FAREWELL).await;
    servers.shutdown().await;
    remove_socket(config);
    match departure {
        Some(departure) => Err(depart(config, &controller, &identity, departure)),
        None => Ok(()),
    }
}

/// Opens the disk, in a locked cluster once a person has unlocked it.
async fn open(config: &Config) -> Result<(DiskStore, Recovered), RunError> {
    let unlock = lock::unlocked(config).await?;
    let opened = DiskStore::open_unlocked(&config.raft_dir(), LOCK_PATIENCE, unlock.as_ref());
    Ok(opened?)
}

/// Starts what a running controller sees to by itself.
fn see_to(
    servers: &mut JoinSet<()>,
    controller: &Arc<Controller>,
    config: &Config,
    identity: &Identity,
) {
    tracing::info!(
        node = identity.node_id.0,
        raft_id = controller.raft_id.0,
        listen = %config.listen,
        "controller runs"
    );
    let (controller, own) = (|| Arc::clone(controller), identity.clone());
    servers.spawn(upkeep::keep_certificate(controller(), config.clone(), own));
    servers.spawn(authority::follow(controller()));
    servers.spawn(lock::follow(controller()));
    servers.spawn(upkeep::run(controller(), config.clone(), identity.clone()));
}

/// What a controller that is none any more leaves behind, and says at last.
fn depart(
    config: &Config,
    controller: &Controller,
    identity: &Identity,
    departure: Departure,
) -> RunError {
    let cluster = controller.hub.view().state.cluster.clone();
    match (departure, cluster) {
        (Departure::Removed, _) => {
            let state_dir = config.state_dir.clone();
            RunError::Removed { node: identity.node_id, state_dir }
        }
        (Departure::Demoted, Some(cluster)) => {
            let done = departure::become_agent(config, &cluster, identity);
            done.map_or_else(RunError::from, |()| RunError::Demoted)
        }
        (Departure::Superseded(by), Some(cluster)) => {
            let (own, command) = (cluster.incarnation, join_command(config));
            let kept = departure::put_aside(config, &cluster, identity);
            kept.map_or_else(RunError::from, |kept| RunError::Superseded { own, by, kept, command })
        }
        // It has not been let in: there is nothing to put in order.
        (Departure::Demoted | Departure::Superseded(_), None) => RunError::Demoted,
    }
}

/// A log that has gone has promised things that are forgotten now.
fn refuse_lost_log(config: &Config, raft_id: RaftId) -> Result<(), RunError> {
    let folder = config.raft_dir();
    if !setup::is_lost(&folder) {
        return Ok(());
    }
    Err(RunError::LostLog { folder, raft_id, command: join_command(config) })
}

/// How this host's controller is let in anew.
fn join_command(config: &Config) -> String {
    match &config.source {
        Some(file) => format!("swarm-controller --config {} join", file.display()),
        None => String::from("swarm-controller join"),
    }
}

pub(super) fn remove_socket(config: &Config) {
    let socket = config.socket();
    if let Err(error) = std::fs::remove_file(&socket) {
        tracing::debug!(socket = %socket.display(), %error, "could not remove the socket");
    }
}

async fn identity(config: &Config, wait: bool) -> Result<Identity, RunError> {
    let mut told = false;
    loop {
        if let Some(identity) = Identity::load(&config.state_dir)? {
            return Ok(identity);
        }
        if !wait {
            return Err(RunError::NoIdentity { folder: config.identity_dir() });
        }
        if !told {
            tracing::info!("waiting for `swarm-controller init` or `swarm-controller join`");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn core_config(config: &Config, raft_id: RaftId, recovered: Recovered) -> CoreConfig {
    let ticks = |number: u64| usize::try_from(number).expect("checked to be small");
    CoreConfig {
        seed: u64::from(std::process::id()),
        tick_ms: config.tick_ms,
        election_ticks: ticks(config.election_ticks),
        heartbeat_ticks: ticks(config.heartbeat_ticks),
        snapshot_every: config.snapshot_entries,
        knows: config.knows(),
        ..CoreConfig::new(raft_id, recovered)
    }
}

/// Opens TCP port and unix socket, and serves on both.
async fn serve(
    config: &Config,
    controller: &Arc<Controller>,
    tls: Arc<Tls>,
) -> Result<JoinSet<()>, RunError> {
    let listen = |at: String| move |source| RunError::Listen { at, source };
    let listener =
        TcpListener::bind(config.listen).await.map_err(listen(config.listen.to_string()))?;
    let folder = &config.run_dir;
    std::fs::create_dir_all(folder)
        .map_err(|source| RunError::Folder { path: folder.clone(), source })?;
    let socket = config.socket();
    let local = accept_unix(&socket).await.map_err(listen(socket.display().to_string()))?;

    let control = || ControlServer::new(ControlService(Arc::clone(controller)));
    let images = || ImagesServer::new(ImageService(Arc::clone(controller)));
    let agents = DispatcherServer::new(DispatcherService(Arc::clone(controller)))
        .max_decoding_message_size(MAX_MESSAGE);
    let raft =
        RaftServer::new(RaftService(Arc::clone(controller))).max_decoding_message_size(MAX_MESSAGE);
    let joining = JoinService::new(Arc::clone(controller));
    let hub = Arc::clone(&controller.hub);
    let members = Arc::new(move |call: &str, peer: &Peer| membership::check(&hub, call, peer));
    let connections = Arc::new(Connections::default());
    let remote = transport::guarded_server(members)
        .add_service(control())
        .add_service(agents)
        .add_service(images())
        .add_service(ImageIndexServer::new(ImageIndexService(Arc::clone(controller))))
        .add_service(raft)
        .add_service(JoinServer::new(joining))
        .serve_with_incoming(connections.accept(listener, tls));
    let local = transport::server()
        .add_service(control())
        .add_service(images())
        .add_service(LocalServer::new(LocalService(Arc::clone(controller))))
        .serve_with_incoming(local);
    let mut servers = JoinSet::new();
    servers.spawn(until_error("TCP port", remote));
    servers.spawn(until_error("socket", local));
    servers.spawn(membership::cut_removed(Arc::clone(&controller.hub), connections));
    Ok(servers)
}

pub(super) async fn until_error(
    what: &'static str,
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
) {
    if let Err(error) = server.await {
        super::fatal::die(&format_args!("serving on the {what} ended: {error}"));
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, RunError> {
        let failed = |source| RunError::System { what: "signal", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The request by which a controller tells that it is reached elsewhere now.
pub(super) fn address_wish(controller: &Controller, advertise: &str) -> Option<wire::AddressWish> {
    let address = address::with_port(advertise)?;
    let view = controller.hub.view();
    let known = view.state.nodes.get(&controller.node)?.controller_address.clone();
    (known.as_ref() != Some(&address)).then(|| wire::AddressWish {
        request_id: format!("address-{}-{}-{address}", controller.node, view.state.clock.0),
        node: controller.node.0,
        address,
    })
}
