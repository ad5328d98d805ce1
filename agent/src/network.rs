//! Networks of one host: makes them true from what a controller assigned, connects tasks to them, and undoes both.
//!
//! Each network lives in a namespace of its own (`net-<id>`) with a bridge, a VXLAN tunnel whose packets leave through
//! the host's namespace, and one port for each local task and for the host itself. Forwarding entries and neighbours
//! are given, never learned. A task's namespace (`task-<id>`) holds the packet rules that lead a service's virtual
//! address to its tasks; the host's hold those of published ports.
//!
//! Everything may be called twice and in any order. [`Networks::apply`] takes all networks that this host shall know.
//!
//! A service that may be at zero wakes on a connection, which waits until it leads somewhere (`hold`).
//!
//! Published ports answer on the host's `127.0.0.1` too. For that the kernel must route loopback addresses
//! (`route_localnet`), which is set on our own `sw<id>` links alone, never on a link to the outside; packets with
//! loopback addresses that come out of a network are dropped, and translation for `127.0.0.0/8` exists only for what
//! the host itself sends. So nothing on the host's loopback becomes reachable from elsewhere.

mod hold;
mod host;
mod hosts_file;
mod inspect;
mod led;
mod overlay;
mod rules;
mod task;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;

use swarm_proto::assignment::{NetworkAssignment, TaskAssignment};
use swarm_proto::id::{NetworkId, ServiceId, TaskId};
use swarm_proto::spec::NetworkMode;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::conntrack::{self, ConntrackError};
use swarm_runtime::kernel::namespace::NamespaceError;
use swarm_runtime::kernel::netlink::NetlinkError;
use swarm_runtime::kernel::nflog::NflogError;
use swarm_runtime::kernel::nft::NftError;
use swarm_runtime::kernel::packet::PacketError;
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::inspection::Difference;
use crate::names::Names;
use crate::sockets::{self, Waiting};
use hold::Hold;
use host::Host;
pub(crate) use rules::{DNS_ADDRESS, LINK_GROUP, TABLE};

/// Networks as a controller told them.
pub type AssignedNetworks = BTreeMap<NetworkId, Arc<NetworkAssignment>>;

/// Where networks are made, and over what.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Namespaces are kept in its folder `netns`: `/run/swarm`.
    pub run_dir: PathBuf,
    /// This host's address at which other hosts reach it; tunnels lead from it and to it.
    pub underlay: Ipv4Addr,
    /// The host's own network namespace: [`Namespace::current`] in production.
    pub host: Namespace,
    /// The host's resolver configuration, `/etc/resolv.conf`: where unknown names are asked for.
    pub resolv_conf: PathBuf,
}

