//! Hosts, containers and the programs in them, for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use swarm_proto::assignment::{
    NetworkAssignment, NetworkIngress, NetworkPeer, NetworkVip, TaskAssignment,
};
use swarm_proto::id::{NetworkId, ServiceId, Slot, TaskId};
use swarm_proto::object::{AllocatedPort, Attachment, TaskState};
use swarm_proto::spec::{ContainerSpec, ImageSpec, PortMode, Protocol, RestartPolicy};
use swarm_runtime::kernel::netlink::{Address, LinkKind, NewLink, Socket};
use swarm_runtime::kernel::{Namespace, namespace};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::network::{NetworkConfig, Networks};

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A segment with hosts `192.0.2.1`, `.2`, … and one machine outside of the cluster, `192.0.2.200`.
pub(super) struct Lab {
    folder: tempfile::TempDir,
    switch: Namespace,
    pub(super) hosts: Vec<Host>,
    pub(super) outside: Namespace,
    pub(super) programs: JoinSet<()>,
}

pub(super) struct Host {
    pub(super) namespace: Namespace,
    pub(super) address: Ipv4Addr,
    pub(super) run_dir: PathBuf,
    pub(super) resolv_conf: PathBuf,
    pub(super) networks: Option<Networks>,
}

impl Lab {
    pub(super) async fn new(count: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let switch = make(folder.path(), "switch");
        let mut socket = Socket::open_in(&switch).unwrap();
        socket.add_link(&NewLink { up: true, ..NewLink::new("br0", LinkKind::Bridge) }).unwrap();
        let off = |name: &str| switch.write_sysctl(name, "0");
        // Present where the machine's kernel filters bridges; then a new namespace does by default.
        let _ = off("net/bridge/bridge-nf-call-iptables");
        let mut lab = Self {
            outside: plug(folder.path(), &switch, "outside", 200),
            folder,
            switch,
            hosts: Vec::new(),
            programs: JoinSet::new(),
        };
        for number in 1..=count {
            lab.add_host(number).await;
        }
        lab
    }

    async fn add_host(&mut self, number: u8) {
        let name = format!("host{number}");
        let namespace = plug(self.folder.path(), &self.switch, &name, number);
        let run_dir = self.folder.path().join(format!("run{number}"));
        fs::create_dir_all(&run_dir).unwrap();
        let resolv_conf = run_dir.join("resolv.conf");
        fs::write(&resolv_conf, "search example.org\n").unwrap();
        let address = Ipv4Addr::new(192, 0, 2, number);
        let mut host = Host { namespace, address, run_dir, resolv_conf, networks: None };
        host.start().await;
        self.hosts.push(host);
    }

    /// A program in a namespace that answers each line with its name.
    pub(super) fn echo(&mut self, place: &Namespace, port: u16, name: &str) {
        let listener = place.enter(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let name = name.to_owned();
        self.programs.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let name = name.clone();
                clients.spawn(async move {
                    let mut stream = tokio::io::BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                        let reply = format!("{name} {}\n", peer.ip());
                        if stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                        line.clear();
                    }
                });
            }
        });
    }

    /// The same by UDP.
    pub(super) fn echo_udp(&mut self, place: &Namespace, port: u16, name: &str) {
        let socket = place.enter(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
        let name = name.to_owned();
        self.programs.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (_, peer) = socket.recv_from(&mut buffer).await.unwrap();
                socket.send_to(name.as_bytes(), peer).await.unwrap();
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.programs.abort_all();
        for folder in [self.folder.path().to_owned()]
            .into_iter()
            .chain(self.hosts.iter().map(|host| host.run_dir.join("netns")))
        {
            for name in namespace::list(&folder).unwrap_or_default() {
                let path = folder.join(name);
                if namespace::is_namespace(&path).unwrap_or(false) {
                    let _ = namespace::delete(&path);
                }
            }
        }
    }
}

impl Host {
    pub(super) async fn start(&mut self) {
        let config = NetworkConfig {
            run_dir: self.run_dir.clone(),
            underlay: self.address,
            host: self.namespace.clone(),
            resolv_conf: self.resolv_conf.clone(),
        };
        self.networks = Some(Networks::new(config).await.unwrap());
    }

    pub(super) fn networks(&self) -> &Networks {
        self.networks.as_ref().unwrap()
    }

