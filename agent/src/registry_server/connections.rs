//! Connections: bounded in number, and in how long one may say or take nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::RegistryServer;
use super::watched::Watched;

/// Connections at the same time.
const MOST: usize = 256;
/// A handshake, and a request's head, take no longer. One that is idle for so long is closed.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const LARGEST_HEAD: usize = 32 << 10;
/// Who takes nothing of what was sent for so long is cut off, in milliseconds.
const UNREAD: u32 = 60_000;
/// After an error of the listener's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes connections in until the program ends.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Watched<TlsAcceptor>>,
    server: Arc<RegistryServer>,
) {
    let turns = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the registry cannot take a connection in");
                sleep(PAUSE).await;
                continue;
            }
        };
        let acceptor = tls.as_ref().map(Watched::current);
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _turn = turn;
            serve(stream, acceptor, server).await;
        });
    }
}

async fn serve(stream: TcpStream, acceptor: Option<Arc<TlsAcceptor>>, server: Arc<RegistryServer>) {
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD) {
        tracing::debug!(%error, "a connection of the registry has no bound");
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection of the registry waits for more");
    }
    let Some(acceptor) = acceptor else { return converse(stream, server).await };
    match timeout(HEAD, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, server).await,
        Ok(Err(error)) => tracing::debug!(%error, "no handshake with the registry"),
        Err(_) => tracing::debug!("a handshake with the registry takes too long"),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Arc<RegistryServer>,
) {
    let service = service_fn(|request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the registry broke off");
    }
}
