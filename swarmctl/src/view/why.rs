use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Task, TaskState};

use super::View;
use crate::state::State;

/// Why a task is where it is, or is not, as `why` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyView {
    /// `7.2.1`: service, slot, generation.
    pub id: String,
    /// `<stack>_<service>.<slot>`
    pub name: String,
    /// How far it is.
    pub state: String,
    /// The node's host name.
    pub node: Option<String>,
    /// Why, for a person.
    pub reason: String,
    /// The name of the task of a service of higher priority for which it was stopped.
    pub preempted_by: Option<String>,
    /// The names of the tasks that were stopped for it and still end.
    pub preempts: Vec<String>,
}

impl WhyView {
    /// The view of one task.
    pub fn of(state: &State, task: &Task) -> Self {
        let ends = |victim: &&Task| {
            victim.preempted_by == Some(task.id) && !victim.status.state.is_terminal()
        };
        Self {
            id: task.id.to_string(),
            name: state.task_name(task),
            state: task.status.state.to_string(),
            node: task.node.map(|node| state.node_name(node)),
            reason: reason(state, task),
            preempted_by: task.preempted_by.map(|by| state.name_of_task(by)),
            preempts: state.tasks.values().filter(ends).map(|one| state.task_name(one)).collect(),
        }
    }
}

fn reason(state: &State, task: &Task) -> String {
    let node = task.node.map(|node| state.node_name(node)).unwrap_or_default();
    let message = &task.status.message;
    if let Some(by) = task.preempted_by {
        let priority = |service| state.services.get(&service).map(|one| one.spec.priority);
        let (own, higher) = (priority(task.id.service), priority(by.service));
        let of = |priority: Option<i32>| priority.map_or("?".to_owned(), |one| one.to_string());
        return format!(
            "made place on {node} for `{}`, whose service has priority {}; its own has {}",
            state.name_of_task(by),
            of(higher),
            of(own),
        );
    }
    match (task.status.state, task.status.exit_code) {
        (TaskState::New, _) if message.is_empty() => "waits for addresses".to_owned(),
        (TaskState::Pending, _) if message.is_empty() => "waits for a node".to_owned(),
        (state, Some(code)) if state.is_terminal() && message.is_empty() => {
            format!("ended on {node} with exit code {code}")
        }
        (state, _) if message.is_empty() && state.is_terminal() => format!("was ended on {node}"),
        (_, _) if message.is_empty() => {
            let given = task.resources.iter().map(|(kind, one)| format!("{kind} {one}"));
            let given: Vec<String> = given.collect();
            let given = if given.is_empty() {
                String::new()
            } else {
                format!(", with {}", given.join("; "))
            };
            format!("{node} met its service's constraints and had room{given}")
        }
        _ => message.clone(),
    }
}

impl View for WhyView {
    const COLUMNS: &'static [&'static str] = &["TASK", "STATE", "NODE", "REASON"];
    const WIDE_COLUMNS: &'static [&'static str] = &["ID"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let node = self.node.clone().unwrap_or_default();
        vec![self.name.clone(), self.state.clone(), node, self.reason.clone()]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.id.clone()]
    }
}
