//! `init` and `join` prepare identity and log so that `run` starts; `token` and `admin-bundle` let others in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::{Cluster, Incarnation, Role, Secret};
use swarm_proto::transport::{
    self, Authority, AuthorityError, ClientRole, ConnectError, Identity, IdentityError, JoinError,
    JoinToken, JoiningController, ParseTokenError, connect_unix, random_hex, random_number,
};
use swarm_proto::wire;
use swarm_proto::wire::local_client::LocalClient;
use tonic::Code;
use tonic::transport::Channel;

use super::address;
use super::disk::{DiskError, DiskStore, Store as _};
use super::local_service::join_tokens;
use super::networking::{Networking, NetworkingError};
use crate::config::Config;
use crate::core::{Core, CoreConfig, StartError, bootstrap_at};

/// How long `join` tries to reach a controller.
const JOIN_PATIENCE: Duration = Duration::from_secs(8);
const JOIN_PAUSE: Duration = Duration::from_millis(300);

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The host has an identity.
    #[error(
        "this host already belongs to cluster {cluster} as node {node}\n\nhint: to begin anew, stop its programs and remove {}",
        state_dir.display()
    )]
    AlreadyMember {
        /// Which cluster.
        cluster: String,
        /// As which node.
        node: NodeId,
        /// What holds the identity.
        state_dir: PathBuf,
    },
    /// There is a log without an identity.
    #[error(
        "{} holds a log, though this host belongs to no cluster\n\nhint: it is left of an interrupted init or join, or of a removed cluster: remove the folder",
        path.display()
    )]
    Leftover {
        /// The log's folder.
        path: PathBuf,
    },
    /// Nobody said where this host is reached.
    #[error(
        "nobody said at which address other hosts reach this one\n\nhint: give it: --advertise IP[:PORT]"
    )]
    NoAdvertise,
    /// The address is none.
    #[error(
        "`{given}` is not an address at which a host is reached\n\nhint: IP[:PORT], such as 10.0.0.1:2377"
    )]
    Address {
        /// What was given.
        given: String,
    },
    /// The cluster's networks cannot be made so.
    #[error(transparent)]
    Networking(#[from] NetworkingError),
    /// The token has the wrong form.
    #[error("{0}\n\nhint: see the right one with `swarm-controller token` on a controller's host")]
    Token(#[from] ParseTokenError),
    /// The token is for agents.
    #[error(
        "this token lets agents in, not controllers\n\nhint: use `swarm-agent join`, or the other token of `swarm-controller token`"
    )]
    AgentToken,
    /// Nobody said which cluster.
    #[error(
        "a host that belongs to no cluster needs a token and a controller to join\n\nhint: swarm-controller join --token TOKEN --advertise IP HOST[:PORT], as `swarm-controller token` on a controller's host prints it"
    )]
    NoToken,
    /// The host is an agent's.
    #[error(
        "this host is node {node} of its cluster, with only an agent: a token is needed to make it a controller\n\nhint: swarm-controller join --token TOKEN, as `swarm-controller token controller` on a controller's host prints it"
    )]
    NoPromotion {
        /// Which node.
        node: NodeId,
    },
    /// Joining failed.
    #[error("could not join by way of {address}{}", unreachable_hint(source))]
    Join {
        /// Which controller.
        address: String,
        /// Why.
        source: JoinError,
    },
    /// The controller on this host refused.
    #[error("the controller on this host refused: {0}")]
    Refused(String),
    /// Neither the controller on this host nor its log could be used.
    #[error("this host belongs to no cluster\n\nhint: run this on a controller's host")]
    NotMember,
    /// The log does not say what the cluster is.
    #[error(
        "this controller has not been let into the cluster yet\n\nhint: start it with `swarm-controller run`, and try again"
    )]
    NoCluster,
    /// Certificates could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The identity could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the disk holds cannot be used.
    #[error(transparent)]
    Core(#[from] StartError),
    /// The host's name cannot be read.
    #[error("cannot read this host's name")]
    Hostname(#[source] io::Error),
}

fn unreachable_hint(error: &JoinError) -> &'static str {
    match error {
        JoinError::Connect(_) => {
            "\n\nhint: see that a controller runs there, and that no firewall is between"
        }
        JoinError::OtherCluster { .. } => {
            "\n\nhint: the address or the token is of another cluster; see both with `swarm-controller token`"
        }
        _ => "",
    }
}

/// The tokens that let machines in, and where.
pub struct Tokens {
    /// For a controller.
    pub controller: String,
    /// For an agent.
    pub agent: String,
    /// `host:port` of a controller.
    pub address: String,
}

