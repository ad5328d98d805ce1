//! The host's resolvers, asked from the host's namespace on behalf of containers.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::op::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
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
                _ => {}
            }
        }
        found.resolvers.truncate(RESOLVERS);
        found
    }
}

/// Asks the host's resolvers.
#[derive(Debug)]
pub(super) struct Resolver {
    host: Namespace,
    path: PathBuf,
}

impl Resolver {
    pub(super) fn new(host: Namespace, path: &Path) -> Self {
        Self { host, path: path.to_owned() }
    }

    /// Passes a question on as it is, and returns the first answer. `None` when no resolver gave one.
    pub(super) async fn ask(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        for resolver in ResolvConf::read(&self.path).resolvers {
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
            .in_host(move || {
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
            .in_host(move || {
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

    async fn in_host<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let host = self.host.clone();
        let done = spawn_blocking(move || host.enter(work).map_err(io::Error::other)?).await;
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
        assert_eq!(ResolvConf::read(Path::new("/nowhere")), ResolvConf::default());
    }
}
