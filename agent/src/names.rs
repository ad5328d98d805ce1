//! Names in containers: answers what asks `127.0.0.11:53` inside a task's namespace.
//!
//! Services, `tasks.<service>`, aliases and task names of the task's networks are answered from what the controller
//! sent; everything else is asked of the host's own resolvers, from the host's namespace. The sockets are bound inside
//! each task's namespace and all served here.

mod resolver;
mod server;
mod zone;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use imbl::OrdMap;
use swarm_proto::id::{NetworkId, TaskId};
use swarm_proto::spec::{Dns, NetworkMode};
use swarm_runtime::kernel::Namespace;
use tokio::task::JoinSet;

use resolver::{ResolvConf, Resolver};
use zone::Zone;

/// The names of all networks of a host, and the tasks that may ask for them.
#[derive(Debug)]
pub struct Names {
    shared: Arc<Shared>,
    resolv_conf: PathBuf,
    tasks: Mutex<BTreeMap<TaskId, JoinSet<()>>>,
}

#[derive(Debug)]
struct Shared {
    zones: RwLock<BTreeMap<NetworkId, Arc<Zone>>>,
    resolver: Resolver,
}

impl Shared {
    /// The zones of these networks, in their order; one that is not known yet has no names.
    fn zones(&self, networks: &[NetworkId]) -> Vec<Arc<Zone>> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        networks.iter().filter_map(|network| zones.get(network).cloned()).collect()
    }
}

impl Names {
    /// Serves nobody yet. `host` is where the resolvers of `resolv_conf` are asked from; the file is read anew as it
    /// changes.
    pub fn new(host: Namespace, resolv_conf: &Path) -> Self {
        let resolver = Resolver::new(host, resolv_conf);
        let shared = Arc::new(Shared { zones: RwLock::default(), resolver });
        Self { shared, resolv_conf: resolv_conf.to_owned(), tasks: Mutex::default() }
    }

    /// Replaces the names of a network, as a controller sends them; `outward` is false for an internal one.
    pub fn set_names(
        &self,
        network: NetworkId,
        names: &OrdMap<String, Vec<Ipv4Addr>>,
        outward: bool,
    ) {
        let mut zones = self.shared.zones.write().unwrap_or_else(PoisonError::into_inner);
        let known = zones.entry(network).or_default();
        *known = Arc::new(known.with(names, outward));
    }

    /// Forgets the names of a network.
    pub fn remove_zone(&self, network: NetworkId) {
        let mut zones = self.shared.zones.write().unwrap_or_else(PoisonError::into_inner);
        zones.remove(&network);
    }

    /// Starts to answer at a task's sockets, which are bound inside its namespace and do not block. A task that is
    /// already served goes on as it is. `outside` are resolvers of its own, asked from its namespace instead of the
    /// host's. Must be called within a tokio runtime.
    pub fn serve(
        &self,
        task: TaskId,
        networks: Vec<NetworkId>,
        outside: Option<(Namespace, Vec<IpAddr>)>,
        udp: UdpSocket,
        tcp: TcpListener,
    ) -> io::Result<()> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = tasks.entry(task) {
            let own = outside.map(|(namespace, servers)| Resolver::of_task(namespace, servers));
            place.insert(server::start(&self.shared, networks, own, udp, tcp)?);
        }
        Ok(())
    }

    /// Stops to answer a task.
    pub fn stop(&self, task: TaskId) {
        // Dropping the set ends its servers.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }

    /// The content of a container's `/etc/resolv.conf`, with what its service says over what the host does.
    pub fn container_resolv_conf(&self, network: NetworkMode, dns: &Dns) -> String {
        resolv_conf(&self.resolv_conf, network, dns)
    }
}

/// The same from a host's own file.
pub(crate) fn resolv_conf(of_host: &Path, network: NetworkMode, dns: &Dns) -> String {
    ResolvConf::read(of_host).for_container(network, dns)
}