/// Makes a new cluster with this host as its first controller.
pub fn init(
    config: &Config,
    advertise: Option<&str>,
    networking: &Networking,
) -> Result<Tokens, SetupError> {
    networking.check()?;
    refuse_member(config)?;
    let address = advertised(config, advertise)?;
    let now = SystemTime::now();
    let id = random_hex::<16>()?;
    let authority = Authority::create(&id, now)?.with_life(config.signing().life);
    let node = NodeId(1);
    let made = authority.make_node(node, Role::Controller, now)?;
    let cluster = cluster(id.clone(), &authority, networking)?;
    let (controller, agent) = join_tokens(&cluster).map_err(SetupError::Refused)?;

    let (mut store, _) = DiskStore::open(&config.raft_dir())?;
    store.write(&[bootstrap_at(config.knows(), cluster, &hostname()?, &address, self::now())])?;
    // Its lock must be free before the identity tells `run` to start.
    drop(store);
    let identity = Identity {
        cluster_id: id,
        node_id: node,
        raft_id: Some(RaftId(1)),
        role: Role::Controller,
        controllers: vec![address.clone()],
        certificate_pem: made.certificate_pem,
        key_pem: made.key_pem,
        ca_pem: made.ca_pem,
    };
    identity.save(&config.state_dir)?;
    Ok(Tokens { controller: controller.to_string(), agent: agent.to_string(), address })
}

fn cluster(
    id: String,
    authority: &Authority,
    networking: &Networking,
) -> Result<Cluster, SetupError> {
    let certificate = authority.certificate_pem().to_owned();
    Ok(Cluster {
        controller_token: Secret::new(random_hex::<16>()?),
        agent_token: Secret::new(random_hex::<16>()?),
        address_pools: networking.address_pools.clone(),
        subnet_prefix_length: networking.subnet_prefix_length,
        vxlan_port: networking.vxlan_port,
        vni_base: networking.vni_base,
        incarnation: Incarnation::first(random_number()?),
        ..Cluster::new(id, certificate, authority.key_pem())
    })
}

/// Enters a cluster as a further controller. A host that is a member already becomes a controller as the node that it
/// is: an agent's with the controllers' token, and one whose log is lost without. Answers with the node's id.
pub async fn join(
    config: &Config,
    token: Option<&str>,
    controller: Option<&str>,
    advertise: Option<&str>,
) -> Result<NodeId, SetupError> {
    let former = former(config)?;
    let token: Option<JoinToken> = token.map(str::parse).transpose()?;
    let controllers = match (controller, &former) {
        (Some(controller), _) => {
            let given = || SetupError::Address { given: controller.to_owned() };
            vec![address::with_port(controller).ok_or_else(given)?]
        }
        (None, Some(former)) => former.controllers.clone(),
        (None, None) => return Err(SetupError::NoToken),
    };
    let (hostname, knows) = (hostname()?, config.knows());
    transport::install_crypto_provider();
    let identity = match (former, token) {
        (Some(former), token) => {
            if former.role == Role::Agent && token.is_none() {
                return Err(SetupError::NoPromotion { node: former.node_id });
            }
            let own = match advertised(config, advertise) {
                Err(SetupError::NoAdvertise) if former.role == Role::Controller => String::new(),
                own => own?,
            };
            let (former, token) = (&former, token.as_ref());
            ask(&controllers, async |address| {
                let own = JoiningController { address: &own, knows };
                transport::join_again(former, address, token, &hostname, own).await
            })
            .await?
        }
        (None, Some(token)) => {
            let own = advertised(config, advertise)?;
            ask(&controllers, async |address| {
                let own = JoiningController { address: &own, knows };
                transport::join(address, &token, &hostname, Some(own)).await
            })
            .await?
        }
        (None, None) => return Err(SetupError::NoToken),
    };
    if identity.role != Role::Controller {
        return Err(SetupError::AgentToken);
    }
    drop(DiskStore::open(&config.raft_dir())?);
    identity.save(&config.state_dir)?;
    Ok(identity.node_id)
}

/// Asks the controllers in turn, and again for a while where that may help.
async fn ask(
    controllers: &[String],
    join: impl AsyncFn(&str) -> Result<Identity, JoinError>,
) -> Result<Identity, SetupError> {
    let patience = Instant::now() + JOIN_PATIENCE;
    loop {
        let mut last = None;
        for controller in controllers {
            match join(controller).await {
                Ok(identity) => return Ok(identity),
                Err(error) if may_pass(&error) => {
                    tracing::debug!(%error, "trying again");
                    last = Some((controller, error));
                }
                Err(source) => {
                    return Err(SetupError::Join { address: controller.clone(), source });
                }
            }
        }
        let (address, source) = last.ok_or(SetupError::NoToken)?;
        if Instant::now() >= patience {
            return Err(SetupError::Join { address: address.clone(), source });
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

/// The identity of a host that is a member and has no log: an agent's, or a controller's whose log is lost.
fn former(config: &Config) -> Result<Option<Identity>, SetupError> {
    match Identity::load(&config.state_dir)? {
        Some(identity) if is_lost(&config.raft_dir()) => Ok(Some(identity)),
        _ => refuse_member(config).map(|()| None),
    }
}

/// Whether there is no log where one belongs: its folder is absent or empty.
pub fn is_lost(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut content| content.next().is_none())
}

/// Whether it may be better in a moment.
fn may_pass(error: &JoinError) -> bool {
    match error {
        JoinError::Connect(error) => {
            matches!(error, ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. })
        }
        JoinError::Refused(status) => status.code() == Code::Unavailable,
        _ => false,
    }
}

/// This host's clock.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn refuse_member(config: &Config) -> Result<(), SetupError> {
    if let Some(identity) = Identity::load(&config.state_dir)? {
        return Err(SetupError::AlreadyMember {
            cluster: identity.cluster_id,
            node: identity.node_id,
            state_dir: config.state_dir.clone(),
        });
    }
    let path = config.raft_dir();
    if path.exists() { Err(SetupError::Leftover { path }) } else { Ok(()) }
}

