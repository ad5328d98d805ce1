//! Which nodes run controllers now, as the leader said last: what another node asks of this host is refused, whatever its
//! certificate says, and the connections of one that was removed are cut.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use swarm_proto::id::NodeId;
use swarm_proto::transport::{Connections, Peer, PeerRole};
use tonic::Status;

/// See the module.
#[derive(Debug, Default)]
pub struct Controllers {
    /// Empty until a leader has told.
    known: RwLock<BTreeSet<NodeId>>,
    /// `host:port` of the one that the session is with, or was with last.
    in_session: RwLock<Option<String>>,
    connections: Arc<Connections>,
}

impl Controllers {
    /// The connections to this host's own service.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Takes what a leader told. One of version 0.1.0 tells nothing: then every controller's certificate is good.
    pub fn set(&self, nodes: &[u64]) {
        let nodes: BTreeSet<NodeId> = nodes.iter().copied().map(NodeId).collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.is_empty() || nodes == *known {
            return;
        }
        for removed in known.difference(&nodes) {
            tracing::info!(node = %removed, "a node runs no controller any more");
            self.connections.cut(*removed);
        }
        *known = nodes;
    }

    /// `host:port` of the controller that the session is with, or was with last.
    pub fn in_session(&self) -> Option<String> {
        self.in_session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session began.
    pub fn set_in_session(&self, address: &str) {
        let mut known = self.in_session.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(address.to_owned());
    }

    /// Refuses who may not make this call: `ImageStore/ReadBlob` is for agents too, of whom the service itself asks
    /// whether they are members.
    pub fn check_call(&self, call: &str, peer: &Peer) -> Result<(), Status> {
        if call == "ImageStore/ReadBlob" && peer.role == PeerRole::Agent {
            return Ok(());
        }
        self.check(peer)
    }

    /// Refuses a node that runs no controller.
    pub fn check(&self, peer: &Peer) -> Result<(), Status> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match peer.node_id {
            Some(node) if !known.is_empty() && !known.contains(&node) => {
                Err(Status::permission_denied(format!(
                    "node {node} runs no controller of this cluster\n\n\
                     hint: when it was removed, clear its state folder and join it again"
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(node: u64) -> Peer {
        let name = node.to_string();
        Peer { node_id: Some(NodeId(node)), name, role: PeerRole::Controller, ..Peer::local() }
    }

    #[test]
    fn a_removed_controller_is_refused_as_soon_as_the_leader_says_so() {
        let controllers = Controllers::default();
        assert!(controllers.check(&controller(3)).is_ok(), "nobody has told yet");
        controllers.set(&[1, 2, 3]);
        assert!(controllers.check(&controller(3)).is_ok());
        controllers.set(&[1, 2]);
        let refused = controllers.check(&controller(3)).unwrap_err();
        assert!(refused.message().starts_with("node 3 runs no controller of this cluster"));
        assert!(controllers.check(&controller(2)).is_ok());
        assert!(controllers.check(&Peer::local()).is_ok());
        controllers.set(&[]);
        assert!(controllers.check(&controller(3)).is_err(), "an empty list says nothing");
    }
}