    /// Runs a program in the host's namespace, to look or to disturb.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> String {
        let run = || Command::new(program).args(arguments).output().unwrap();
        let output = self.namespace.enter(run).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) async fn apply(&self, networks: &[NetworkAssignment]) {
        let desired: BTreeMap<_, _> =
            networks.iter().map(|n| (n.id, Arc::new(n.clone()))).collect();
        let versions: BTreeMap<_, _> = networks.iter().map(|n| (n.id, n.version)).collect();
        let applied = self.networks().apply(desired).await;
        assert!(applied.failures.is_empty(), "{:?}", applied.failures);
        assert_eq!(applied.standing, versions);
    }

    /// Connects a task and returns its namespace.
    pub(super) async fn attach(
        &self,
        task: &TaskAssignment,
        networks: &[NetworkAssignment],
    ) -> Namespace {
        let networks = networks.iter().map(|n| (n.id, Arc::new(n.clone()))).collect();
        let attached = self.networks().attach(task, &networks).await.unwrap();
        Namespace::open(&attached.namespace.unwrap()).unwrap()
    }

    /// Removes everything and asserts that no trace is left.
    pub(super) async fn remove_all(&self) {
        assert!(self.networks().apply(BTreeMap::new()).await.failures.is_empty());
        let failures = self.networks().retain(BTreeSet::new(), BTreeSet::new()).await;
        assert!(failures.is_empty(), "{failures:?}");
        self.assert_clean();
    }

    pub(super) fn assert_clean(&self) {
        let mut socket = Socket::open_in(&self.namespace).unwrap();
        let links: Vec<_> = socket.links().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(links, ["lo", "eth0"]);
        assert_eq!(self.run("nft", &["list", "ruleset"]), "");
        assert_eq!(socket.routes().unwrap().len(), 1, "only the segment's own");
        assert_eq!(socket.rules().unwrap().len(), 3, "only the kernel's own");
        assert!(namespace::list(&self.run_dir.join("netns")).unwrap().is_empty());
    }
}

fn make(folder: &Path, name: &str) -> Namespace {
    let path = folder.join(name);
    namespace::create(&path).unwrap();
    Namespace::open(&path).unwrap()
}

/// Makes a machine on the segment.
fn plug(folder: &Path, switch: &Namespace, name: &str, number: u8) -> Namespace {
    let place = make(folder, name);
    let mut socket = Socket::open_in(switch).unwrap();
    let bridge = socket.link("br0").unwrap().index;
    let peer = NewLink { namespace: Some(&place), ..NewLink::peer("eth0") };
    let kind = LinkKind::Veth { peer: &peer };
    let port = format!("p{number}");
    let link = NewLink { master: Some(bridge), up: true, ..NewLink::new(&port, kind) };
    socket.add_link(&link).unwrap();
    let mut socket = Socket::open_in(&place).unwrap();
    let link = socket.link("eth0").unwrap().index;
    let address = Ipv4Addr::new(192, 0, 2, number);
    socket.add_address(Address { link, address, prefix_length: 24 }).unwrap();
    socket.set_up(link, true).unwrap();
    let loopback = socket.link("lo").unwrap().index;
    socket.set_up(loopback, true).unwrap();
    place
}

