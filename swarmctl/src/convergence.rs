//! Whether a stack is as its specs say: what runs, what is still missing, and why.

use std::collections::BTreeSet;

use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{Availability, Node, NodeStatus, Role, Service, Task, TaskState};
use swarm_proto::spec::{Constraint, ConstraintKey, RestartCondition, ServiceMode};

use crate::state::State;

/// How far one service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceProgress {
    /// Its key in the file.
    pub key: String,
    /// Places that should have a running (or complete) task.
    pub wanted: usize,
    /// Places that have one of the current spec.
    pub done: usize,
    /// Tasks that still have to go.
    pub leaving: usize,
    /// The service itself is being removed.
    pub removing: bool,
    /// Why places are empty: task name and reason, most telling first.
    pub stuck: Vec<(String, String)>,
    /// A task that ended badly and is never replaced: nothing is to be waited for.
    pub lost: Option<(String, String)>,
    /// When the youngest of its running tasks came up.
    pub youngest: Timestamp,
}

impl ServiceProgress {
    /// Whether nothing is owed.
    pub fn is_converged(&self) -> bool {
        self.done >= self.wanted && self.leaving == 0 && !self.removing
    }

    /// In words: `2 of 3 running, 1 stopping`.
    pub fn words(&self) -> String {
        if self.removing {
            return match self.leaving {
                0 => "being removed".to_owned(),
                leaving => format!("being removed, {leaving} stopping"),
            };
        }
        let leaving = match self.leaving {
            0 => String::new(),
            leaving => format!(", {leaving} stopping"),
        };
        format!("{} of {} running{leaving}", self.done, self.wanted)
    }
}

/// How far each service of a stack is, in the order of their names.
pub fn of_stack(state: &State, stack: &str) -> Vec<ServiceProgress> {
    state.services_of(stack).into_iter().map(|service| of_service(state, service)).collect()
}

/// How far one service is.
pub fn of_service(state: &State, service: &Service) -> ServiceProgress {
    let slots = wanted_slots(state, service);
    let tasks: Vec<&Task> = state.tasks_of(service.id).collect();
    let is_done = |task: &Task| {
        let runs = task.status.state == TaskState::Running && task.desired == TaskState::Running;
        let is_complete = task.status.state == TaskState::Complete
            && service.spec.restart.condition != RestartCondition::Any;
        task.spec_version == service.spec_version
            && (runs || is_complete)
            && !on_lost_node(state, task)
    };
    let done_tasks = || tasks.iter().filter(|task| slots.contains(&task.id.slot) && is_done(task));
    let done: BTreeSet<Slot> = done_tasks().map(|task| task.id.slot).collect();
    let leaving = tasks
        .iter()
        .filter(|task| {
            let is_old = service.removing
                || task.spec_version != service.spec_version
                || task.desired > TaskState::Running
                || !slots.contains(&task.id.slot);
            let has_begun = task.status.state >= TaskState::Assigned && task.node.is_some();
            is_old && has_begun && !task.status.state.is_terminal() && !on_lost_node(state, task)
        })
        .count();
    let missing: Vec<Slot> = slots.difference(&done).copied().collect();
    ServiceProgress {
        key: service.key.clone(),
        wanted: if service.removing { 0 } else { slots.len() },
        done: done.len(),
        leaving,
        removing: service.removing,
        stuck: stuck(state, &tasks, &missing),
        lost: lost(state, service, &tasks, &missing),
        youngest: done_tasks().map(|task| task.status.since).max().unwrap_or_default(),
    }
}

fn wanted_slots(state: &State, service: &Service) -> BTreeSet<Slot> {
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => (1..=replicas).map(Slot::Replica).collect(),
        ServiceMode::Global => {
            let eligible = |node: &&Node| {
                let constraints = &service.spec.placement.constraints;
                node.status == NodeStatus::Ready
                    && node.availability == Availability::Active
                    && constraints.iter().all(|constraint| holds(node, constraint))
            };
            state.nodes.values().filter(eligible).map(|node| Slot::Node(node.id)).collect()
        }
    }
}

fn holds(node: &Node, constraint: &Constraint) -> bool {
    let description = &node.description;
    let value = match &constraint.key {
        ConstraintKey::NodeId => node.id.to_string(),
        ConstraintKey::NodeHostname => description.hostname.clone(),
        ConstraintKey::NodeRole => {
            let is = |words: [&str; 2]| {
                words.iter().any(|word| word.eq_ignore_ascii_case(&constraint.value))
            };
            let same = match node.role {
                Role::Controller => is(["manager", "controller"]),
                Role::Agent => is(["worker", "agent"]),
            };
            return same == constraint.equal;
        }
        ConstraintKey::PlatformOs => description.os.clone(),
        ConstraintKey::PlatformArch => description.arch.clone(),
        ConstraintKey::NodeLabel(name) => node.labels.get(name).cloned().unwrap_or_default(),
        ConstraintKey::EngineLabel(name) => {
            description.engine_labels.get(name).cloned().unwrap_or_default()
        }
    };
    (value.to_lowercase() == constraint.value.to_lowercase()) == constraint.equal
}

/// A task whose node is down says nothing any more.
fn on_lost_node(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.nodes.get(&node));
    node.is_some_and(|node| node.status == NodeStatus::Down)
}

/// The reasons that the newest tasks of empty places give; while a new task only starts, how the one before ended.
fn stuck(state: &State, tasks: &[&Task], missing: &[Slot]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for slot in missing {
        let of_slot = tasks.iter().filter(|task| task.id.slot == *slot);
        let mut newest: Vec<&&Task> = of_slot.collect();
        newest.sort_by_key(|task| std::cmp::Reverse(task.id.generation));
        let telling = newest.iter().take(2).find(|task| {
            !task.status.message.is_empty() && task.status.state != TaskState::Shutdown
        });
        if let Some(task) = telling {
            found.push((
                state.task_name(task),
                format!("{}: {}", task.status.state, task.status.message),
            ));
        }
    }
    found
}

/// A place whose task failed and that the restart policy leaves so.
fn lost(
    state: &State,
    service: &Service,
    tasks: &[&Task],
    missing: &[Slot],
) -> Option<(String, String)> {
    if service.spec.restart.condition != RestartCondition::None || service.removing {
        return None;
    }
    let newest = |slot: &Slot| {
        tasks.iter().filter(|task| task.id.slot == *slot).max_by_key(|task| task.id.generation)
    };
    let task = missing.iter().filter_map(newest).find(|task| {
        task.spec_version == service.spec_version
            && matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
    })?;
    let why = match (task.status.message.as_str(), task.status.exit_code) {
        ("", Some(code)) => format!("exit code {code}"),
        ("", None) => task.status.state.to_string(),
        (message, _) => message.to_owned(),
    };
    Some((state.task_name(task), why))
}