/// A kernel request that failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// About a namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// About links, addresses, routes or neighbours.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// About packet rules.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// About tracked flows.
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
    /// About packets that rules tell of.
    #[error(transparent)]
    Nflog(#[from] NflogError),
    /// About packets that are sent again.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// About the sockets that answer names.
    #[error("could not open the sockets that answer names")]
    Sockets(#[source] std::io::Error),
    /// About a socket for a look at a task.
    #[error("could not open a socket")]
    Probe(#[source] std::io::Error),
}

/// Why a network or a task's connection to it does not stand.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A network could not be made or changed.
    #[error("could not set up network `{network}` on this host")]
    Network {
        /// Its full name.
        network: String,
        /// Why not.
        source: KernelError,
    },
    /// A network or what was left of it could not be removed.
    #[error("could not remove network {network} from this host")]
    Removal {
        /// Its identity.
        network: NetworkId,
        /// Why not.
        source: KernelError,
    },
    /// A task could not be connected or disconnected.
    #[error("could not change the networks of task {task}")]
    Task {
        /// Which.
        task: TaskId,
        /// Why not.
        source: KernelError,
    },
    /// A task could not be looked at from its own network.
    #[error("could not look at task {task} from its network")]
    Probe {
        /// Which.
        task: TaskId,
        /// Why not.
        source: KernelError,
    },
    /// The task's network is not among those that this host was told of.
    #[error("task {task} is on network {network}, of which this host has not been told")]
    UnknownNetwork {
        /// Which task.
        task: TaskId,
        /// Which network.
        network: NetworkId,
    },
    /// A port of the host can only lead to a task that has an address.
    #[error("task {task} publishes port {port} of its host but is on no network")]
    NoAddress {
        /// Which task.
        task: TaskId,
        /// Which port.
        port: u16,
    },
    /// The host's rules for published ports could not be set.
    #[error("could not set this host's packet rules for published ports")]
    HostRules(#[source] KernelError),
    /// The host has no link with the configured address.
    #[error("no link of this host has the address {address} (`advertise_address`)")]
    NoUnderlay {
        /// The configured address.
        address: Ipv4Addr,
    },
    /// The host's own namespace could not be worked with.
    #[error("could not work with this host's own network")]
    Host(#[source] KernelError),
}

/// What stands after [`Networks::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// The version of each network that is wholly in place: tunnels, virtual addresses, published ports and names.
    pub standing: BTreeMap<NetworkId, u64>,
    /// What could not be done. The next call tries again.
    pub failures: Vec<NetworkError>,
}

/// What a container needs to use its networks.
#[derive(Debug)]
pub struct TaskNetwork {
    /// The network namespace to start it in; `None` is the host's.
    pub namespace: Option<PathBuf>,
    /// Duplicates of the sockets (UDP, then TCP) at which its names are answered; none where nobody answers. Whoever keeps them across a restart
    /// of the agent gives them back to [`Networks::adopt`].
    pub dns_sockets: Vec<OwnedFd>,
    /// The content of its `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The lines of its `/etc/hosts`, except the one for its own host name, which belongs to `addresses[0]`.
    pub hosts: Vec<(IpAddr, String)>,
    /// Its addresses, in the order of its networks.
    pub addresses: Vec<Ipv4Addr>,
}

/// The networks of one host. Dropping it leaves them all in place; containers keep using them.
#[derive(Debug)]
pub struct Networks {
    host: Arc<Mutex<Host>>,
    /// The host's own namespace, and the folder of those of its tasks.
    spaces: (Namespace, PathBuf),
    healing: AbortHandle,
    hold: Arc<Hold>,
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.healing.abort();
    }
}

impl Networks {
    /// Starts with whatever an earlier agent left in place: call [`Networks::apply`], then [`Networks::adopt`] for each
    /// running container, then [`Networks::retain`]. Must be called within a tokio runtime.
    pub async fn new(config: NetworkConfig) -> Result<Self, NetworkError> {
        let names = Names::new(config.host.clone(), &config.resolv_conf);
        let namespace = config.host.clone();
        let spaces = (config.host.clone(), config.run_dir.join(host::NAMESPACES));
        let hold = Arc::<Hold>::default();
        let of_host = Arc::clone(&hold);
        let host = spawn_blocking(move || Host::open(config, names, of_host)).await;
        let host = host.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))?;
        let host = Arc::new(Mutex::new(host));
        let healing = watch::heal(&namespace, &host).map_err(NetworkError::Host)?;
        Ok(Self { host, spaces, healing, hold })
    }

    /// The services for which connections wait here: at once when one comes, and each second as long as some do. May be
    /// given up at any time.
    pub async fn demand(&self) -> BTreeSet<ServiceId> {
        self.hold.demand().await
    }

    /// How many connections and flows of datagrams came to a task since its rules were set; `None` where nobody counts.
    pub async fn arrivals(&self, task: TaskId) -> Result<Option<u64>, NetworkError> {
        self.blocking(move |host| host.arrivals(task)).await
    }

    /// How many that others began are open to a task; `None` where that cannot be told.
    pub async fn open_connections(&self, task: TaskId) -> Result<Option<u64>, NetworkError> {
        let Some((namespace, own)) = self.blocking(move |host| host.addresses(task)).await else {
            return Ok(None);
        };
        let count = move || conntrack::Socket::open_in(&namespace)?.count_open(&own);
        let counted = spawn_blocking(count).await;
        let counted = counted.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        counted.map(Some).map_err(|source| NetworkError::Task { task, source: source.into() })
    }

    /// Makes exactly these networks true on this host. One that is gone from the set goes when its last local task has
    /// been detached.
    pub async fn apply(&self, desired: AssignedNetworks) -> Applied {
        self.blocking(move |host| host.apply(desired)).await
    }

    /// Makes the task's namespace and connects it to its networks, which are set up from `networks` where they do not
    /// stand yet. The task's names are answered from here on.
    pub async fn attach(
        &self,
        task: &TaskAssignment,
        networks: &AssignedNetworks,
    ) -> Result<TaskNetwork, NetworkError> {
        self.adopt(task, networks, Vec::new()).await
    }

    /// As [`Networks::attach`] for a task whose container outlived the agent: `dns_sockets` are those of its
    /// [`TaskNetwork`], and what already stands stays untouched. Without sockets new ones are opened.
    pub async fn adopt(
        &self,
        task: &TaskAssignment,
        networks: &AssignedNetworks,
        dns_sockets: Vec<OwnedFd>,
    ) -> Result<TaskNetwork, NetworkError> {
        let of_task = |attachment: &swarm_proto::object::Attachment| {
            Some((attachment.network, Arc::clone(networks.get(&attachment.network)?)))
        };
        let networks = task.attachments.iter().filter_map(of_task).collect();
        let task = task.clone();
        self.blocking(move |host| host.attach(&task, &networks, dns_sockets)).await
    }

    /// A socket in the network of a task that is connected, for a look at it from there.
    pub async fn task_socket(&self, task: &TaskAssignment) -> Result<TcpSocket, NetworkError> {
        let (own, folder) = &self.spaces;
        let shares = task.container.sharing.network == NetworkMode::Host;
        let (own, path) = (own.clone(), task::path_in(folder, task.id));
        let made = spawn_blocking(move || -> Result<TcpSocket, KernelError> {
            let namespace = if shares { own } else { Namespace::open(&path)? };
            namespace.enter(TcpSocket::new_v4)?.map_err(KernelError::Probe)
        });
        let made = made.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        made.map_err(|source| NetworkError::Probe { task: task.id, source })
    }

    /// Whether anything in a task's network waits for what others send.
    pub async fn listens(&self, task: TaskId) -> Result<bool, NetworkError> {
        let path = task::path_in(&self.spaces.1, task);
        let read = spawn_blocking(move || -> Result<Vec<Waiting>, KernelError> {
            Namespace::open(&path)?.enter(sockets::read)?.map_err(KernelError::Probe)
        });
        let read = read.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        // Its names are answered on a loopback address, by this agent.
        let any = |sockets: Vec<Waiting>| sockets.iter().any(|one| !one.address.is_loopback());
        read.map(any).map_err(|source| NetworkError::Probe { task, source })
    }

    /// Disconnects a task and removes its namespace, also one that an earlier agent made. The container is gone.
    pub async fn detach(&self, task: TaskId) -> Result<(), NetworkError> {
        let path = self.blocking(move |host| host.release(task)).await?;
        let removed = spawn_blocking(move || task::remove(&path)).await;
        removed
            .unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
            .map_err(|source| NetworkError::Task { task, source })?;
        self.blocking(Host::tidy).await
    }

    /// Removes every namespace and link of a network or task that is not among these: what a crash left behind.
    /// Goes on after a failure and returns all of them.
    pub async fn retain(
        &self,
        networks: BTreeSet<NetworkId>,
        tasks: BTreeSet<TaskId>,
    ) -> Vec<NetworkError> {
        self.blocking(move |host| host.retain(&networks, &tasks)).await
    }

    /// Everything that is not as this host made it. Changes nothing.
    pub async fn differences(&self) -> Vec<Difference> {
        self.blocking(Host::differences).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Host) -> T + Send + 'static,
    ) -> T {
        // Waiting for one's turn holds no thread; only the turn itself does.
        let mut host = Arc::clone(&self.host).lock_owned().await;
        let done = spawn_blocking(move || work(&mut host)).await;
        done.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }
}

#[cfg(test)]
mod tests;
