//! The first state of a cluster that is restored from a backup.
//!
//! Hosts may know of things that happened after the backup. Nothing that they know may be mistaken for something that
//! the restored cluster makes anew, so everything that counts leaps ahead: identities, generations of slots, versions.

use std::sync::Arc;

use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::Role;
use swarm_proto::version::ClusterVersion;

use super::State;

/// How far identities leap, beside one for each tenth of a second since the backup and a random part: more than a cluster
/// makes of a kind between its last backup and its end. The same backup may be restored again, with a clock that is wrong:
/// for time and chance, what either cluster makes has other identities.
const LEAP: u64 = 1_000;
/// How far network identifiers leap, of which there are few.
const IDENTIFIER_LEAP: u32 = 1_000;
/// What generations leap at most, most of it time: 310 days. There is room for sixteen such leaps.
const MOST_GENERATIONS: u32 = 1 << 28;
/// How many random parts there are.
const CHANCE: u64 = 1 << 16;
/// Link addresses are made with each task.
const LINK_LEAP: u64 = 64;
/// How far versions leap: they count entries of the log.
const VERSION_LEAP: u64 = 1 << 32;

impl State {
    /// The state with which a restored cluster begins: no node runs a controller any more, and all nodes are told
    /// everything anew. `mark` is random.
    pub(crate) fn restored(mut self, now: Timestamp, mark: u64) -> Self {
        self.version += VERSION_LEAP;
        self.applied += 1;
        let since = now.0.saturating_sub(self.clock.0) / 100;
        let leap = LEAP + since + mark % CHANCE;
        let generations = u32::try_from(leap).unwrap_or(u32::MAX).min(MOST_GENERATIONS);
        self.clock = self.clock.max(now);
        if let Some(cluster) = &mut self.cluster {
            let cluster = Arc::make_mut(cluster);
            cluster.incarnation = cluster.incarnation.next(self.clock, mark);
        }
        // Its only controller is this program.
        self.cluster_version = ClusterVersion::NEWEST;
        let next = &mut self.next;
        for counter in
            [&mut next.node, &mut next.raft, &mut next.service, &mut next.network, &mut next.volume]
        {
            *counter += leap;
        }
        next.mac += LINK_LEAP * leap;
        next.vni += IDENTIFIER_LEAP;
        next.generation = next.generation.saturating_add(generations);
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            if let Some(history) = self.slots.get_mut(&key) {
                history.generation = history.generation.saturating_add(generations);
            }
        }
        for network in self.network_versions.keys().copied().collect::<Vec<_>>() {
            self.network_versions.insert(network, self.version);
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let object = Arc::make_mut(&mut node.object);
            object.role = Role::Agent;
            object.raft_id = None;
            object.controller_address = None;
            node.versions.spec += 1;
            node.versions.status += 1;
        }
        self.build_index();
        self
    }

    /// Makes a node that the cluster knows its first controller. `None` when it knows no such node.
    pub(crate) fn make_first_controller(&mut self, id: NodeId, address: &str) -> Option<RaftId> {
        let raft_id = RaftId(self.next.raft);
        let node = self.nodes.get_mut(&id)?;
        let object = Arc::make_mut(&mut node.object);
        object.role = Role::Controller;
        object.raft_id = Some(raft_id);
        object.controller_address = Some(address.to_owned());
        self.next.raft += 1;
        Some(raft_id)
    }
}

#[cfg(test)]
mod tests {
    use swarm_proto::id::{ServiceId, Slot};

    use super::*;

    #[test]
    fn a_backup_that_is_restored_twice_makes_other_identities_each_time() {
        let restored = |now, mark| State::default().restored(Timestamp(now), mark).next;
        let first = restored(5_000, 7);
        let same = restored(5_000, 8);
        let later = restored(5_100, 7);
        for other in [same, later] {
            assert!(other.node > first.node && other.raft > first.raft, "{other:?}");
            assert!(other.generation > first.generation, "{other:?}");
        }
        let late = restored(u64::MAX, u64::MAX);
        assert_eq!(late.generation, MOST_GENERATIONS);
    }

    #[test]
    fn slots_that_the_backup_does_not_know_have_other_tasks_than_before() {
        let state = State::default().restored(Timestamp(0), 0);
        let history = state.history((ServiceId(1), Slot::Replica(1)));
        assert_eq!(u64::from(history.generation), LEAP);
    }
}
