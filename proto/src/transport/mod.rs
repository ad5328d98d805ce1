//! How programs of the cluster reach each other: certificates, identities on disk, mutual TLS, channels.
//!
//! A server trusts only what a connection's certificate says ([`peer()`]), and lets each peer make the calls that the
//! table of [`access`] gives its role; a client checks the server against the cluster's root and a name ([`CONTROLLER_NAME`], [`AGENT_NAME`], [`node_name`]).

pub mod access;
mod authority;
mod channel;
mod connections;
mod departure;
mod dial;
mod expired;
mod identity;
mod incarnation;
mod incoming;
mod join;
mod peer;
mod renewal;
mod tls;
mod token;

#[cfg(test)]
mod tests;

pub use authority::{
    Authority, AuthorityError, CERTIFICATE_LIFE, Credentials, KeyAndRequest, Successor,
    certificate_digest, certificate_validity, random_hex, random_number, roots_digest, same_secret,
};
pub use channel::{Guarded, MAX_MESSAGE, connect_unix, guarded_server, server};
pub use connections::Connections;
pub use departure::Departure;
pub use dial::ConnectError;
pub use identity::{Identity, IdentityError};
pub use incarnation::{tell_incarnation, told_incarnation};
pub use incoming::{PeerStream, accept_tls, accept_unix};
pub use join::{JoinError, JoiningController, fetch_root, join, join_again};
pub use peer::{ClientRole, ParseRoleError, Peer, PeerInfo, PeerRole, known_peer, peer};
pub use renewal::{Keeper, RenewError, keep_valid, renew, renewal_due};
pub use tls::{Tls, TlsError};
pub use token::{JoinToken, ParseTokenError, token_argument};

use crate::id::NodeId;

/// The name that every controller's certificate bears.
pub const CONTROLLER_NAME: &str = "controller.swarm";

/// The name that every node's certificate bears.
pub const AGENT_NAME: &str = "agent.swarm";

/// The name that only this node's certificate bears: `n3.swarm`.
pub fn node_name(node: NodeId) -> String {
    format!("n{node}.swarm")
}

/// Makes ring the cryptography of every library in this process. May be called more than once.
pub fn install_crypto_provider() {
    // An error means that a provider stands already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
