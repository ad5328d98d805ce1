//! How a machine gets into the cluster: the only service that asks for no certificate.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sha2::Digest as _;
use swarm_proto::id::NodeId;
use swarm_proto::object::{Cluster, Role};
use swarm_proto::transport::{Authority, PeerInfo, same_secret};
use swarm_proto::wire;
use swarm_proto::wire::join_server::Join;
use tonic::{Request, Response, Status};

use super::controller::Controller;
use super::limiter::Limiter;
use super::refusal::Refusal;

/// Serves machines that want to join.
pub struct JoinService {
    controller: Arc<Controller>,
    root: String,
    limiter: Limiter,
}

impl JoinService {
    /// Serves for the cluster with this root certificate.
    pub fn new(controller: Arc<Controller>, root: String) -> Self {
        Self { controller, root, limiter: Limiter::default() }
    }

    /// The role that a token's secret stands for.
    fn role(&self, cluster: &Cluster, secret: &str, from: IpAddr) -> Result<Role, Status> {
        let now = Instant::now();
        if let Some(wait) = self.limiter.wait(from, now) {
            let why = format!("too many wrong join tokens from {from}");
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
        let certificate = self.root.clone();
        Ok(Response::new(wire::GetRootCertificateResponse { certificate }))
    }

    async fn join_cluster(
        &self,
        request: Request<wire::JoinClusterRequest>,
    ) -> Result<Response<wire::JoinClusterResponse>, Status> {
        let remote = request.extensions().get::<PeerInfo>().and_then(|info| info.remote);
        let from = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip());
        let request = request.into_inner();
        let cluster = self.controller.hub.view().state.cluster;
        let cluster = cluster.ok_or_else(|| {
            Refusal::unavailable("this controller does not know the cluster yet").hint("try again")
        })?;
        let role = self.role(&cluster, &request.token, from)?;
        check_names(&request, role)?;
        let authority = authority(&cluster)?;
        let wish = wire::JoinWish {
            request_id: request_id(&request.certificate_signing_request),
            hostname: request.hostname,
            controller: role == Role::Controller,
            controller_address: request.controller_address,
        };
        // Before anything is changed: a request that cannot be signed lets nobody in.
        let sign = |node| {
            let request = &request.certificate_signing_request;
            authority.sign_node(request, node, role, SystemTime::now())
        };
        sign(NodeId(0)).map_err(|error| Refusal::invalid(chain(&error)))?;
        let joined = self.controller.write(wish).await?;
        let certificate =
            sign(NodeId(joined.node_id)).map_err(|error| Status::internal(chain(&error)))?;
        tracing::info!(node = joined.node_id, %from, "a machine joined");
        Ok(Response::new(wire::JoinClusterResponse {
            node_id: joined.node_id,
            raft_id: joined.raft_id,
            certificate,
            root_certificate: cluster.ca_certificate.clone(),
            controllers: self.controller.hub.view().controller_addresses(),
            role: swarm_proto::transport::PeerRole::from(role).as_str().to_owned(),
        }))
    }
}

fn check_names(request: &wire::JoinClusterRequest, role: Role) -> Result<(), Status> {
    let name = &request.hostname;
    if name.is_empty() || name.len() > 253 || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("a host name must have 1 to 253 characters").into());
    }
    if role == Role::Controller && super::address::parse(&request.controller_address).is_none() {
        let why = format!("`{}` is not `host:port`", request.controller_address);
        return Err(Refusal::invalid(why)
            .hint("a joining controller says where it is reached: --advertise IP[:PORT]")
            .into());
    }
    Ok(())
}

/// The cluster's certificate authority.
pub fn authority(cluster: &Cluster) -> Result<Authority, Status> {
    Authority::load(&cluster.id, &cluster.ca_certificate, &cluster.ca_key)
        .map_err(|error| Status::internal(chain(&error)))
}

/// One machine's tries share an id, for they send the same key.
fn request_id(signing_request: &str) -> String {
    format!("join-{:x}", sha2::Sha256::digest(signing_request))
}

fn chain(error: &dyn std::error::Error) -> String {
    super::disk_thread::chain(error)
}
