//! What commands on this host ask of the controller, on the unix socket only: tokens and certificates.

use std::sync::Arc;
use std::time::SystemTime;

use swarm_proto::object::{Cluster, Secret};
use swarm_proto::transport::{
    ClientRole, JoinToken, ParseRoleError, certificate_digest, random_hex,
};
use swarm_proto::wire;
use swarm_proto::wire::local_server::Local;
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::controller::Controller;
use super::refusal::Refusal;

/// Serves root on this host.
pub struct LocalService(pub Arc<Controller>);

impl LocalService {
    fn bundle(&self, name: &str, role: ClientRole) -> Result<wire::ClientBundle, Status> {
        let authority = self.0.authority(&*self.0.cluster()?)?;
        let made = authority.make_client(name, role, SystemTime::now());
        let credentials = made.map_err(|error| Refusal::invalid(error.to_string()))?;
        Ok(wire::ClientBundle { pem: credentials.to_bundle().reveal().to_owned() })
    }
}

/// The role that a request names; without one, as the first version asks, an admin.
fn client_role(name: &str) -> Result<ClientRole, Status> {
    if name.is_empty() {
        return Ok(ClientRole::Admin);
    }
    name.parse().map_err(|error: ParseRoleError| Refusal::invalid(error.to_string()).into())
}

/// The join tokens of a cluster, for a controller and for an agent.
pub fn join_tokens(cluster: &Cluster) -> Result<(JoinToken, JoinToken), String> {
    let digest = certificate_digest(&cluster.ca_certificate).map_err(|error| error.to_string())?;
    let token =
        |secret: &Secret| JoinToken::new(&digest, secret).map_err(|error| error.to_string());
    Ok((token(&cluster.controller_token)?, token(&cluster.agent_token)?))
}

/// What a controller answers who asks for the join tokens.
pub fn tokens(controller: &Controller) -> Result<wire::JoinTokens, Status> {
    let (for_controller, for_agent) =
        join_tokens(&*controller.cluster()?).map_err(Status::internal)?;
    Ok(wire::JoinTokens {
        controller_token: for_controller.to_string(),
        agent_token: for_agent.to_string(),
        controllers: controller.hub.view().controller_addresses(),
    })
}

/// Makes new secrets for the tokens that a request names. Answers with all tokens as they are then.
pub async fn rotate_tokens(
    controller: &Controller,
    request: wire::RotateJoinTokensRequest,
) -> Result<wire::JoinTokens, Status> {
    if !request.controller && !request.agent {
        return Err(Refusal::invalid("the request names no token").into());
    }
    let fresh = |wanted: bool| {
        if !wanted {
            return Ok(String::new());
        }
        random_hex::<16>().map_err(|error| Status::internal(error.to_string()))
    };
    let wish = wire::TokensWish {
        request_id: request.request_id,
        controller: fresh(request.controller)?,
        agent: fresh(request.agent)?,
    };
    controller.write(wish).await?;
    // This controller may not have applied yet what the leader has.
    controller.read(false).await?;
    tokens(controller)
}

#[tonic::async_trait]
impl Local for LocalService {
    async fn get_join_tokens(
        &self,
        request: Request<wire::GetJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        Audit::of(&request, "GetJoinTokens", "join tokens")?.answer(tokens(&self.0))
    }

    async fn create_client_bundle(
        &self,
        request: Request<wire::CreateClientBundleRequest>,
    ) -> Result<Response<wire::ClientBundle>, Status> {
        let wire::CreateClientBundleRequest { name, role } = request.get_ref();
        let role = client_role(role)?;
        let audit = Audit::of(&request, "CreateClientBundle", format!("{role} {name}"))?;
        audit.answer(self.bundle(name, role))
    }

    async fn unlock(
        &self,
        _: Request<wire::UnlockRequest>,
    ) -> Result<Response<wire::UnlockResponse>, Status> {
        Err(Refusal::conflict("this controller is not locked").into())
    }
}
