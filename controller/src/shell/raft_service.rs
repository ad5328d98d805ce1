//! What controllers ask of each other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use prost_for_raft::Message as _;
use swarm_proto::id::RaftId;
use swarm_proto::transport::known_peer;
use swarm_proto::wire;
use swarm_proto::wire::raft_server::Raft;
use tonic::{Request, Response, Status, Streaming};

use super::controller::Controller;
use super::dispatcher;
use super::membership::{leaving, was_removed};
use super::peers::receive_snapshot;
use super::refusal::Refusal;

/// Serves other controllers.
pub struct RaftService(pub Arc<Controller>);

#[tonic::async_trait]
impl Raft for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<wire::RaftMessages>>,
    ) -> Result<Response<wire::RaftMessagesEnd>, Status> {
        let senders = self.sender(&request)?;
        let mut pieces = request.into_inner();
        while let Some(piece) = pieces.next().await {
            for bytes in piece?.messages {
                self.check(senders.as_ref(), &bytes)?;
                self.0.core.peer_message(bytes).await;
            }
        }
        Ok(Response::new(wire::RaftMessagesEnd {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotEnd>, Status> {
        let senders = self.sender(&request)?;
        let received = receive_snapshot(request.into_inner()).await;
        let bytes = received.map_err(Status::data_loss)?;
        self.check(senders.as_ref(), &bytes)?;
        self.0.core.peer_message(bytes).await;
        Ok(Response::new(wire::SnapshotEnd {}))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardResponse>, Status> {
        self.sender(&request)?;
        let request = request.into_inner();
        let response = self.0.forwarded(&request.method, &request.request).await?;
        Ok(Response::new(wire::ForwardResponse { response }))
    }

    type RelaySessionStream =
        Pin<Box<dyn Stream<Item = Result<wire::ControllerMessage, Status>> + Send>>;

    async fn relay_session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::RelaySessionStream>, Status> {
        self.sender(&request)?;
        let session = dispatcher::relayed(Arc::clone(&self.0), request.into_inner()).await?;
        Ok(Response::new(Box::pin(session)))
    }
}

impl RaftService {
    /// The raft ids for which the caller's certificate may speak; `None` while this controller does not know the node
    /// yet.
    fn sender<T>(&self, request: &Request<T>) -> Result<Option<BTreeSet<RaftId>>, Status> {
        let peer = known_peer(request)?;
        let view = self.0.hub.view();
        let stranger = || Refusal::denied("this node is no controller of the cluster");
        let node = peer.node_id.ok_or_else(stranger)?;
        match view.state.nodes.get(&node) {
            Some(node) => Ok(Some([node.raft_id.ok_or_else(stranger)?].into())),
            None if was_removed(&view.state, node) => Ok(Some(leaving(&view))),
            // A controller that joined while this one was away, perhaps even the leader.
            None => Ok(None),
        }
    }

    fn check(&self, senders: Option<&BTreeSet<RaftId>>, bytes: &[u8]) -> Result<(), Status> {
        let message = raft::eraftpb::Message::decode(bytes)
            .map_err(|error| Refusal::invalid(format!("damaged message: {error}")))?;
        if message.to != self.0.raft_id.0 {
            return Err(Refusal::invalid("this message is for another controller").into());
        }
        match senders {
            Some(raft_ids) if !raft_ids.contains(&RaftId(message.from)) => {
                Err(Refusal::denied("a controller speaks only for itself").into())
            }
            _ => Ok(()),
        }
    }
}