pub(super) fn advertised(config: &Config, given: Option<&str>) -> Result<String, SetupError> {
    let given = given.or(config.advertise.as_deref()).ok_or(SetupError::NoAdvertise)?;
    let whole = if given.contains(':') {
        given.to_owned()
    } else {
        format!("{given}:{}", config.listen.port())
    };
    address::with_port(&whole)
        .filter(|address| address::is_reachable(address))
        .ok_or_else(|| SetupError::Address { given: given.to_owned() })
}

pub(super) fn hostname() -> Result<String, SetupError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    Ok(name.map_err(SetupError::Hostname)?.trim().to_owned())
}

/// The tokens, from the controller that runs on this host, else from its log.
pub async fn tokens(config: &Config) -> Result<Tokens, SetupError> {
    match source(config).await? {
        Source::Running(mut local) => {
            let asked = local.get_join_tokens(wire::GetJoinTokensRequest {});
            let tokens = asked.await.map_err(|status| refused(&status))?.into_inner();
            Ok(Tokens {
                controller: tokens.controller_token.clone(),
                agent: tokens.agent_token.clone(),
                address: tokens.controllers.first().cloned().unwrap_or_default(),
            })
        }
        Source::Stored(cluster, address) => {
            let (controller, agent) = join_tokens(&cluster).map_err(SetupError::Refused)?;
            Ok(Tokens { controller: controller.to_string(), agent: agent.to_string(), address })
        }
    }
}

/// A new certificate with key and root, PEM, for a person with swarmctl.
pub async fn admin_bundle(
    config: &Config,
    name: &str,
    role: ClientRole,
) -> Result<Secret, SetupError> {
    match source(config).await? {
        Source::Running(mut local) => {
            let request =
                wire::CreateClientBundleRequest { name: name.to_owned(), role: role.to_string() };
            let asked = local.create_client_bundle(request);
            let mut bundle = asked.await.map_err(|status| refused(&status))?.into_inner();
            Ok(Secret::new(std::mem::take(&mut bundle.pem)))
        }
        Source::Stored(cluster, _) => {
            let authority = Authority::of(&cluster)?.with_life(config.signing().life);
            Ok(authority.make_client(name, role, SystemTime::now())?.to_bundle())
        }
    }
}

/// Who knows the cluster's secrets on this host.
enum Source {
    /// The controller that runs.
    Running(LocalClient<Channel>),
    /// The log of one that does not run, with its own address.
    Stored(Arc<Cluster>, String),
}

async fn source(config: &Config) -> Result<Source, SetupError> {
    let patience = Instant::now() + JOIN_PATIENCE;
    loop {
        if let Ok(channel) = connect_unix(&config.socket()).await {
            return Ok(Source::Running(LocalClient::new(channel)));
        }
        match stored_cluster(config) {
            // A controller that is just starting, or stopping.
            Err(SetupError::Disk(DiskError::Locked { .. })) if Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stored => {
                let (cluster, address) = stored?;
                return Ok(Source::Stored(cluster, address));
            }
        }
    }
}

fn refused(status: &tonic::Status) -> SetupError {
    SetupError::Refused(status.message().to_owned())
}

/// What the log of a controller that does not run says of the cluster.
fn stored_cluster(config: &Config) -> Result<(Arc<Cluster>, String), SetupError> {
    let identity = Identity::load(&config.state_dir)?.ok_or(SetupError::NotMember)?;
    let raft_id = identity.raft_id.ok_or(SetupError::NotMember)?;
    let (_store, recovered) = DiskStore::open_existing(&config.raft_dir(), Duration::ZERO)?;
    let core = Core::new(CoreConfig::new(raft_id, recovered))?;
    let cluster = core.state().cluster.clone().ok_or(SetupError::NoCluster)?;
    let addresses = core.state().controllers();
    let own = addresses.into_iter().find(|(member, ..)| *member == raft_id);
    Ok((cluster, own.map(|(.., address)| address).unwrap_or_default()))
}
