//! How a machine becomes a member: fetch the root, compare it with the token, ask for a certificate.

use std::sync::Arc;

use tonic::Status;

use super::authority::{AuthorityError, KeyAndRequest, certificate_digest, holds_root};
use super::tls::fit;
use super::{CONTROLLER_NAME, ConnectError, Identity, JoinToken, Peer, PeerRole, Tls, TlsError};
use crate::id::{NodeId, RaftId};
use crate::object::Role;
use crate::version::ClusterVersion;
use crate::wire;
use crate::wire::join_client::JoinClient;

/// Why a machine could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No connection to the controller.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller refused; the message is its own, with a hint.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The controller's root certificate is not the one that the token names.
    #[error(
        "the token is of another cluster: it names root certificate {expected}, `{address}` has {found}"
    )]
    OtherCluster {
        /// Which controller.
        address: String,
        /// The digest in the token.
        expected: String,
        /// The digest of what the controller sent.
        found: String,
    },
    /// What the controller sent as its root certificate is none.
    #[error("`{address}` sent a root certificate that cannot be used")]
    Root {
        /// Which controller.
        address: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// No key could be made, or a certificate not be read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// What the controller sent is not what was asked for.
    #[error("`{address}` sent a certificate that cannot be used: {reason}")]
    Answer {
        /// Which controller.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl From<Status> for JoinError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// The root certificate (PEM) of the cluster that a controller belongs to, when it is the one that the token names.
/// Nothing secret is sent.
pub async fn fetch_root(address: &str, token: &JoinToken) -> Result<String, JoinError> {
    let channel = Tls::trusting_anybody().connect(address, CONTROLLER_NAME).await?;
    let request = wire::GetRootCertificateRequest {};
    let answer = JoinClient::new(channel).get_root_certificate(request).await?;
    let root = answer.into_inner().certificate;
    let found = certificate_digest(&root)?;
    if found == token.digest() {
        return Ok(root);
    }
    Err(JoinError::OtherCluster {
        address: address.to_owned(),
        expected: token.digest().to_owned(),
        found,
    })
}

/// What a joining controller says of itself.
#[derive(Debug, Clone, Copy)]
pub struct JoiningController<'a> {
    /// Where other hosts reach it, `host:port`; empty leaves it as it was.
    pub address: &'a str,
    /// The highest cluster version that it knows.
    pub knows: ClusterVersion,
}

/// Joins the cluster of the controller at `address` (`host:port`), as an agent where no controller is given. The identity
/// that comes back is not saved yet.
pub async fn join(
    address: &str,
    token: &JoinToken,
    hostname: &str,
    controller: Option<JoiningController<'_>>,
) -> Result<Identity, JoinError> {
    let root = fetch_root(address, token).await?;
    let tls = Tls::without_certificate(&root)
        .map_err(|source| JoinError::Root { address: address.to_owned(), source })?;
    let asking = Asking { token: Some(token), hostname, controller };
    let identity = asking.ask(&tls, address).await?;
    if certificate_digest(&identity.ca_pem)? != token.digest() {
        let reason = "its root is another than a moment ago";
        return Err(JoinError::Answer { address: address.to_owned(), reason });
    }
    Ok(identity)
}

/// Asks for a controller's certificate for a host that is a member already: an agent's with the controllers' token, or
/// a controller whose log is lost, which needs none. The identity that comes back is not saved yet.
pub async fn join_again(
    identity: &Identity,
    address: &str,
    token: Option<&JoinToken>,
    hostname: &str,
    controller: JoiningController<'_>,
) -> Result<Identity, JoinError> {
    if let Some(token) = token.filter(|token| !holds_root(&identity.ca_pem, token.digest())) {
        let found = certificate_digest(&identity.ca_pem)?;
        let (address, expected) = (address.to_owned(), token.digest().to_owned());
        return Err(JoinError::OtherCluster { address, expected, found });
    }
    let tls = Tls::new(&identity.credentials())
        .map_err(|source| JoinError::Root { address: address.to_owned(), source })?;
    Asking { token, hostname, controller: Some(controller) }.ask(&tls, address).await
}

/// What a machine says of itself when it asks for a certificate.
struct Asking<'a> {
    token: Option<&'a JoinToken>,
    hostname: &'a str,
    /// `None` for an agent.
    controller: Option<JoiningController<'a>>,
}

impl Asking<'_> {
    /// Asks the controller at `address` with a new key.
    async fn ask(&self, tls: &Arc<Tls>, address: &str) -> Result<Identity, JoinError> {
        let channel = tls.connect(address, CONTROLLER_NAME).await?;
        let key = KeyAndRequest::make()?;
        let secret = self.token.map(|token| token.secret().reveal().to_owned());
        let own = self.controller;
        let request = wire::JoinClusterRequest {
            token: secret.unwrap_or_default(),
            certificate_signing_request: key.request_pem.clone(),
            hostname: self.hostname.to_owned(),
            controller_address: own.map(|own| own.address.to_owned()).unwrap_or_default(),
            knows: own.map_or(ClusterVersion::NEWEST, |own| own.knows).to_wire(),
        };
        let answer = JoinClient::new(channel).join_cluster(request).await?.into_inner();
        checked(answer, key)
            .map_err(|reason| JoinError::Answer { address: address.to_owned(), reason })
    }
}

fn checked(
    answer: wire::JoinClusterResponse,
    key: KeyAndRequest,
) -> Result<Identity, &'static str> {
    let ca_pem = if answer.roots.is_empty() { answer.root_certificate } else { answer.roots };
    if !fit(&answer.certificate, key.key_pem.reveal()).map_err(|_| "it is damaged")? {
        return Err("it is not for the key that was made here");
    }
    let peer = certificate_peer(&answer.certificate).ok_or("it names no cluster, role and node")?;
    let role = match peer.role {
        PeerRole::Controller => Role::Controller,
        PeerRole::Agent => Role::Agent,
        PeerRole::Admin | PeerRole::Reader | PeerRole::Local => return Err("it is not for a node"),
    };
    if peer.node_id != Some(NodeId(answer.node_id)) || peer.role.as_str() != answer.role {
        return Err("it names another node or role than the answer");
    }
    let raft_id = (answer.raft_id != 0).then_some(RaftId(answer.raft_id));
    if raft_id.is_some() != (role == Role::Controller) {
        return Err("its role and the raft id of the answer do not fit");
    }
    Ok(Identity {
        cluster_id: peer.cluster_id,
        node_id: NodeId(answer.node_id),
        raft_id,
        role,
        controllers: answer.controllers,
        certificate_pem: answer.certificate,
        key_pem: key.key_pem,
        ca_pem,
    })
}

/// Whom a PEM certificate is for; `None` for one that no authority of ours makes.
pub(super) fn certificate_peer(pem: &str) -> Option<Peer> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    Peer::of_certificate(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
}
