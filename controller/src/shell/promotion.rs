//! An agent's host that comes to run a controller as well: its agent is told to join it.

use std::time::Duration;

use swarm_proto::object::Role;
use swarm_proto::wire;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::controller::Controller;
use super::image_service::named;
use super::local_service::join_tokens;
use super::refusal::Refusal;

/// A little longer than the host gives itself.
const PATIENCE: Duration = Duration::from_secs(65);

impl Controller {
    /// Has a node's host join as a controller. It learns the log first, and votes once it knows it.
    pub async fn promote_node(
        &self,
        request: wire::PromoteNodeRequest,
    ) -> Result<wire::PromoteNodeResponse, Status> {
        let view = self.read(false).await?;
        let node = named(&view.state, &request.node)?;
        let name = &node.description.hostname;
        if node.role == Role::Controller {
            return Ok(wire::PromoteNodeResponse {
                done: vec!["it runs a controller already".to_owned()],
            });
        }
        let cluster = view.state.cluster.as_deref();
        let cluster =
            cluster.ok_or_else(|| Refusal::unavailable("the cluster is not known yet"))?;
        let (token, _) = join_tokens(cluster).map_err(Status::internal)?;
        let own = view.state.nodes.get(&self.node);
        let controller = own.and_then(|node| node.controller_address.clone()).unwrap_or_default();
        let ask = async {
            let mut agent = self.agent(&node).await?;
            let request = wire::BecomeControllerRequest { token: token.to_string(), controller };
            Ok::<_, Status>(agent.become_controller(request).await?.into_inner())
        };
        match timeout(PATIENCE, ask).await {
            Ok(Ok(done)) => Ok(wire::PromoteNodeResponse { done: done.done }),
            Ok(Err(status)) if status.code() == Code::Unimplemented => Err(Refusal::conflict(
                format!("the agent of node {name} is older and cannot do that"),
            )
            .hint("upgrade its host, or run `swarmctl host join ADDRESS --as controller --token TOKEN` on it")
            .into()),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Refusal::unavailable(format!(
                "node {name} did not answer within {} s",
                PATIENCE.as_secs()
            ))
            .into()),
        }
    }
}
