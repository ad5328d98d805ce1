//! Who may call what: one table, which every server consults before a call reaches its service.
//!
//! A call that the table does not name is closed to everybody, so a new one cannot be open by forgetting it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tower::Layer;

use super::peer::{Peer, PeerInfo, PeerRole};

/// What every path of the project's calls begins with.
const PACKAGE: &str = "/swarm.v1.";

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Everybody, also without a certificate: what is sent proves the right.
    Anybody,
    /// Peers of these roles with a valid certificate.
    Valid(&'static [PeerRole]),
    /// Peers of these roles, also when their certificate has expired.
    EvenExpired(&'static [PeerRole]),
}

const LOCAL: Callers = Callers::Valid(&[PeerRole::Local]);
const WRITERS: Callers = Callers::Valid(&[PeerRole::Local, PeerRole::Admin]);
const READERS: Callers = Callers::Valid(&[PeerRole::Local, PeerRole::Admin, PeerRole::Reader]);
const READERS_AND_CONTROLLERS: Callers =
    Callers::Valid(&[PeerRole::Local, PeerRole::Admin, PeerRole::Reader, PeerRole::Controller]);
const CONTROLLERS: Callers = Callers::Valid(&[PeerRole::Controller]);
const CONTROLLERS_AND_ROOT: Callers = Callers::Valid(&[PeerRole::Controller, PeerRole::Local]);
const NODES: Callers = Callers::Valid(&[PeerRole::Controller, PeerRole::Agent]);

/// The table: `Service/Method`, and who may call it.
pub const ACCESS: &[(&str, Callers)] = &[
    ("Agent/BecomeController", CONTROLLERS),
    ("Agent/Exec", CONTROLLERS_AND_ROOT),
    ("Agent/GetState", LOCAL),
    ("Agent/InspectHost", CONTROLLERS_AND_ROOT),
    ("Agent/ListImages", CONTROLLERS),
    ("Agent/Logs", CONTROLLERS_AND_ROOT),
    ("Agent/ResolveImage", CONTROLLERS),
    ("Agent/StopTasks", LOCAL),
    ("Builds/Build", CONTROLLERS),
    ("Control/AddContent", WRITERS),
    ("Control/AnnounceContents", WRITERS),
    // Holds the authority's key: whoever has it can make any certificate.
    ("Control/Backup", LOCAL),
    // More than to look: it runs what it is given, on a node, with the node's network.
    ("Control/Build", WRITERS),
    ("Control/CreateNamedContent", WRITERS),
    ("Control/CreateNetwork", WRITERS),
    ("Control/CreateVolume", WRITERS),
    ("Control/Deploy", WRITERS),
    // More than to look: whoever may run a program in a container may do all that the container may.
    ("Control/Exec", WRITERS),
    // Controllers ask each other for their own numbers.
    ("Control/GetClusterStatus", READERS_AND_CONTROLLERS),
    // More than to look: what a stack keeps in a config may be as private as its environment.
    ("Control/GetConfig", WRITERS),
    ("Control/GetJoinTokens", WRITERS),
    ("Control/GetState", READERS),
    // Controllers learn each other's raft ids by it.
    ("Control/GetVersion", READERS_AND_CONTROLLERS),
    ("Control/InspectHosts", READERS),
    ("Control/ListImages", READERS),
    ("Control/ListScaling", READERS),
    ("Control/Logs", READERS),
    ("Control/PauseService", WRITERS),
    // It asks agents what images' names stand for.
    ("Control/PlanDeploy", WRITERS),
    ("Control/PlanRebalance", READERS),
    ("Control/PromoteNode", WRITERS),
    ("Control/PromoteService", WRITERS),
    ("Control/Rebalance", WRITERS),
    ("Control/RemoveNamedContent", WRITERS),
    ("Control/RemoveNetwork", WRITERS),
    ("Control/RemoveNode", WRITERS),
    ("Control/RemoveService", WRITERS),
    ("Control/RemoveStack", WRITERS),
    ("Control/RemoveVolume", WRITERS),
    ("Control/RollBackService", WRITERS),
    ("Control/RotateAuthority", WRITERS),
    ("Control/RotateJoinTokens", WRITERS),
    ("Control/RunJob", WRITERS),
    // Whoever may run a program in a service's container may do all that the service may.
    ("Control/RunOneOff", WRITERS),
    ("Control/ScaleService", WRITERS),
    ("Control/SetLock", WRITERS),
    ("Control/StopRuns", WRITERS),
    ("Control/UpdateCluster", WRITERS),
    ("Control/UpdateNode", WRITERS),
    ("Control/UpdateService", WRITERS),
    ("Control/Watch", READERS),
    ("Dispatcher/Session", NODES),
    ("ImageIndex/CheckMember", NODES),
    ("ImageIndex/FindImage", NODES),
    // A controller gives it only to a node with a task that needs it.
    ("ImageIndex/GetLogin", NODES),
    ("ImageStore/CheckLogin", CONTROLLERS),
    ("ImageStore/Inspect", CONTROLLERS),
    ("ImageStore/Load", CONTROLLERS),
    ("ImageStore/Prune", CONTROLLERS),
    ("ImageStore/PruneBuilds", CONTROLLERS),
    ("ImageStore/Pull", CONTROLLERS),
    ("ImageStore/Push", CONTROLLERS),
    // Hosts copy images from each other.
    ("ImageStore/ReadBlob", NODES),
    ("ImageStore/Remove", CONTROLLERS),
    ("ImageStore/Save", CONTROLLERS),
    ("ImageStore/Tag", CONTROLLERS),
    ("Images/Inspect", READERS),
    // Names alone, never a password.
    ("Images/ListLogins", READERS),
    ("Images/Load", WRITERS),
    ("Images/LogIn", WRITERS),
    ("Images/LogOut", WRITERS),
    ("Images/Prune", WRITERS),
    ("Images/PruneBuilds", WRITERS),
    ("Images/Pull", WRITERS),
    // It uses the cluster's login.
    ("Images/Push", WRITERS),
    ("Images/Remove", WRITERS),
    // More than to look: an image may hold what its owner tells nobody.
    ("Images/Save", WRITERS),
    ("Images/Tag", WRITERS),
    ("Join/GetRootCertificate", Callers::Anybody),
    ("Join/JoinCluster", Callers::Anybody),
    // A controller's host asks its own controller, as root.
    ("Join/LeaveCluster", Callers::Valid(&[PeerRole::Agent])),
    ("Join/RenewCertificate", Callers::EvenExpired(&[PeerRole::Controller, PeerRole::Agent])),
    ("Local/CreateClientBundle", LOCAL),
    ("Local/GetJoinTokens", LOCAL),
    ("Local/Unlock", LOCAL),
    ("Raft/Forward", CONTROLLERS),
    ("Raft/Messages", CONTROLLERS),
    ("Raft/RelaySession", CONTROLLERS),
    ("Raft/Snapshot", CONTROLLERS),
];

/// Whether a peer may make the call with this path (`/swarm.v1.Control/Deploy`); else the refusal to answer it with.
pub fn admit(path: &str, from: Option<&PeerInfo>) -> Result<(), Status> {
    let name = call_name(path);
    let row = ACCESS.iter().find(|(call, _)| *call == name);
    let Some((_, callers)) = row else {
        return Err(Status::unimplemented(format!("there is no call `{name}` here")));
    };
    let (roles, even_expired) = match callers {
        Callers::Anybody => return Ok(()),
        Callers::Valid(roles) => (roles, false),
        Callers::EvenExpired(roles) => (roles, true),
    };
    let Some(PeerInfo { peer: Some(peer), expired, .. }) = from else {
        return Err(Status::unauthenticated(
            "this call needs a client certificate of the cluster, and none was shown\n\n\
             hint: run swarmctl on a controller's host, or give it a bundle made there with \
             `swarm-controller admin-bundle`",
        ));
    };
    if !roles.contains(&peer.role) {
        return Err(other_role(peer, roles));
    }
    if *expired && !even_expired {
        return Err(has_expired(peer));
    }
    Ok(())
}

/// `Control/Deploy` of `/swarm.v1.Control/Deploy`.
fn call_name(path: &str) -> &str {
    path.strip_prefix(PACKAGE).unwrap_or(path)
}

fn other_role(peer: &Peer, roles: &[PeerRole]) -> Status {
    let allowed: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    Status::permission_denied(format!(
        "a certificate of role `{}` may not make this call\n\nhint: it is for role {}",
        peer.role,
        allowed.join(" or ")
    ))
}

fn has_expired(peer: &Peer) -> Status {
    Status::unauthenticated(match peer.node_id {
        Some(node) => format!(
            "the certificate of node {node} has expired\n\n\
             hint: a host that was away renews it by itself; when it does not, see its log and its clock"
        ),
        None => format!(
            "the certificate of `{}` has expired\n\n\
             hint: make a new bundle with `swarm-controller admin-bundle` on a controller's host",
            peer.name
        ),
    })
}

/// What a server knows of members beyond their certificates: refuses the call (`Control/Deploy`) of a peer that was
/// removed.
pub type Membership = Arc<dyn Fn(&str, &Peer) -> Result<(), Status> + Send + Sync>;

/// Puts the table, and what is known of members, before every service of a server.
#[derive(Clone)]
pub struct AccessLayer {
    members: Membership,
}

impl AccessLayer {
    /// Refuses what the table refuses, and what `members` refuses.
    pub fn new(members: Membership) -> Self {
        Self { members }
    }

    fn check(&self, path: &str, from: Option<&PeerInfo>) -> Result<(), Status> {
        admit(path, from)?;
        match from.and_then(|info| info.peer.as_ref()) {
            Some(peer) => (self.members)(call_name(path), peer),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for AccessLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLayer")
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Admitting<S>;

    fn layer(&self, service: S) -> Self::Service {
        Admitting { access: self.clone(), service }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Admitting<S> {
    access: AccessLayer,
    service: S,
}

impl<S, B> Service<http::Request<B>> for Admitting<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let info = request.extensions().get::<PeerInfo>();
        let path = request.uri().path();
        match self.access.check(path, info) {
            Ok(()) => Box::pin(self.service.call(request)),
            Err(refusal) => {
                log_refusal(path, info, &refusal);
                Box::pin(std::future::ready(Ok(refusal.into_http())))
            }
        }
    }
}

fn log_refusal(path: &str, from: Option<&PeerInfo>, refusal: &Status) {
    let who = from.and_then(|info| info.peer.as_ref()).map_or("nobody", |peer| peer.name.as_str());
    let remote = from.and_then(|info| info.remote).map(|remote| remote.to_string());
    let remote = remote.unwrap_or_else(|| "the socket".to_owned());
    let why = refusal.message().lines().next().unwrap_or_default();
    tracing::warn!(call = path, who, from = remote, why, "refused a call");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::CALLS;

    #[test]
    fn every_call_of_the_services_stands_in_the_table_once() {
        let rows: Vec<&str> = ACCESS.iter().map(|(call, _)| *call).collect();
        assert!(rows.is_sorted(), "the table is sorted by name");
        let unique: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(unique.len(), rows.len(), "a call stands in the table twice");
        assert_eq!(unique, CALLS.iter().copied().collect::<BTreeSet<&str>>());
    }

    #[test]
    fn a_call_outside_the_table_is_closed_to_root_as_well() {
        let root = PeerInfo { peer: Some(Peer::local()), remote: None, expired: false };
        let refusal = admit("/swarm.v1.Control/Forgotten", Some(&root)).expect_err("no row");
        assert_eq!(refusal.message(), "there is no call `Control/Forgotten` here");
    }
}
