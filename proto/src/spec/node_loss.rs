use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::version::ClusterVersion;

/// What becomes of a running task whose host has lost touch with every controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutOffAction {
    /// It goes on. The cluster may run another one in its place meanwhile.
    #[default]
    Keep,
    /// Its host stops it before the cluster may run another one.
    Stop,
}

impl CutOffAction {
    /// The word in stack files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Stop => "stop",
        }
    }
}

/// What becomes of tasks whose node is lost, or cut off (`x-swarm: unreachable_after`, `on_cut_off`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeLossPolicy {
    /// How long a task is left alone after its node went down; zero replaces it at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unreachable_after: Duration,
    /// What its own host does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_cut_off: CutOffAction,
}

impl NodeLossPolicy {
    /// The longest that a task can be left alone: a week.
    pub const LONGEST: Duration = Duration::from_hours(7 * 24);
    /// A task that its own host stops is given up at the earliest so long after that host must be done, beside a quarter
    /// of the whole time for clocks that do not go equally fast.
    const MARGIN: Duration = Duration::from_secs(5);

    /// Whether its own host stops a task before another one takes its place: it never runs twice.
    pub fn runs_once(&self) -> bool {
        self.on_cut_off == CutOffAction::Stop
    }

    /// How long a host may run such a task without the word of a leader, counted from when it sent what the leader
    /// answered last; `None` is for ever. `node_down_after` is the cluster's.
    pub fn lease(&self, node_down_after: Duration) -> Option<Duration> {
        let lease = node_down_after.saturating_add(self.unreachable_after);
        self.runs_once().then_some(lease)
    }

    /// How long controllers wait since they heard a node last until its host has surely stopped such a task, which has
    /// `grace` to end; `None` where its host does not stop it.
    pub fn fence(&self, node_down_after: Duration, grace: Duration) -> Option<Duration> {
        let done = self.lease(node_down_after)?.saturating_add(grace);
        Some(done.saturating_add(done / 4).saturating_add(Self::MARGIN))
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        if *self == Self::default() { ClusterVersion::FIRST } else { ClusterVersion(4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_waits_longer_than_its_predecessor_may_run() {
        let seconds = Duration::from_secs;
        let policy = |unreachable_after, on_cut_off| NodeLossPolicy {
            unreachable_after: seconds(unreachable_after),
            on_cut_off,
        };
        assert_eq!(policy(60, CutOffAction::Keep).lease(seconds(4)), None);
        assert_eq!(policy(60, CutOffAction::Keep).fence(seconds(4), seconds(10)), None);
        for (after, grace) in [(0, 0), (0, 10), (60, 10), (3_600, 600)] {
            let policy = policy(after, CutOffAction::Stop);
            let lease = policy.lease(seconds(4)).unwrap();
            assert_eq!(lease, seconds(4 + after));
            let fence = policy.fence(seconds(4), seconds(grace)).unwrap();
            // Also where the controllers' clocks go a quarter too fast.
            assert!(fence * 4 / 5 >= lease + seconds(grace) + seconds(4), "{after} {grace}");
        }
        let longest =
            NodeLossPolicy { unreachable_after: Duration::MAX, ..policy(0, CutOffAction::Stop) };
        assert_eq!(longest.fence(Duration::MAX, Duration::MAX), Some(Duration::MAX));
    }
}
