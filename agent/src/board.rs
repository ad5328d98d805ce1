//! What the session shall report: the newest status of each task, and what stands or is gone on the host.
//!
//! Nothing is queued: a status that changes twice before it is sent is sent once. A report counts as heard when the
//! controller has answered something that was sent after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use swarm_proto::id::{NetworkId, TaskId};
use swarm_proto::object::TaskStatus;
use tokio::sync::Notify;

/// Removals that are told again after a reconnect.
const REMEMBERED: usize = 1024;

/// One report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Changed statuses.
    pub statuses: Vec<(TaskId, TaskStatus)>,
    /// Versions of all networks that stand; `None` when nothing changed.
    pub networks: Option<BTreeMap<NetworkId, u64>>,
    /// Networks that are gone.
    pub removed_networks: Vec<NetworkId>,
    /// Tasks that are gone.
    pub removed_tasks: Vec<TaskId>,
    /// Volumes changed.
    pub volumes: bool,
}

#[derive(Debug, Default)]
struct Inner {
    statuses: BTreeMap<TaskId, TaskStatus>,
    changed: BTreeSet<TaskId>,
    /// Statuses that were sent, each with the number of the heartbeat that follows it.
    sent: Vec<(TaskId, TaskStatus, u64)>,
    heard: BTreeSet<TaskId>,
    standing: BTreeMap<NetworkId, u64>,
    standing_changed: bool,
    gone_networks: VecDeque<NetworkId>,
    gone_tasks: VecDeque<TaskId>,
    /// How many of the removals, from the end, were not told in this session.
    untold: (usize, usize),
    volumes_changed: bool,
}

/// The board.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
    /// Something is to be reported.
    news: Notify,
    /// Something was heard by a controller.
    pub heard: Notify,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is something to report.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// A task's status changed.
    pub fn set_status(&self, task: TaskId, status: TaskStatus) {
        let mut inner = self.lock();
        inner.heard.remove(&task);
        inner.statuses.insert(task, status);
        inner.changed.insert(task);
        self.news.notify_one();
    }

    /// A task is gone without a trace.
    pub fn task_gone(&self, task: TaskId) {
        let mut inner = self.lock();
        inner.statuses.remove(&task);
        inner.changed.remove(&task);
        inner.heard.remove(&task);
        let inner = &mut *inner;
        remember(&mut inner.gone_tasks, task, &mut inner.untold.0);
        self.news.notify_one();
    }

    /// A network is gone without a trace.
    pub fn network_gone(&self, network: NetworkId) {
        let mut inner = self.lock();
        inner.standing.remove(&network);
        inner.standing_changed = true;
        let inner = &mut *inner;
        remember(&mut inner.gone_networks, network, &mut inner.untold.1);
        self.news.notify_one();
    }

    /// A network is wanted again.
    pub fn network_back(&self, network: NetworkId) {
        let mut inner = self.lock();
        inner.gone_networks.retain(|gone| *gone != network);
        inner.untold.1 = inner.untold.1.min(inner.gone_networks.len());
    }

    /// The networks that stand.
    pub fn set_standing(&self, standing: BTreeMap<NetworkId, u64>) {
        let mut inner = self.lock();
        if inner.standing != standing {
            inner.standing = standing;
            inner.standing_changed = true;
            self.news.notify_one();
        }
    }

    /// Volumes were made or removed.
    pub fn volumes_changed(&self) {
        self.lock().volumes_changed = true;
        self.news.notify_one();
    }

    /// Everything, for the beginning of a session. What was sent in an earlier one and never answered counts for
    /// nothing.
    pub fn begin(&self) -> Vec<(TaskId, TaskStatus)> {
        let mut inner = self.lock();
        inner.changed.clear();
        inner.standing_changed = true;
        inner.untold = (inner.gone_tasks.len(), inner.gone_networks.len());
        let all: Vec<_> = inner.statuses.iter().map(|(id, s)| (*id, s.clone())).collect();
        inner.sent = all.iter().map(|(id, status)| (*id, status.clone(), 0)).collect();
        self.news.notify_one();
        all
    }

    /// What changed since the last call. `heartbeat` is the number of the next heartbeat.
    pub fn take(&self, heartbeat: u64) -> Report {
        let mut inner = self.lock();
        let changed = std::mem::take(&mut inner.changed);
        let statuses: Vec<_> = changed
            .into_iter()
            .filter_map(|id| Some((id, inner.statuses.get(&id)?.clone())))
            .collect();
        inner.sent.extend(statuses.iter().map(|(id, s)| (*id, s.clone(), heartbeat)));
        let (tasks, networks) = std::mem::take(&mut inner.untold);
        let standing_changed = std::mem::take(&mut inner.standing_changed);
        Report {
            statuses,
            networks: standing_changed.then(|| inner.standing.clone()),
            removed_networks: newest(&inner.gone_networks, networks),
            removed_tasks: newest(&inner.gone_tasks, tasks),
            volumes: std::mem::take(&mut inner.volumes_changed),
        }
    }

    /// The controller has answered heartbeat `heartbeat`, so it knows what was sent before. Returns the tasks whose end
    /// it has heard of.
    pub fn answered(&self, heartbeat: u64) -> Vec<TaskId> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut ended = Vec::new();
        inner.sent.retain(|(task, status, before)| {
            let heard = *before <= heartbeat;
            if heard && status.state.is_terminal() && inner.statuses.get(task) == Some(status) {
                ended.push(*task);
            }
            !heard
        });
        ended.retain(|task| inner.heard.insert(*task));
        if !ended.is_empty() {
            self.heard.notify_waiters();
        }
        ended
    }

    /// An earlier agent's session reported this task's end.
    pub fn set_heard(&self, task: TaskId) {
        self.lock().heard.insert(task);
    }

    /// Whether a controller has heard of a task's end.
    pub fn is_heard(&self, task: TaskId) -> bool {
        self.lock().heard.contains(&task)
    }
}

