//! Resolvers asked on behalf of containers: the host's from its namespace, a task's own from that of the task.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::op::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use swarm_proto::spec::{Dns, NetworkMode};
use swarm_runtime::kernel::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// One resolver's time to answer; a client asks again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many resolvers are asked, as by the C library.
const RESOLVERS: usize = 3;
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// What `/etc/resolv.conf` says, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// The resolvers, in order.
    pub(super) resolvers: Vec<IpAddr>,
    /// The domains in which names are looked up.
    pub(super) search: Vec<String>,
    /// Options of the C library's resolver.
    options: Vec<String>,
}

impl ResolvConf {
    /// Reads a file. None, or one without resolvers, means that names of the outside are not known here.
    pub(super) fn read(path: &Path) -> Self {
        fs::read_to_string(path).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone (`fe80::1%eth0`) has no meaning for another program's socket.
                    found
                        .resolvers
                        .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last line of these wins.
                Some("search" | "domain") => {
                    found.search = words.filter(|w| *w != ".").map(str::to_owned).collect();
                }
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found.resolvers.truncate(RESOLVERS);
        found
    }

    /// The content of a container's own file. On networks of its own names are asked of us, first as they are
    /// (`ndots:0`), then within the search domains; we ask its resolvers on. Elsewhere it asks them itself.
    pub(super) fn for_container(self, network: NetworkMode, dns: &Dns) -> String {
        let of_host = if network == NetworkMode::None { Self::default() } else { self };
        let chosen = |own: &[String], host: Vec<String>| match own {
            [] => host,
            own => own.iter().filter(|word| *word != ".").cloned().collect(),
        };
        let servers = match (network, dns.servers.as_slice()) {
            (NetworkMode::Own, _) => vec![IpAddr::V4(crate::network::DNS_ADDRESS)],
            (_, []) => of_host.resolvers,
            (_, servers) => servers.to_vec(),
        };
        let mut options = chosen(&dns.options, of_host.options);
        if network == NetworkMode::Own {
            options.clone_from(&dns.options);
            if !options.iter().any(|option| option.starts_with("ndots:")) {
                options.insert(0, "ndots:0".to_owned());
            }
        }
        let mut text = String::new();
        for server in servers {
            text.extend(["nameserver ", &server.to_string(), "\n"]);
        }
        for (key, words) in [("search", chosen(&dns.search, of_host.search)), ("options", options)]
        {
            if !words.is_empty() {
                text.extend([key, " ", &words.join(" "), "\n"]);
            }
        }
        text
    }
}

/// Asks resolvers on behalf of containers.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Where they are asked from.
    namespace: Namespace,
    servers: Servers,
}

#[derive(Debug)]
enum Servers {
    /// Those of the file, which may change at any time.
    File(PathBuf),
    /// These.
    Fixed(Vec<IpAddr>),
}

impl Resolver {
    /// The host's own, as its file says.
    pub(super) fn new(host: Namespace, path: &Path) -> Self {
        Self { namespace: host, servers: Servers::File(path.to_owned()) }
    }

    /// Those that a task chose, asked from its own namespace: they may be on its networks.
    pub(super) fn of_task(namespace: Namespace, servers: Vec<IpAddr>) -> Self {
        Self { namespace, servers: Servers::Fixed(servers) }
    }

    fn servers(&self) -> Vec<IpAddr> {
        match &self.servers {
            Servers::File(path) => ResolvConf::read(path).resolvers,
            Servers::Fixed(servers) => servers.clone(),
        }
    }

    /// Passes a question on as it is, and returns the first answer. `None` when no resolver gave one.
    pub(super) async fn ask(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        for resolver in self.servers() {
            let resolver = SocketAddr::new(resolver, 53);
            let asked = async {
                if by_tcp {
                    self.ask_by_tcp(question, resolver).await
                } else {
                    self.ask_by_udp(question, resolver).await
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!("resolver {resolver}: {error}"),
                Err(_) => tracing::debug!("resolver {resolver} gave no answer in {PATIENCE:?}"),
            }
        }
        None
    }

    async fn ask_by_udp(&self, question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
        let socket = self
            .in_namespace(move || {
                let socket = StdUdpSocket::bind(any(resolver))?;
                socket.connect(resolver)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .await?;
        let socket = UdpSocket::from_std(socket)?;
        socket.send(question).await?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if answers(question, &buffer[..length]) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn ask_by_tcp(&self, question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
        // A socket belongs to the namespace in which it was made, so it is made there and connected here.
        let socket = self
            .in_namespace(move || {
                let family = match resolver {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = socket_with(family, SocketType::STREAM, flags, None)?;
                Ok(std::net::TcpStream::from(socket))
            })
            .await?;
        let mut stream = TcpSocket::from_std_stream(socket).connect(resolver).await?;
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(question).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        if !answers(question, &answer) {
            return Err(io::Error::other("the answer is to another question"));
        }
        Ok(answer)
    }

    async fn in_namespace<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let namespace = self.namespace.clone();
        let done = spawn_blocking(move || namespace.enter(work).map_err(io::Error::other)?).await;
        done.map_err(io::Error::other)?
    }
}

fn any(resolver: SocketAddr) -> SocketAddr {
    match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Whether `answer` answers just this question.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    let (Ok(question), Ok(answer)) = (Message::from_vec(question), Message::from_vec(answer))
    else {
        return false;
    };
    question.id() == answer.id() && question.queries() == answer.queries()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let text = "# made by hand\nnameserver 192.0.2.1\n nameserver 2001:db8::1\nnameserver fe80::1%eth0\n\
            nameserver 192.0.2.2\nnameserver 192.0.2.3\ndomain a.example\nsearch b.example c.example .\noptions rotate\n";
        let found = ResolvConf::parse(text);
        let addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.2"];
        assert_eq!(found.resolvers, addresses.map(|address| address.parse::<IpAddr>().unwrap()));
        assert_eq!(found.search, ["b.example", "c.example"]);
        assert_eq!(found.options, ["rotate"]);
        assert_eq!(ResolvConf::read(Path::new("/nowhere")), ResolvConf::default());
    }

    #[test]
    fn a_container_asks_us_or_whom_its_service_names() {
        let host =
            || ResolvConf::parse("nameserver 192.0.2.1\nsearch example.org\noptions rotate\n");
        let plain = Dns::default();
        let own = "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n";
        assert_eq!(host().for_container(NetworkMode::Own, &plain), own);
        let of_host = "nameserver 192.0.2.1\nsearch example.org\noptions rotate\n";
        assert_eq!(host().for_container(NetworkMode::Host, &plain), of_host);
        assert_eq!(host().for_container(NetworkMode::None, &plain), "");
        let chosen = Dns {
            servers: vec!["192.0.2.53".parse().unwrap()],
            search: vec![".".to_owned()],
            options: vec!["ndots:2".to_owned(), "timeout:1".to_owned()],
        };
        let own = "nameserver 127.0.0.11\noptions ndots:2 timeout:1\n";
        assert_eq!(host().for_container(NetworkMode::Own, &chosen), own);
        let direct = "nameserver 192.0.2.53\noptions ndots:2 timeout:1\n";
        assert_eq!(host().for_container(NetworkMode::Host, &chosen), direct);
        assert_eq!(host().for_container(NetworkMode::None, &chosen), direct);
        let options = Dns { options: vec!["rotate".to_owned()], ..plain };
        assert!(
            host().for_container(NetworkMode::Own, &options).contains("options ndots:0 rotate")
        );
    }
}
