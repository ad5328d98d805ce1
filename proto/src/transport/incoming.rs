//! Accepted connections, each with what is known of its peer, for tonic's `serve_with_incoming`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::{AlertDescription, CertificateError, Error as TlsFailure};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::connections::{Connections, Cut};
use super::{Peer, PeerInfo, Tls};

/// Handshakes under way at once; further connections wait in the listener's queue.
const HANDSHAKES: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Accepted connections that the server has not taken yet.
const ACCEPTED: usize = 16;
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const OTHER_CLUSTER: &str = "its certificate is of another cluster";

/// A connection and what is known of its other end.
#[derive(Debug)]
pub struct PeerStream<S> {
    stream: S,
    info: PeerInfo,
    cut: Cut,
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.is_cut(context) {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Accepts TLS connections until the returned stream is dropped; see [`Connections::accept`].
pub fn accept_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
) -> ReceiverStream<io::Result<PeerStream<TlsStream<TcpStream>>>> {
    accept_into(listener, tls, Arc::new(Connections::default()))
}

pub(super) fn accept_into(
    listener: TcpListener,
    tls: Arc<Tls>,
    connections: Arc<Connections>,
) -> ReceiverStream<io::Result<PeerStream<TlsStream<TcpStream>>>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let mut roots = tls.roots();
        loop {
            let accept = async {
                let permit = Arc::clone(&handshakes).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = sender.closed() => return,
                () = tls.roots_changed(&roots) => {
                    roots = tls.roots();
                    connections.cut_untrusted(&tls);
                    continue;
                }
                accepted = accept => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, sender, connections) =
                (Arc::clone(&tls), sender.clone(), Arc::clone(&connections));
            tokio::spawn(async move {
                let secure = secure(stream, remote, &tls, &connections);
                let secured = timeout(HANDSHAKE_TIMEOUT, secure).await;
                drop(permit);
                match secured {
                    // An error means that the server has stopped: the connection closes.
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => log_failure(remote, &error),
                    Err(_) => debug!(%remote, "a handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// What an operator should know of a handshake that failed. Port scanners and cut connections are nobody's concern.
fn log_failure(remote: SocketAddr, error: &io::Error) {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFailure>());
    let why = match cause {
        Some(TlsFailure::InvalidCertificate(reason)) => match reason {
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: a clock is wrong"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => OTHER_CLUSTER,
            _ => "its certificate cannot be used",
        },
        Some(TlsFailure::AlertReceived(AlertDescription::CertificateExpired)) => {
            "it takes this host's certificate for expired, or a clock is wrong"
        }
        Some(TlsFailure::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate,
        )) => "it takes this host for one of another cluster",
        None if error.to_string() == OTHER_CLUSTER => OTHER_CLUSTER,
        _ => return debug!(%remote, %error, "a handshake failed"),
    };
    warn!(%remote, why, "refused a connection");
}

async fn secure(
    stream: TcpStream,
    remote: SocketAddr,
    tls: &Tls,
    connections: &Connections,
) -> io::Result<PeerStream<TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let roots = tls.roots();
    let stream = tls.acceptor().accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = match certificates.first() {
        None => None,
        Some(certificate) => {
            let ours = Peer::of_certificate(certificate)
                .filter(|peer| Some(&peer.cluster_id) == tls.cluster_id().as_ref());
            Some(ours.ok_or_else(|| io::Error::other(OTHER_CLUSTER))?)
        }
    };
    let until = peer.as_ref().and_then(|peer| peer.valid_until);
    let expired = until.is_some_and(|until| until < SystemTime::now());
    let cut = match &peer {
        None => Cut::never(),
        Some(peer) => connections.remember(peer, certificates),
    };
    // It was not among those that were looked at when other roots came during the handshake.
    if peer.is_some() && tls.roots() != roots && !tls.trusts(certificates) {
        return Err(io::Error::other(OTHER_CLUSTER));
    }
    let info = PeerInfo { peer, remote: Some(remote), expired };
    Ok(PeerStream { stream, info, cut })
}

/// Listens on a unix socket that only root, and the user this process runs as, may use: its peers are local operators.
/// A socket that a dead process left is replaced. Accepts until the returned stream is dropped.
pub async fn accept_unix(
    path: &Path,
) -> io::Result<ReceiverStream<io::Result<PeerStream<UnixStream>>>> {
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // So answers anything that is not a socket, too: `bind` then refuses to replace it.
            if fs::symlink_metadata(path)?.file_type().is_socket() {
                fs::remove_file(path)?;
            }
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let own_user = fs::metadata("/proc/self")?.uid();
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream))) {
                Ok((user, stream)) if user == 0 || user == own_user => {
                    let info = PeerInfo { peer: Some(Peer::local()), remote: None, expired: false };
                    let cut = Cut::never();
                    // An error means that the server has stopped.
                    drop(sender.send(Ok(PeerStream { stream, info, cut })).await);
                }
                Ok((user, _)) => warn!(user, "refused a local connection of another user"),
                Err(error) => {
                    warn!(%error, "could not accept a local connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}