/// Opens a connection from a namespace.
pub(super) fn connect(from: &Namespace, to: (Ipv4Addr, u16)) -> io::Result<TcpStream> {
    let to = SocketAddr::from(to);
    let stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a line and returns the answer's words: who answered, and whom it saw.
pub(super) fn say(stream: &TcpStream) -> io::Result<(String, Ipv4Addr)> {
    (&*stream).write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let (name, seen) = line.trim().split_once(' ').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((name.to_owned(), seen.parse().map_err(io::Error::other)?))
}

/// One connection, one line.
pub(super) fn ask(from: &Namespace, to: (Ipv4Addr, u16)) -> io::Result<(String, Ipv4Addr)> {
    say(&connect(from, to)?)
}

/// Whose answers come in so many connections.
pub(super) fn ask_often(from: &Namespace, to: (Ipv4Addr, u16), times: usize) -> BTreeSet<String> {
    (0..times).map(|_| ask(from, to).unwrap().0).collect()
}

/// A connection is refused at once, not left to time out.
pub(super) fn assert_refused(from: &Namespace, to: (Ipv4Addr, u16)) {
    let error = ask(from, to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

/// Nothing answers within a short time.
pub(super) fn assert_silent(from: &Namespace, to: (Ipv4Addr, u16)) {
    let short = Duration::from_millis(300);
    let to = SocketAddr::from(to);
    let error = from.enter(|| TcpStream::connect_timeout(&to, short)).unwrap().unwrap_err();
    let unreachable = [io::ErrorKind::TimedOut, io::ErrorKind::NetworkUnreachable];
    assert!(unreachable.contains(&error.kind()), "{error}");
}

pub(super) fn ask_udp(from: &UdpSocket) -> io::Result<String> {
    from.set_read_timeout(Some(Duration::from_millis(500)))?;
    from.send(b"hello")?;
    let mut buffer = [0; 64];
    let length = from.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Repeats until it holds; fails after [`PATIENCE`].
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Asks for a name as a container does.
pub(super) async fn resolve(from: &Namespace, name: &str) -> Vec<String> {
    let reply = query(from, name, RecordType::A).await;
    reply.answers().iter().map(|record| record.data().to_string()).collect()
}

pub(super) async fn query(from: &Namespace, name: &str, kind: RecordType) -> Message {
    let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let question = question(name, kind);
    socket.send_to(&question, "127.0.0.11:53").await.unwrap();
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (length, sender) = received.expect("an answer in time").unwrap();
    assert_eq!(sender.to_string(), "127.0.0.11:53");
    Message::from_vec(&buffer[..length]).unwrap()
}

pub(super) fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new();
    message.set_id(99).set_recursion_desired(true);
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Describes networks as a controller would, for the host that `for_host` asks about.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) internal: bool,
    /// Task number to host number.
    pub(super) tasks: BTreeMap<u8, u8>,
    pub(super) vips: Vec<(u8, Vec<u8>)>,
    pub(super) ports: Vec<(AllocatedPort, Vec<u8>)>,
    pub(super) names: Vec<(&'static str, Vec<u8>)>,
    pub(super) hosts: u8,
    /// Whom connections wake.
    pub(super) wakes: Option<ServiceId>,
}

impl Plan {
    pub(super) fn new(id: u64, hosts: u8, tasks: &[(u8, u8)]) -> Self {
        let tasks = tasks.iter().copied().collect();
        let (vips, ports, names) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, version: 1, internal: false, tasks, vips, ports, names, hosts, wakes: None }
    }

    pub(super) fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 50, u8::try_from(self.id).unwrap(), last)
    }

    fn mac(&self, last: u8) -> [u8; 6] {
        [0x02, 0x42, 0, 0, u8::try_from(self.id).unwrap(), last]
    }

    fn addresses(&self, numbers: &[u8]) -> Vec<Ipv4Addr> {
        numbers.iter().map(|number| self.address(*number)).collect()
    }

    pub(super) fn for_host(&self, host: u8) -> NetworkAssignment {
        let on = |number: u8| Ipv4Addr::new(192, 0, 2, number);
        let gateways = (1..=self.hosts).map(|host| (host, host));
        let tasks = self.tasks.iter().map(|(task, host)| (*task, *host));
        let peer = |(last, host)| NetworkPeer {
            address: self.address(last),
            mac: self.mac(last),
            host: on(host),
        };
        NetworkAssignment {
            id: NetworkId(self.id),
            name: format!("test_{}", self.id),
            version: self.version,
            vni: 0x0010_0000 + u32::try_from(self.id).unwrap(),
            vxlan_port: 4789,
            subnet: self.address(0),
            prefix_length: 24,
            internal: self.internal,
            gateway: Some((self.address(host), self.mac(host))),
            peers: gateways.chain(tasks).map(peer).collect(),
            names: self
                .names
                .iter()
                .map(|(name, numbers)| ((*name).to_owned(), self.addresses(numbers)))
                .collect(),
            vips: self
                .vips
                .iter()
                .map(|(vip, backends)| NetworkVip {
                    at: self.address(*vip),
                    backends: self.addresses(backends),
                    wakes: self.wakes,
                })
                .collect(),
            ingress: self
                .ports
                .iter()
                .map(|(port, backends)| NetworkIngress {
                    at: *port,
                    backends: self.addresses(backends),
                    wakes: self.wakes,
                })
                .collect(),
        }
        .sorted()
    }

    pub(super) fn task(&self, number: u8) -> TaskAssignment {
        let attachment = Attachment {
            network: NetworkId(self.id),
            address: self.address(number),
            mac: self.mac(number),
        };
        task(u64::from(number) + 100 * self.id, vec![attachment])
    }
}

pub(super) fn port(published: u16, target: u16, host_address: Option<Ipv4Addr>) -> AllocatedPort {
    let (protocol, mode) = (Protocol::Tcp, PortMode::Ingress);
    AllocatedPort { published, target, protocol, mode, host_address }
}

pub(super) fn task(service: u64, attachments: Vec<Attachment>) -> TaskAssignment {
    TaskAssignment {
        id: TaskId { service: ServiceId(service), slot: Slot::Replica(1), generation: 1 },
        name: format!("test_service{service}.1"),
        stack: "test".to_owned(),
        service: format!("test_service{service}"),
        desired: TaskState::Running,
        start_after: None,
        container: container(),
        attachments,
        volumes: BTreeMap::new(),
        host_ports: Vec::new(),
        restart: RestartPolicy::default(),
        withdrawal: None,
        lease: None,
        measure: None,
        resources: BTreeMap::new(),
    }
}

fn container() -> ContainerSpec {
    ContainerSpec {
        extra_hosts: BTreeMap::from([("printer".to_owned(), Ipv4Addr::new(192, 0, 2, 7))]),
        ..ContainerSpec::new(ImageSpec::new("docker.io/library/none:latest"))
    }
}
