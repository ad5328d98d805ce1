use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use super::View;

/// What a deploy would bring about first, as `plan -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanView {
    /// The stack.
    pub stack: String,
    /// What would change, a sentence each.
    pub changes: Vec<String>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// New tasks of the stack.
    pub tasks: Vec<PlannedTaskView>,
    /// Tasks that would be stopped to make place for those of a higher priority.
    pub preempted: Vec<PreemptionView>,
    /// Whether more tasks would be made or stopped at once than are told.
    pub cut: bool,
}

/// A task that would be made, or stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedTaskView {
    /// Its full name.
    pub task: String,
    /// The node's host name; none for one that would wait.
    pub node: Option<String>,
    /// Why it would wait, or be stopped.
    pub reason: String,
}

/// A task that would be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreemptionView {
    /// Its full name.
    pub task: String,
    /// The node's host name.
    pub node: String,
    /// Its service's priority.
    pub priority: i32,
    /// The full name of the task that would get its place.
    pub for_task: String,
    /// That one's service's priority.
    pub for_priority: i32,
}

impl PlanView {
    /// The view of a controller's answer.
    pub fn of(stack: &str, plan: wire::DeployPlan) -> Self {
        let task = |task: wire::PlannedTask| PlannedTaskView {
            task: task.task,
            node: Some(task.node).filter(|node| !node.is_empty()),
            reason: task.reason,
        };
        let preemption = |gone: wire::PlannedPreemption| PreemptionView {
            task: gone.task,
            node: gone.node,
            priority: gone.priority,
            for_task: gone.for_task,
            for_priority: gone.for_priority,
        };
        Self {
            stack: stack.to_owned(),
            changes: plan.changes,
            warnings: plan.warnings,
            tasks: plan.tasks.into_iter().map(task).collect(),
            preempted: plan.preempted.into_iter().map(preemption).collect(),
            cut: plan.cut,
        }
    }

    /// The same as rows of one table.
    pub fn rows(&self) -> Vec<PlannedTaskView> {
        let stopped = self.preempted.iter().map(|gone| PlannedTaskView {
            task: gone.task.clone(),
            node: Some(gone.node.clone()),
            reason: format!(
                "would be stopped to make place for `{}`, of priority {}; its own is {}",
                gone.for_task, gone.for_priority, gone.priority
            ),
        });
        self.tasks.iter().cloned().chain(stopped).collect()
    }
}

impl View for PlannedTaskView {
    const COLUMNS: &'static [&'static str] = &["TASK", "NODE", "REASON"];
    const WIDE_COLUMNS: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.task.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.task.clone(), self.node.clone().unwrap_or_default(), self.reason.clone()]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
