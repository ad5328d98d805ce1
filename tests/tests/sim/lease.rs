//! Tasks that may run only with the word of a leader, on agents that pretend.

use std::collections::VecDeque;

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{TaskState, TaskStatus};
use swarm_tests::random::Random;

/// Whether a task may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Valid,
    Expired,
    Overdue,
}

/// What an agent, and the shims of its containers, know of a leader's word. It lasts as long as the machine has power.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// When the heartbeat was sent that was answered last.
    renewed: Option<u64>,
    /// When each was sent that is not answered, if it counts.
    unanswered: VecDeque<Option<u64>>,
}

impl Lease {
    pub(crate) fn end_session(&mut self) {
        self.unanswered.clear();
    }

    /// A heartbeat was sent. Before the agent was told what shall run, it does not count.
    pub(crate) fn sent(&mut self, counts: bool, now: u64) {
        self.unanswered.push_back(counts.then_some(now));
    }

    pub(crate) fn answered(&mut self) {
        let sent = self.unanswered.pop_front().flatten();
        self.renewed = self.renewed.max(sent);
    }

    pub(crate) fn standing(&self, task: &TaskAssignment, now: u64) -> Standing {
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap();
        let Some(lease) = task.lease.map(milliseconds) else { return Standing::Valid };
        let Some(renewed) = self.renewed else { return Standing::Overdue };
        if now < renewed + lease {
            Standing::Valid
        } else if now < renewed + lease + milliseconds(task.container.stop_grace_period) {
            Standing::Expired
        } else {
            Standing::Overdue
        }
    }
}

/// Stops what may not run any longer, some of it only at the last moment; true when it has stopped now.
pub(crate) fn step(
    status: &mut TaskStatus,
    standing: Standing,
    now: u64,
    random: &mut Random,
) -> bool {
    let runs = matches!(status.state, TaskState::Starting | TaskState::Running);
    let stops = match standing {
        Standing::Valid => false,
        Standing::Expired => runs && random.chance(2),
        Standing::Overdue => runs,
    };
    if stops {
        *status = TaskStatus {
            message: "cut off".to_owned(),
            ..TaskStatus::new(TaskState::Failed, Timestamp(now))
        };
    }
    stops
}
