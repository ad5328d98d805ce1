//! A host whose networks are really made, in namespaces of its own, from what a simulated node was told.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use prost::Message as _;
use swarm_agent::journal::{Journal, Record};
use swarm_agent::network::{NetworkConfig, Networks};
use swarm_proto::assignment::AssignmentDiff;
use swarm_proto::object::TaskState;
use swarm_proto::wire;
use swarm_runtime::kernel::netlink::{Address, Socket};
use swarm_runtime::kernel::{Namespace, namespace};
use swarm_tests::bench::{Outcome, folder};

/// See the module. All of it goes when this is dropped.
pub(crate) struct Connected {
    journal: Journal,
    networks: Networks,
    _places: Places,
}

/// Where the namespaces are kept.
struct Places(PathBuf);

impl Connected {
    /// A host with this address that has been told of nothing yet.
    pub(crate) async fn new(address: Ipv4Addr) -> Outcome<Self> {
        let folder = folder()?.join("scale-connected");
        let run_dir = folder.join("run");
        fs::create_dir_all(&run_dir)?;
        let places = Places(folder.clone());
        let host = host(&folder.join("host"), address)?;
        let resolv_conf = folder.join("resolv.conf");
        fs::write(&resolv_conf, "")?;
        let config = NetworkConfig { run_dir, underlay: address, host, resolv_conf };
        let networks = Networks::new(config).await?;
        let journal = folder.join("journal");
        fs::write(&journal, "")?;
        let journal = Journal::open(&journal)?;
        Ok(Self { journal, networks, _places: places })
    }

    /// Takes what a node was told, as it came over the wire, writes it down as an agent does (but does not wait for the
    /// disk), and makes its networks so.
    pub(crate) async fn take(&mut self, told: &[u8]) -> Outcome<()> {
        let told = wire::Assignments::decode(told)?;
        let diff = AssignmentDiff::try_from(told.diff.unwrap_or_default())?;
        let tasks = diff.tasks.into_iter().map(|task| Record::Task(Arc::new(task)));
        let whole = diff.networks.into_iter().map(|network| Record::Network(Arc::new(network)));
        let changed = diff.network_changes.into_iter().map(Record::NetworkChange);
        let records: Vec<Record> = whole.chain(changed).chain(tasks).collect();
        self.journal.append(&records)?;
        let applied = self.networks.apply(self.journal.contents().networks.clone()).await;
        applied.failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Connects all tasks that shall run.
    pub(crate) async fn attach_all(&self) -> Outcome<()> {
        let told = self.journal.contents();
        for task in told.tasks.values().filter(|task| task.desired <= TaskState::Running) {
            self.networks.attach(task, &told.networks).await?;
        }
        Ok(())
    }
}

/// A namespace for the host itself, whose one address is the loopback's.
fn host(path: &std::path::Path, address: Ipv4Addr) -> Outcome<Namespace> {
    namespace::create(path)?;
    let host = Namespace::open(path)?;
    let mut socket = Socket::open_in(&host)?;
    let link = socket.link("lo")?.index;
    socket.add_address(Address { link, address, prefix_length: 32 })?;
    socket.set_up(link, true)?;
    Ok(host)
}

impl Drop for Places {
    fn drop(&mut self) {
        for folder in [self.0.clone(), self.0.join("run/netns")] {
            for name in namespace::list(&folder).unwrap_or_default() {
                let path = folder.join(name);
                if namespace::is_namespace(&path).unwrap_or(false) {
                    // What cannot be removed is seen by whoever looks for it: the figures are right all the same.
                    let _ = namespace::delete(&path);
                }
            }
        }
    }
}
