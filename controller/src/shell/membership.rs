//! Which nodes are still members: every call of a removed one is refused, and its connections are cut.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::transport::{Connections, Departure, Peer, PeerRole};
use tokio::time::sleep;
use tonic::Status;

use super::hub::{Hub, View};
use super::refusal::Refusal;
use crate::core::State;

/// From a node's removal until its connections are cut: its session says goodbye meanwhile. Also the pause between two
/// looks, so that a busy cluster is not looked through at each write.
const FAREWELL: Duration = Duration::from_millis(250);

/// Whether a node was a member once, as this controller knows it. One that this controller has not heard of yet was not.
pub fn was_removed(state: &State, node: NodeId) -> bool {
    node.0 < state.next.node && !state.nodes.contains_key(&node)
}

/// Members of the Raft group whose node was removed. Until the group has let them go, they may still have to confirm
/// that it does.
pub fn leaving(view: &View) -> BTreeSet<RaftId> {
    let staying: BTreeSet<RaftId> =
        view.state.nodes.values().filter_map(|node| node.raft_id).collect();
    let members = view.members.voters.iter().chain(&view.members.learners);
    members.filter(|member| !staying.contains(member)).copied().collect()
}

/// Refuses a removed node's call. `call` is its name: `Raft/Messages`.
pub fn check(hub: &Hub, call: &str, peer: &Peer) -> Result<(), Status> {
    let Some(node) = peer.node_id else { return Ok(()) };
    let view = hub.view();
    if !was_removed(&view.state, node) {
        return Ok(());
    }
    let may_confirm = call.starts_with("Raft/") && peer.role == PeerRole::Controller;
    if may_confirm && !leaving(&view).is_empty() {
        return Ok(());
    }
    let hint = "to let this host in again, remove its state folder and join it anew";
    let refusal = Refusal::denied(format!("node {node} was removed from the cluster")).hint(hint);
    Err(Departure::Removed.mark(refusal.into()))
}

/// Cuts the connections of removed nodes until the process stops.
pub async fn cut_removed(hub: Arc<Hub>, connections: Arc<Connections>) {
    let mut views = hub.follow();
    while views.changed().await.is_ok() {
        sleep(FAREWELL).await;
        let view = views.borrow_and_update().clone();
        if !leaving(&view).is_empty() {
            continue;
        }
        for node in connections.nodes() {
            if was_removed(&view.state, node) {
                tracing::info!(%node, "cut the connections of a removed node");
                connections.cut(node);
            }
        }
    }
}
