//! Who is at the other end of a connection, as its certificate says it.

use std::fmt;

use rustls::pki_types::CertificateDer;
use tonic::{Code, Request, Status};
use x509_parser::x509::X509Name;

use super::PeerInfo;
use crate::id::NodeId;
use crate::object::Role;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerRole {
    /// A node with a controller.
    Controller,
    /// A node with an agent only.
    Agent,
    /// An operator with a certificate of `swarm-controller admin-bundle`.
    Client,
    /// An operator on this host, through the unix socket.
    Local,
}

impl PeerRole {
    /// Everybody who may do what an operator may.
    pub const OPERATORS: [Self; 2] = [Self::Local, Self::Client];
    /// Every node.
    pub const NODES: [Self; 2] = [Self::Controller, Self::Agent];

    /// The name, as in certificates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Local => "local",
        }
    }

    fn of_certificate(name: &str) -> Option<Self> {
        [Self::Controller, Self::Agent, Self::Client].into_iter().find(|role| role.as_str() == name)
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
}

impl Peer {
    /// An operator on this host.
    pub fn local() -> Self {
        Self {
            cluster_id: String::new(),
            node_id: None,
            name: "local".to_owned(),
            role: PeerRole::Local,
        }
    }

    /// What a certificate says; `None` for one that no authority of ours makes.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = only(subject, X509Name::iter_common_name)?;
        let role = PeerRole::of_certificate(&only(subject, X509Name::iter_organizational_unit)?)?;
        let node_id = match role {
            PeerRole::Client => None,
            _ => Some(name.parse().ok()?),
        };
        let cluster_id = only(subject, X509Name::iter_organization)?;
        Some(Self { cluster_id, node_id, name, role })
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

/// Who sent a request; `None` when it came over TLS without a certificate.
pub fn peer<T>(request: &Request<T>) -> Option<&Peer> {
    request.extensions().get::<PeerInfo>()?.peer.as_ref()
}

/// Who sent a request, when that is one of these roles; else the refusal to answer it with.
pub fn require_role<'a, T>(
    request: &'a Request<T>,
    roles: &[PeerRole],
) -> Result<&'a Peer, Status> {
    let Some(peer) = peer(request) else {
        return Err(Status::new(
            Code::Unauthenticated,
            "this call needs a client certificate of the cluster, and none was shown\n\n\
             hint: run swarmctl on a controller's host, or give it a bundle made there with \
             `swarm-controller admin-bundle`",
        ));
    };
    if roles.contains(&peer.role) {
        return Ok(peer);
    }
    let allowed: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    Err(Status::new(
        Code::PermissionDenied,
        format!(
            "a certificate of role `{}` may not make this call\n\nhint: it is for role {}",
            peer.role,
            allowed.join(" or ")
        ),
    ))
}
