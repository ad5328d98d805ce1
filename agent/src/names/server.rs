//! The sockets of one task: questions come in by UDP and TCP, answers go back.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use swarm_proto::id::NetworkId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::resolver::Resolver;
use super::zone::{self, Decision};

/// Questions of one task that wait for the host's resolvers at a time; more are refused.
const WAITING: usize = 256;
/// TCP connections of one task at a time; more wait.
const CONNECTIONS: usize = 64;
/// An idle TCP connection is closed.
const IDLE: Duration = Duration::from_secs(10);
/// What a client takes that does not say.
const PLAIN_DATAGRAM: u16 = 512;
/// More than this does not surely arrive in one piece.
const LARGEST_DATAGRAM: u16 = 4096;
const HEADER: usize = 12;

/// What the servers of one task share.
#[derive(Debug)]
struct Service {
    shared: Arc<Shared>,
    networks: Vec<NetworkId>,
    /// Asked in place of the host's.
    own: Option<Resolver>,
    waiting: Semaphore,
    turn: AtomicUsize,
}

/// Starts to serve. The servers end when the set is dropped.
pub(super) fn start(
    shared: &Arc<Shared>,
    networks: Vec<NetworkId>,
    own: Option<Resolver>,
    udp: StdUdpSocket,
    tcp: StdTcpListener,
) -> io::Result<JoinSet<()>> {
    let (udp, tcp) = (UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?);
    let service = Arc::new(Service {
        shared: Arc::clone(shared),
        networks,
        own,
        waiting: Semaphore::new(WAITING),
        turn: AtomicUsize::new(0),
    });
    let mut servers = JoinSet::new();
    servers.spawn(serve_udp(Arc::clone(&service), udp));
    servers.spawn(serve_tcp(service, tcp));
    Ok(servers)
}

async fn serve_udp(service: Arc<Service>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; usize::from(LARGEST_DATAGRAM)];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer that nobody waited for comes back as an error here.
                tracing::debug!("names socket: {error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        while forwarded.try_join_next().is_some() {}
        let question = &buffer[..length];
        match service.decide(question) {
            None => {}
            Some((Decision::Answer(reply), limit)) => {
                send(&socket, &zone::encode(reply, limit), client).await;
            }
            Some((Decision::Forward(otherwise), limit)) => {
                let (service, socket) = (Arc::clone(&service), Arc::clone(&socket));
                let question = question.to_vec();
                forwarded.spawn(async move {
                    let answer = service.forward(&question, otherwise, limit, false).await;
                    send(&socket, &answer, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!("names socket: {error}");
    }
}

async fn serve_tcp(service: Arc<Service>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                connections.spawn(async move {
                    // A connection that breaks or stays silent is the client's affair.
                    let _ = converse(&service, stream).await;
                });
            }
            Err(error) => {
                tracing::debug!("names socket: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn converse(service: &Service, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let limit = usize::from(u16::MAX);
        let answer = match service.decide(&question) {
            None => return Ok(()),
            Some((Decision::Answer(reply), _)) => zone::encode(reply, limit),
            Some((Decision::Forward(otherwise), _)) => {
                service.forward(&question, otherwise, limit, true).await
            }
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(answer);
        timeout(IDLE, stream.write_all(&bytes)).await??;
    }
}

impl Service {
    /// What to do with a datagram, and how much its sender can take. `None` for what is no question at all.
    fn decide(&self, bytes: &[u8]) -> Option<(Decision, usize)> {
        let question = match Message::from_vec(bytes) {
            Ok(question) if question.message_type() == MessageType::Query => question,
            Ok(_) => return None,
            Err(_) => return unreadable(bytes),
        };
        let extensions = question.extensions().as_ref();
        let size = extensions.map_or(PLAIN_DATAGRAM, Edns::max_payload);
        let limit = size.clamp(PLAIN_DATAGRAM, LARGEST_DATAGRAM);
        let zones = self.shared.zones(&self.networks);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Some((zone::answer(&question, &zones, turn), usize::from(limit)))
    }

    async fn forward(
        &self,
        question: &[u8],
        mut otherwise: Message,
        limit: usize,
        by_tcp: bool,
    ) -> Vec<u8> {
        let Ok(_permit) = self.waiting.try_acquire() else {
            otherwise.set_response_code(ResponseCode::ServFail);
            return zone::encode(otherwise, limit);
        };
        let resolver = self.own.as_ref().unwrap_or(&self.shared.resolver);
        match resolver.ask(question, by_tcp).await {
            Some(answer) => answer,
            None => zone::encode(otherwise, limit),
        }
    }
}

/// Tells the sender of something with a question's header that it could not be read.
fn unreadable(bytes: &[u8]) -> Option<(Decision, usize)> {
    const RESPONSE: u8 = 0x80;
    if bytes.len() < HEADER || bytes[2] & RESPONSE != 0 {
        return None;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    Some((Decision::Answer(reply), usize::from(PLAIN_DATAGRAM)))
}
