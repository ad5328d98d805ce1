//! gRPC channels over dialled connections, and the settings that both ends share.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Server};
use tower::layer::util::{Identity, Stack};
use tower::service_fn;

use super::Tls;
use super::access::{AccessLayer, Membership};
use super::dial::{CONNECT_TIMEOUT, ConnectError, dial_tls, dial_unix};

/// The size of a message that clients and servers should accept where tonic's 4 MiB may not do: whole views of state.
pub const MAX_MESSAGE: usize = 64 << 20;

/// A cut network is noticed after the interval and the time-out together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// A gRPC server with the project's settings, behind the table of who may call what; feed it [`super::accept_tls`] or
/// [`super::accept_unix`].
pub fn server() -> Guarded {
    guarded_server(Arc::new(|_, _| Ok(())))
}

/// One that also refuses peers whom `members` refuses.
pub fn guarded_server(members: Membership) -> Guarded {
    Server::builder()
        .layer(AccessLayer::new(members))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// A server behind the table of who may call what.
pub type Guarded = Server<Stack<AccessLayer, Identity>>;

fn endpoint(authority: &str) -> Endpoint {
    let uri = format!("http://{authority}");
    Endpoint::from_shared(uri)
        .expect("a server name is a valid authority")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

impl Tls {
    /// Connects to `host:port`, which must be `server_name` of this cluster. The channel dials again by itself when the
    /// connection is lost.
    pub async fn connect(
        self: &Arc<Self>,
        address: &str,
        server_name: &str,
    ) -> Result<Channel, ConnectError> {
        // Dialled here and not by tonic, so that a failure keeps its kind.
        let first = dial_tls(self, address, server_name).await?;
        let first = Arc::new(Mutex::new(Some(first)));
        let (tls, host, name) = (Arc::clone(self), address.to_owned(), server_name.to_owned());
        let connector = service_fn(move |_| {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (tls, host, name) = (Arc::clone(&tls), host.clone(), name.clone());
            async move {
                match first {
                    Some(stream) => Ok(TokioIo::new(stream)),
                    None => dial_tls(&tls, &host, &name).await.map(TokioIo::new),
                }
            }
        });
        let channel = endpoint(server_name).connect_with_connector(connector).await;
        channel.map_err(|source| ConnectError::Channel { address: address.to_owned(), source })
    }

    /// A channel that dials at its first use, and again whenever the connection is lost.
    pub fn channel(self: &Arc<Self>, address: &str, server_name: &str) -> Channel {
        let (tls, host, name) = (Arc::clone(self), address.to_owned(), server_name.to_owned());
        endpoint(server_name).connect_with_connector_lazy(service_fn(move |_| {
            let (tls, host, name) = (Arc::clone(&tls), host.clone(), name.clone());
            async move { dial_tls(&tls, &host, &name).await.map(TokioIo::new) }
        }))
    }
}

/// Connects to the unix socket of a controller on this host.
pub async fn connect_unix(path: &Path) -> Result<Channel, ConnectError> {
    let first = Arc::new(Mutex::new(Some(dial_unix(path).await?)));
    let socket = path.to_owned();
    let connector = service_fn(move |_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let socket = socket.clone();
        async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dial_unix(&socket).await.map(TokioIo::new),
            }
        }
    });
    let channel = endpoint("local").connect_with_connector(connector).await;
    let address = path.display().to_string();
    channel.map_err(|source| ConnectError::Channel { address, source })
}
