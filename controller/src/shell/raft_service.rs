//! What controllers ask of each other.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use swarm_proto::id::RaftId;
use swarm_proto::transport::{Departure, Peer, known_peer};
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;
use swarm_proto::wire::raft_server::Raft;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::controller::Controller;
use super::dispatcher;
use super::incarnation;
use super::membership::{leaving, was_removed};
use super::peers::receive_snapshot;
use super::refusal::Refusal;
use crate::core::{Program, State};

/// The header in which a controller says which member of the Raft group it is.
pub const RAFT_ID: &str = "swarm-raft-id";

/// The header in which it says the highest cluster version that it knows. Release 0.1.0 has none.
pub const KNOWS: &str = "swarm-knows";

/// The header in which it says its release.
pub const RELEASE: &str = "swarm-release";

/// Serves other controllers.
pub struct RaftService(pub Arc<Controller>);

#[tonic::async_trait]
impl Raft for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<wire::RaftMessages>>,
    ) -> Result<Response<wire::RaftMessagesEnd>, Status> {
        let caller = known_peer(&request)?.clone();
        incarnation::check_controller(&self.0.hub, request.metadata())?;
        // Also one that has nothing to say to this controller must learn that it is none any more.
        let raft_id = request.metadata().get(RAFT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        if let Some(raft_id) = raft_id.map(RaftId) {
            self.check_sender(&self.sender(&caller)?, raft_id)?;
            self.0.core.peer_program(raft_id, spoken(request.metadata())).await;
        }
        let mut pieces = request.into_inner();
        while let Some(piece) = pieces.next().await {
            // Looked at each time: it may have been taken out of the cluster meanwhile.
            let sender = self.sender(&caller)?;
            for bytes in piece?.messages {
                self.check(&sender, &bytes)?;
                self.0.core.peer_message(bytes).await;
            }
        }
        Ok(Response::new(wire::RaftMessagesEnd {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotEnd>, Status> {
        let sender = self.sender(known_peer(&request)?)?;
        incarnation::check_controller(&self.0.hub, request.metadata())?;
        let received = receive_snapshot(request.into_inner()).await;
        let (message, data) = received.map_err(Status::data_loss)?;
        self.check(&sender, &message)?;
        // Reading a large state takes long; the Raft thread gets it ready made.
        let read = tokio::task::spawn_blocking(move || State::from_bytes(&data)).await;
        let state = read.map_err(|error| Status::internal(error.to_string()))?;
        let state = state.map_err(|error| Status::data_loss(error.to_string()))?;
        self.0.core.peer_snapshot(message, Box::new(state)).await;
        Ok(Response::new(wire::SnapshotEnd {}))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardResponse>, Status> {
        self.check_controller(&request)?;
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
        self.check_controller(&request)?;
        let session = dispatcher::relayed(Arc::clone(&self.0), request.into_inner()).await?;
        Ok(Response::new(Box::pin(session)))
    }
}

/// What a controller said of its program.
fn spoken(headers: &MetadataMap) -> Program {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let knows = text(KNOWS).and_then(|number| number.parse().ok()).unwrap_or_default();
    let release = text(RELEASE).unwrap_or_default().to_owned();
    Program { knows: ClusterVersion::from_wire(knows), release }
}

/// What `eraftpb.Message` says of its way; the rest of a message is the core's to read.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Envelope {
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
}

/// Who speaks.
struct Sender {
    /// The raft ids for which it may speak; `None` while this controller does not know the node yet.
    raft_ids: Option<BTreeSet<RaftId>>,
    /// How it came to be no controller any more.
    departure: Option<Departure>,
}

impl RaftService {
    fn sender(&self, peer: &Peer) -> Result<Sender, Status> {
        let view = self.0.hub.view();
        let stranger = || Refusal::denied("this node is no controller of the cluster");
        let node = peer.node_id.ok_or_else(stranger)?;
        let (raft_ids, departure) = match view.state.nodes.get(&node) {
            Some(node) => match node.raft_id {
                Some(raft_id) => (Some([raft_id].into()), None),
                None => (Some(leaving(&view)), Some(Departure::Demoted)),
            },
            None if was_removed(&view.state, node) => {
                (Some(leaving(&view)), Some(Departure::Removed))
            }
            // A controller that joined while this one was away, perhaps even the leader.
            None => (None, None),
        };
        Ok(Sender { raft_ids, departure })
    }

    /// Refuses one that is no controller of this cluster, and is not on its way out either.
    fn check_controller<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let sender = self.sender(known_peer(request)?)?;
        incarnation::check_controller(&self.0.hub, request.metadata())?;
        match sender.departure.filter(|_| sender.raft_ids.is_some_and(|ids| ids.is_empty())) {
            Some(_) => Err(Refusal::denied("this node is no controller of the cluster").into()),
            None => Ok(()),
        }
    }

    fn check(&self, sender: &Sender, bytes: &[u8]) -> Result<(), Status> {
        let envelope = Envelope::decode(bytes)
            .map_err(|error| Refusal::invalid(format!("damaged message: {error}")))?;
        self.check_sender(sender, RaftId(envelope.from))?;
        if envelope.to != self.0.raft_id.0 {
            return Err(Refusal::invalid("this message is for another controller").into());
        }
        Ok(())
    }

    fn check_sender(&self, sender: &Sender, from: RaftId) -> Result<(), Status> {
        if sender.raft_ids.as_ref().is_none_or(|raft_ids| raft_ids.contains(&from)) {
            return Ok(());
        }
        let refusal = Refusal::denied("a controller speaks only for itself").into();
        // An id that was never used yet is that of a controller of which this one will hear soon.
        let was_used = from.0 < self.0.hub.view().state.next.raft;
        Err(match sender.departure.filter(|_| was_used) {
            Some(departure) => departure.mark(refusal),
            None => refusal,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost_for_raft::Message as _;
    use raft::eraftpb::{Entry, Message};

    use super::*;

    #[test]
    fn the_envelope_is_that_of_raft_messages() {
        let entries = vec![Entry { data: vec![7; 300], ..Entry::default() }];
        let message = Message { to: 3, from: u64::MAX, term: 9, entries, ..Message::default() };
        let bytes = message.encode_to_vec();
        let envelope = Envelope { to: 3, from: u64::MAX };
        assert_eq!(prost::Message::decode(bytes.as_slice()), Ok(envelope));
    }
}
