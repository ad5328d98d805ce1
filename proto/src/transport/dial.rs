//! One connection to a server, with an error that says what went wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error as Tls13Error};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Tls;

/// For the name, the connection and the handshake together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody accepted.
    #[error("cannot reach `{address}`")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing came back in time.
    #[error("`{address}` did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// Where.
        address: String,
    },
    /// The server's certificate is not signed by this cluster's root.
    #[error("`{address}` shows a certificate of another cluster")]
    OtherCluster {
        /// Where.
        address: String,
    },
    /// The server's certificate has expired, or a clock is wrong.
    #[error(
        "`{address}` shows a certificate that is not valid now: it expired, or a clock is wrong"
    )]
    NotValidNow {
        /// Where.
        address: String,
    },
    /// The server is one of this cluster, but not the expected one.
    #[error("`{address}` is not `{expected}` of this cluster")]
    OtherServer {
        /// Where.
        address: String,
        /// The name that was expected.
        expected: String,
    },
    /// The handshake failed otherwise.
    #[error("could not set up TLS with `{address}`")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No local socket accepted.
    #[error("cannot reach the socket `{}`", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS stands, but HTTP/2 does not.
    #[error("could not open a channel to `{address}`")]
    Channel {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

pub(super) async fn dial_tls(
    tls: &Tls,
    address: &str,
    server_name: &str,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let dial = async {
        let unreachable =
            |source| ConnectError::Unreachable { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let secured = tls.connector().connect(name, stream).await;
        secured.map_err(|error| handshake_error(address, server_name, error))
    };
    match timeout(CONNECT_TIMEOUT, dial).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { address: address.to_owned() }),
    }
}

fn handshake_error(address: &str, server_name: &str, source: io::Error) -> ConnectError {
    let address = address.to_owned();
    let cause = source.get_ref().and_then(|inner| inner.downcast_ref::<Tls13Error>());
    match cause {
        Some(Tls13Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ConnectError::NotValidNow { address },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectError::OtherServer { address, expected: server_name.to_owned() }
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                ConnectError::OtherCluster { address }
            }
            _ => ConnectError::Handshake { address, source },
        },
        _ => ConnectError::Handshake { address, source },
    }
}

pub(super) async fn dial_unix(path: &Path) -> Result<UnixStream, ConnectError> {
    let failed = |source| ConnectError::Socket { path: path.to_owned(), source };
    UnixStream::connect(path).await.map_err(failed)
}
