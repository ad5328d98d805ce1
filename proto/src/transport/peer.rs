//! Who is at the other end of a connection, as its certificate says it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use tonic::{Request, Status};
use x509_parser::x509::X509Name;

use crate::id::NodeId;
use crate::object::Role;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// A node with a controller.
    Controller,
    /// A node with an agent only.
    Agent,
    /// An operator with a certificate of `swarm-controller admin-bundle`: may do what root on a controller's host may,
    /// but for what the local socket alone offers.
    Admin,
    /// A person who may look, and change nothing (`swarm-controller admin-bundle --role reader`).
    Reader,
    /// An operator on this host, through the unix socket.
    Local,
}

impl PeerRole {
    /// The name, as in certificates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Admin => "admin",
            Self::Reader => "reader",
            Self::Local => "local",
        }
    }

    fn of_certificate(name: &str) -> Option<Self> {
        let roles = [Self::Controller, Self::Agent, Self::Admin, Self::Reader];
        // What certificates of the first version call an admin.
        let name = if name == "client" { "admin" } else { name };
        roles.into_iter().find(|role| role.as_str() == name)
    }
}

impl From<Role> for PeerRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Controller => Self::Controller,
            Role::Agent => Self::Agent,
        }
    }
}

/// What a person's certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ClientRole {
    /// Everything that swarmctl can do.
    #[default]
    Admin,
    /// To look, and to change nothing.
    Reader,
}

impl From<ClientRole> for PeerRole {
    fn from(role: ClientRole) -> Self {
        match role {
            ClientRole::Admin => Self::Admin,
            ClientRole::Reader => Self::Reader,
        }
    }
}

impl fmt::Display for ClientRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(PeerRole::from(*self).as_str())
    }
}

/// A text is no role of a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role of a person: known are `admin` and `reader`")]
pub struct ParseRoleError(String);

impl FromStr for ClientRole {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        let known = [Self::Admin, Self::Reader];
        let found = known.into_iter().find(|role| PeerRole::from(*role).as_str() == text);
        found.ok_or_else(|| ParseRoleError(text.to_owned()))
    }
}

impl fmt::Display for PeerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The cluster that the certificate is of; empty for a local operator.
    pub cluster_id: String,
    /// The node, unless it is an operator.
    pub node_id: Option<NodeId>,
    /// The certificate's common name: a node's id, or an operator's name.
    pub name: String,
    /// What it is.
    pub role: PeerRole,
    /// Until when its certificate is valid; `None` for a local operator.
    pub valid_until: Option<SystemTime>,
}

impl Peer {
    /// An operator on this host.
    pub fn local() -> Self {
        Self {
            cluster_id: String::new(),
            node_id: None,
            name: "local".to_owned(),
            role: PeerRole::Local,
            valid_until: None,
        }
    }

    /// What a certificate says; `None` for one that no authority of ours makes.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = only(subject, X509Name::iter_common_name)?;
        let role = PeerRole::of_certificate(&only(subject, X509Name::iter_organizational_unit)?)?;
        let node_id = match role {
            PeerRole::Admin | PeerRole::Reader => None,
            _ => Some(name.parse().ok()?),
        };
        let cluster_id = only(subject, X509Name::iter_organization)?;
        let until = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        let valid_until = Some(UNIX_EPOCH + Duration::from_secs(until));
        Some(Self { cluster_id, node_id, name, role, valid_until })
    }

    /// How a log names it: `root@socket`, `node 3`, a person's name.
    pub fn who(&self) -> String {
        match (self.role, self.node_id) {
            (PeerRole::Local, _) => "root@socket".to_owned(),
            (_, Some(node)) => format!("node {node}"),
            _ => self.name.clone(),
        }
    }
}

/// The one value of an attribute; two would be ambiguous.
fn only<'a, I>(
    subject: &'a X509Name<'a>,
    attribute: impl Fn(&'a X509Name<'a>) -> I,
) -> Option<String>
where
    I: Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
{
    let mut values = attribute(subject);
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

/// What is known of a connection's other end; an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Who it is; `None` without a certificate.
    pub peer: Option<Peer>,
    /// Where it connects from; `None` for a unix socket.
    pub remote: Option<SocketAddr>,
    /// Whether its certificate had expired when it connected. It may still ask for a new one.
    pub expired: bool,
}

/// Who sent a request; `None` when it came over TLS without a certificate.
pub fn peer<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<PeerInfo>()?.peer.as_ref()
}

/// Who sent a request that the table of [`super::access`] lets only peers with a certificate make.
pub fn known_peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    let nobody = || Status::unauthenticated("this call needs a client certificate of the cluster");
    peer(request).ok_or_else(nobody)
}
