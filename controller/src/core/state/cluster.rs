//! Writes of the cluster itself: its settings, and the moves that it remembers.

use std::sync::Arc;

use swarm_proto::id::TaskId;
use swarm_proto::object::Cluster;

use super::State;

impl State {
    /// Takes the cluster's settings over. What was moved is no setting: who wrote them may not know of the last move.
    pub(super) fn set_cluster(&mut self, cluster: &Cluster) {
        let mut new = cluster.clone();
        match &self.cluster {
            Some(old) => new.rebalance.recent.clone_from(&old.rebalance.recent),
            None => self.next.vni = cluster.vni_base,
        }
        self.cluster = Some(Arc::new(new));
    }

    /// Counts a move of a task, unless there were as many within the last minute as may be.
    pub(super) fn count_move(&mut self, id: TaskId) -> Option<()> {
        let cluster = self.cluster.as_mut().filter(|_| self.tasks.contains_key(&id))?;
        if cluster.rebalance.room_at(self.clock).is_some() {
            return None;
        }
        Arc::make_mut(cluster).rebalance.note(id, self.clock);
        self.mix_task(id, self.clock.0);
        Some(())
    }
}
