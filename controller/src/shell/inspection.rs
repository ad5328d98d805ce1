//! What hosts hold beside what they were told: each is asked itself.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use swarm_proto::object::Node;
use swarm_proto::wire;
use tokio::time::timeout;
use tonic::Status;

use super::controller::Controller;

/// How long one host may take to look at itself.
const PATIENCE: Duration = Duration::from_secs(8);

impl Controller {
    /// Each host's own look, all at the same time. A host that does not answer is named with the reason.
    pub async fn inspect_hosts(&self) -> wire::InspectHostsResponse {
        let state = Arc::clone(&self.hub.view().state);
        let hosts = join_all(state.nodes.values().map(|node| self.inspect(node))).await;
        wire::InspectHostsResponse { hosts }
    }

    async fn inspect(&self, node: &Node) -> wire::HostInspection {
        let look = async {
            let mut agent = self.agent(node).await?;
            let answer = agent.inspect_host(wire::InspectHostRequest {}).await?;
            Ok::<_, Status>(answer.into_inner())
        };
        let unknown = |why: &str| {
            let error = why.lines().next().unwrap_or_default().to_owned();
            wire::HostInspection { error, ..wire::HostInspection::default() }
        };
        let found = match timeout(PATIENCE, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(status)) => unknown(status.message()),
            Err(_) => unknown(&format!("its agent did not answer in {} s", PATIENCE.as_secs())),
        };
        let hostname = node.description.hostname.clone();
        wire::HostInspection { node: node.id.0, hostname, ..found }
    }
}
