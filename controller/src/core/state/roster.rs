//! The controllers of a state, looked for only when its nodes have changed: agents are told of them with every heartbeat.

use std::sync::Arc;

use imbl::OrdMap;
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::Node;

use super::{State, Stored};

/// A controller: its member of the Raft group, its node and its `host:port`.
pub type Controller = (RaftId, NodeId, String);

/// See the module.
#[derive(Debug, Default)]
pub struct Roster {
    nodes: OrdMap<NodeId, Stored<Node>>,
    controllers: Arc<Vec<Controller>>,
}

impl Roster {
    /// Every controller of a state.
    pub fn of(&mut self, state: &State) -> Arc<Vec<Controller>> {
        if !self.nodes.ptr_eq(&state.nodes) {
            self.nodes = state.nodes.clone();
            self.controllers = Arc::new(state.controllers());
        }
        Arc::clone(&self.controllers)
    }
}

#[cfg(test)]
mod tests {
    use swarm_proto::id::Timestamp;
    use swarm_proto::object::{Cluster, Secret};

    use super::*;
    use crate::core::{Core, CoreConfig, Recovered, bootstrap};

    #[test]
    fn a_changed_state_is_looked_at_again() {
        let cluster = Cluster::new("0".repeat(32), String::new(), Secret::default());
        let first = bootstrap(cluster, "n1", "n1:2377", Timestamp(1));
        let snapshot = first.snapshot.map(|s| (s.index, s.term, s.encode()));
        let disk = Recovered { hard_state: first.hard_state, snapshot, entries: Vec::new() };
        let core = Core::new(CoreConfig::new(RaftId(1), disk)).unwrap();
        let mut roster = Roster::default();
        assert!(roster.of(&State::default()).is_empty());
        let known = roster.of(core.state());
        assert_eq!(*known, core.state().controllers());
        assert_eq!(known.len(), 1);
        assert!(Arc::ptr_eq(&known, &roster.of(&core.state().clone())));
        assert!(roster.of(&State::default()).is_empty());
    }
}
