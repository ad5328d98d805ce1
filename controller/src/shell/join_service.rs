//! How a machine gets into the cluster, and out again by itself: the only service that asks for no certificate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::Digest as _;
use swarm_proto::failure::sentence;
use swarm_proto::id::NodeId;
use swarm_proto::object::{Availability, Cluster, Node, Role};
use swarm_proto::transport::{Peer, PeerInfo, known_peer, same_secret};
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;
use swarm_proto::wire::join_server::Join;
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::controller::Controller;
use super::limiter::Limiter;
use super::refusal::Refusal;
use super::write::Write;
use crate::core::state::Stored;

/// Serves machines that want to join.
pub struct JoinService {
    controller: Arc<Controller>,
    limiter: Limiter,
}

impl JoinService {
    /// Serves at this controller.
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller, limiter: Limiter::default() }
    }

    /// The cluster with the authority that signs now, which this controller may not have heard of yet.
    async fn present_cluster(&self) -> Result<Arc<Cluster>, Status> {
        self.controller.read(false).await?;
        self.controller.cluster()
    }

    /// The node that asks, when it is a member already and shows its certificate.
    fn member<T>(&self, request: &Request<T>) -> Option<Stored<Node>> {
        let valid = request.extensions().get::<PeerInfo>().filter(|info| !info.expired)?;
        let node = valid.peer.as_ref()?.node_id?;
        self.controller.hub.view().state.nodes.get(&node).cloned()
    }

    /// Refuses a controller that could not apply the cluster's log.
    fn check_version(&self, knows: ClusterVersion) -> Result<(), Status> {
        let version = self.controller.hub.view().state.cluster_version;
        if knows >= version {
            return Ok(());
        }
        let why = format!(
            "this host's swarm-controller is too old: it knows cluster versions up to {knows}, and the cluster has version {version}"
        );
        Err(Refusal::conflict(why)
            .hint("install the release that the other controllers run, then join again")
            .into())
    }

    /// The role that a token's secret stands for.
    fn role(&self, cluster: &Cluster, secret: &str, from: IpAddr) -> Result<Role, Status> {
        let now = Instant::now();
        if let Some(wait) = self.limiter.wait(from, now) {
            let why = String::from("too many wrong join tokens were shown");
            let hint = format!("wait {} s", wait.as_secs() + 1);
            return Err(Refusal::exhausted(why).hint(hint).into());
        }
        // Both comparisons are always made, so that time tells nothing.
        let controller = same_secret(&cluster.controller_token, secret);
        let agent = same_secret(&cluster.agent_token, secret);
        match (controller, agent) {
            (true, _) => Ok(Role::Controller),
            (_, true) => Ok(Role::Agent),
            _ => {
                self.limiter.failed(from, now);
                tracing::warn!(%from, "a machine wanted to join with a wrong token");
                Err(Refusal::denied("the join token is not valid")
                    .hint("see the right one with `swarm-controller token` on a controller's host")
                    .into())
            }
        }
    }
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn get_root_certificate(
        &self,
        _: Request<wire::GetRootCertificateRequest>,
    ) -> Result<Response<wire::GetRootCertificateResponse>, Status> {
        let certificate = self.controller.tls.root_pem();
        Ok(Response::new(wire::GetRootCertificateResponse { certificate }))
    }

    async fn join_cluster(
        &self,
        request: Request<wire::JoinClusterRequest>,
    ) -> Result<Response<wire::JoinClusterResponse>, Status> {
        let remote = request.extensions().get::<PeerInfo>().and_then(|info| info.remote);
        let from = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip());
        let member = self.member(&request);
        let mut request = request.into_inner();
        let cluster = self.controller.cluster()?;
        let role = match &member {
            Some(node) if node.role == Role::Controller => Role::Controller,
            _ => self.role(&cluster, &request.token, from)?,
        };
        if let Some(node) = member.as_ref().filter(|_| role == Role::Agent) {
            let why =
                format!("this host is node {} already, and this token lets agents in", node.id);
            return Err(Refusal::invalid(why).hint("use the controllers' token").into());
        }
        if let Some(known) = member.as_ref().and_then(|node| node.controller_address.clone())
            && request.controller_address.is_empty()
        {
            request.controller_address = known;
        }
        check_names(&request, role)?;
        if role == Role::Controller {
            self.check_version(ClusterVersion::from_wire(request.knows))?;
        }
        let cluster = self.present_cluster().await?;
        let authority = self.controller.authority(&cluster)?;
        // Before anything is changed: a request that cannot be signed lets nobody in.
        let sign = |node| {
            let request = &request.certificate_signing_request;
            authority.sign_node(request, node, role, SystemTime::now())
        };
        sign(NodeId(0)).map_err(|error| Refusal::invalid(sentence(&error)))?;
        let request_id = request_id(&request.certificate_signing_request);
        let joined = if let Some(node) = member.filter(|_| role == Role::Controller) {
            let (node, address) = (node.id.0, request.controller_address.clone());
            self.controller.write(wire::PromoteWish { request_id, node, address }).await?
        } else {
            let wish = wire::JoinWish {
                request_id,
                hostname: request.hostname.clone(),
                controller: role == Role::Controller,
                controller_address: request.controller_address.clone(),
            };
            self.controller.write(wish).await?
        };
        let certificate =
            sign(NodeId(joined.node_id)).map_err(|error| Status::internal(sentence(&error)))?;
        tracing::info!(node = joined.node_id, %from, "a machine joined");
        Ok(Response::new(wire::JoinClusterResponse {
            node_id: joined.node_id,
            raft_id: joined.raft_id,
            certificate,
            root_certificate: cluster.ca_certificate.clone(),
            controllers: self.controller.hub.view().controller_addresses(),
            role: swarm_proto::transport::PeerRole::from(role).as_str().to_owned(),
            roots: cluster.roots(),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        let peer = known_peer(&request)?;
        let (now, grace) = (SystemTime::now(), self.controller.signing.grace);
        let Some((id, until)) = peer.node_id.zip(peer.valid_until) else {
            return Err(Refusal::denied("only nodes renew their certificates").into());
        };
        if until + grace < now {
            return Err(too_late(id, until, grace, now));
        }
        // Whether it was removed has been looked at already.
        let node = self.controller.hub.view().state.nodes.get(&id).cloned();
        let node = node.ok_or_else(|| {
            let why = format!("this controller does not know node {id} yet");
            Refusal::unavailable(why).hint("try again, or at another controller")
        })?;
        let request = &request.get_ref().certificate_signing_request;
        let cluster = self.present_cluster().await?;
        let signed = self.controller.authority(&cluster)?.sign_node(request, id, node.role, now);
        let certificate = signed.map_err(|error| Refusal::invalid(sentence(&error)))?;
        tracing::info!(node = %id, had_expired = until < now, "renewed a node's certificate");
        Ok(Response::new(wire::RenewCertificateResponse { certificate, roots: cluster.roots() }))
    }

    async fn leave_cluster(
        &self,
        request: Request<wire::LeaveClusterRequest>,
    ) -> Result<Response<wire::LeaveClusterResponse>, Status> {
        let by = known_peer(&request)?.clone();
        let id = by.node_id.ok_or_else(|| Refusal::denied("only nodes leave a cluster"))?;
        self.leave(id, &by, request.into_inner()).await.map(Response::new)
    }
}

impl JoinService {
    /// One look at a node that wants to leave: what has to come next is begun.
    async fn leave(
        &self,
        id: NodeId,
        by: &Peer,
        request: wire::LeaveClusterRequest,
    ) -> Result<wire::LeaveClusterResponse, Status> {
        let state = Arc::clone(&self.controller.read(false).await?.state);
        // A removed one was turned away before.
        let node = state.nodes.get(&id).ok_or_else(|| {
            Refusal::unavailable(format!("this controller does not know node {id} yet"))
        })?;
        let tasks = state.index.loads.get(&id).map_or(0, |load| load.tasks);
        if !request.force && node.availability != Availability::Drain {
            let drain = wire::UpdateNodeRequest {
                request_id: format!("{}-drain", request.request_id),
                node: id.to_string(),
                availability: wire::Availability::Drain.into(),
                ..wire::UpdateNodeRequest::default()
            };
            self.audited(by, drain).await?;
        } else if request.force || tasks == 0 {
            let remove = wire::RemoveNodeRequest {
                request_id: format!("{}-remove", request.request_id),
                node: id.to_string(),
                force: true,
            };
            self.audited(by, remove).await?;
            return Ok(wire::LeaveClusterResponse { removed: true, tasks });
        }
        Ok(wire::LeaveClusterResponse { removed: false, tasks })
    }

    async fn audited<W: Write>(&self, by: &Peer, request: W) -> Result<(), Status> {
        let audit = Audit::by(by, W::METHOD, request.object());
        audit.answer(self.controller.write(request).await).map(drop)
    }
}

fn too_late(id: NodeId, until: SystemTime, grace: Duration, now: SystemTime) -> Status {
    let ago = now.duration_since(until).unwrap_or_default();
    let why = format!(
        "the certificate of node {id} expired {} ago, and can be renewed for {} only",
        span(ago),
        span(grace)
    );
    let hint = format!(
        "remove the node with `swarmctl node rm {id} --force`, clear its state folder and join it again"
    );
    Refusal::denied(why).hint(hint).into()
}

/// In the largest unit of which it has two.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
    let found = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (unit, length) = found.unwrap_or(("seconds", 1));
    format!("{} {unit}", seconds / length)
}

fn check_names(request: &wire::JoinClusterRequest, role: Role) -> Result<(), Status> {
    let name = &request.hostname;
    if name.is_empty() || name.len() > 253 || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("a host name must have 1 to 253 characters").into());
    }
    let address = &request.controller_address;
    match role {
        // Before anything is changed: else the cluster would have a node that never comes.
        Role::Agent if !address.is_empty() => {
            Err(Refusal::invalid("this token lets agents in, not controllers")
                .hint("use the controllers' token, or join as an agent")
                .into())
        }
        Role::Controller if address.is_empty() => {
            Err(Refusal::invalid("this token lets controllers in, and no address was given")
                .hint(
                    "an agent needs the agents' token; a controller says where it is reached: \
                     --advertise IP[:PORT]",
                )
                .into())
        }
        Role::Controller if super::address::parse(address).is_none() => {
            Err(Refusal::invalid(format!("`{address}` is not `host:port`"))
                .hint("a joining controller says where it is reached: --advertise IP[:PORT]")
                .into())
        }
        Role::Agent | Role::Controller => Ok(()),
    }
}

/// One machine's tries share an id, for they send the same key.
fn request_id(signing_request: &str) -> String {
    format!("join-{:x}", sha2::Sha256::digest(signing_request))
}
