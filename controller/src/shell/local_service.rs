//! What commands on this host ask of the controller, on the unix socket only: tokens and certificates.

use std::sync::Arc;
use std::time::SystemTime;

use swarm_proto::object::{Cluster, Secret};
use swarm_proto::transport::{JoinToken, PeerRole, certificate_digest, require_role};
use swarm_proto::wire;
use swarm_proto::wire::local_server::Local;
use tonic::{Request, Response, Status};

use super::controller::Controller;
use super::join_service::authority;
use super::refusal::Refusal;

/// Serves root on this host.
pub struct LocalService(pub Arc<Controller>);

impl LocalService {
    fn cluster(&self) -> Result<Arc<Cluster>, Status> {
        self.0.hub.view().state.cluster.ok_or_else(|| {
            Refusal::unavailable("this controller has not been let into the cluster yet").into()
        })
    }
}

/// The join tokens of a cluster, for a controller and for an agent.
pub fn join_tokens(cluster: &Cluster) -> Result<(JoinToken, JoinToken), String> {
    let digest = certificate_digest(&cluster.ca_certificate).map_err(|error| error.to_string())?;
    let token =
        |secret: &Secret| JoinToken::new(&digest, secret).map_err(|error| error.to_string());
    Ok((token(&cluster.controller_token)?, token(&cluster.agent_token)?))
}

#[tonic::async_trait]
impl Local for LocalService {
    async fn get_join_tokens(
        &self,
        request: Request<wire::GetJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        require_role(&request, &[PeerRole::Local])?;
        let cluster = self.cluster()?;
        let (controller, agent) = join_tokens(&cluster).map_err(Status::internal)?;
        Ok(Response::new(wire::JoinTokens {
            controller_token: controller.to_string(),
            agent_token: agent.to_string(),
            controllers: self.0.hub.view().controller_addresses(),
        }))
    }

    async fn create_client_bundle(
        &self,
        request: Request<wire::CreateClientBundleRequest>,
    ) -> Result<Response<wire::ClientBundle>, Status> {
        require_role(&request, &[PeerRole::Local])?;
        let name = request.into_inner().name;
        let made = authority(&*self.cluster()?)?.make_client(&name, SystemTime::now());
        let credentials = made.map_err(|error| Refusal::invalid(error.to_string()))?;
        let pem = credentials.to_bundle().reveal().to_owned();
        Ok(Response::new(wire::ClientBundle { pem }))
    }
}
