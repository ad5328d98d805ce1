use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Attachment, GenericResources, HealthState, TaskHealth};
use crate::id::{Attempt, NodeId, ParseIdError, TaskId, Timestamp};
use crate::spec::is_default;

/// A task's life, in order. A state only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Created, without addresses.
    New,
    /// Has addresses, waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The agent knows it.
    Accepted,
    /// The agent fetches the image and builds the surroundings.
    Preparing,
    /// Could start at once.
    Ready,
    /// The container is being started.
    Starting,
    /// The container runs.
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Was stopped because the controller wished it.
    Shutdown,
    /// Ended by itself otherwise, or could not be started.
    Failed,
    /// The agent refused it: it can never run there.
    Rejected,
    /// To be removed with all that it made. Only a desired state.
    Remove,
    /// Its node is lost; nobody knows.
    Orphaned,
}

impl TaskState {
    /// Whether the task's run is over.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// All states in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| ParseIdError { kind: "task state", text: text.to_owned() })
    }
}

/// What is known of a task's run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// How far it is.
    pub state: TaskState,
    /// When it came there: the leader's clock for what the controller decides, the agent's for what it saw.
    pub since: Timestamp,
    /// Why, for a person: what it waits for, or how it ended. Empty when there is nothing to say.
    pub message: String,
    /// The container's exit code, once it ended; 128 + n when signal n ended it.
    pub exit_code: Option<i32>,
    /// The container's first process in the host's pid namespace, while it runs.
    pub pid: Option<u32>,
    /// When the container's first process started.
    pub started_at: Option<Timestamp>,
    /// Counts the containers of this task: above 1 only when the agent restarted it by itself while cut off.
    pub attempt: Attempt,
    /// What the checks of its health say, while it is started; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<TaskHealth>,
}

impl TaskStatus {
    /// At a state, with nothing else known.
    pub fn new(state: TaskState, since: Timestamp) -> Self {
        Self {
            state,
            since,
            message: String::new(),
            exit_code: None,
            pid: None,
            started_at: None,
            attempt: 1,
            health: None,
        }
    }

    /// Whether the task runs and its checks say that clients must not be led to it.
    pub fn is_unhealthy(&self) -> bool {
        self.health.as_ref().is_some_and(|health| health.state == HealthState::Unhealthy)
    }
}

/// One run of a service on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// The version of the service's spec that it runs.
    pub spec_version: u64,
    /// Where it runs; set once.
    pub node: Option<NodeId>,
    /// What the controller wants: `Running`, `Shutdown` or `Remove` (and `Ready` for one that waits out its restart delay).
    pub desired: TaskState,
    /// When a task that waits out its restart delay may start.
    pub start_after: Option<Timestamp>,
    /// What is known.
    pub status: TaskStatus,
    /// Its addresses, one for each network of the service.
    pub attachments: Vec<Attachment>,
    /// When it was created.
    pub created_at: Timestamp,
    /// The run of a job that it belongs to, by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// What it was given of its node's generic resources: its own until it has surely ended.
    #[serde(default, skip_serializing_if = "GenericResources::is_empty")]
    pub resources: GenericResources,
    /// The task of a service of higher priority for which it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted_by: Option<TaskId>,
    /// No client is led to it: its service's update has not switched to its spec, or has switched to another.
    #[serde(default, skip_serializing_if = "is_default")]
    pub standby: bool,
}