fn remember<T: PartialEq>(gone: &mut VecDeque<T>, what: T, untold: &mut usize) {
    gone.retain(|known| *known != what);
    gone.push_back(what);
    *untold += 1;
    if gone.len() > REMEMBERED {
        gone.pop_front();
    }
    *untold = (*untold).min(gone.len());
}

fn newest<T: Copy>(gone: &VecDeque<T>, count: usize) -> Vec<T> {
    gone.iter().rev().take(count).rev().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use swarm_proto::object::TaskState;

    fn id(text: &str) -> TaskId {
        text.parse().unwrap()
    }

    fn status(state: TaskState) -> TaskStatus {
        testing::progress(state).status
    }

    #[test]
    fn only_the_newest_status_is_sent() {
        let board = Board::default();
        board.begin();
        board.take(1);
        board.set_status(id("1.1.1"), status(TaskState::Preparing));
        board.set_status(id("1.1.1"), status(TaskState::Running));
        let report = board.take(1);
        assert_eq!(report.statuses, [(id("1.1.1"), status(TaskState::Running))]);
        assert_eq!(board.take(1), Report::default());
    }

    #[test]
    fn an_end_is_heard_once_a_later_heartbeat_is_answered() {
        let board = Board::default();
        board.begin();
        let task = id("1.1.1");
        board.set_status(task, status(TaskState::Failed));
        board.take(3);
        assert!(board.answered(2).is_empty());
        assert!(!board.is_heard(task));
        assert_eq!(board.answered(3), [task]);
        assert!(board.is_heard(task));
        assert!(board.answered(4).is_empty(), "said twice");
    }

    #[test]
    fn what_a_lost_session_sent_is_sent_again() {
        let board = Board::default();
        board.begin();
        let (task, gone) = (id("1.1.1"), id("1.2.1"));
        board.set_status(task, status(TaskState::Failed));
        board.task_gone(gone);
        board.network_gone(NetworkId(4));
        let first = board.take(1);
        assert_eq!((first.removed_tasks, first.removed_networks), (vec![gone], vec![NetworkId(4)]));
        assert_eq!(board.begin(), [(task, status(TaskState::Failed))]);
        let again = board.take(1);
        assert_eq!((again.removed_tasks, again.removed_networks), (vec![gone], vec![NetworkId(4)]));
        assert_eq!(board.answered(0), [task], "the answer to the hello");
    }

    #[test]
    fn a_changed_status_is_not_heard_by_an_older_answer() {
        let board = Board::default();
        board.begin();
        let task = id("1.1.1");
        board.set_status(task, status(TaskState::Failed));
        board.take(1);
        board.set_status(task, TaskStatus { attempt: 2, ..status(TaskState::Running) });
        assert!(board.answered(1).is_empty());
        assert!(!board.is_heard(task));
    }

    #[test]
    fn a_network_that_is_back_is_not_told_gone() {
        let board = Board::default();
        board.network_gone(NetworkId(4));
        board.network_back(NetworkId(4));
        assert!(board.take(1).removed_networks.is_empty());
    }
}
