//! What a command would bring about first: the same rules on a copy of the state, and nothing is proposed. What comes
//! after what agents do, as the next batch of an update, is not foreseen.

use swarm_proto::entry::{Action, Group};
use swarm_proto::id::Timestamp;

use super::{Observed, command, driver, name_of};
use crate::core::command::{Command, CommandDone, Refusal};
use crate::core::state::{State, tasks_of};

/// Passes that are foreseen.
const PASSES: usize = 10;

/// A task that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeseenTask {
    /// Its full name.
    pub task: String,
    /// The host name of its node, or why it waits.
    pub node: Result<String, String>,
}

/// A task that is to be stopped for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeseenPreemption {
    /// Its full name.
    pub task: String,
    /// The host name of its node.
    pub node: String,
    /// Its service's priority.
    pub priority: i32,
    /// The full name of the one.
    pub for_task: String,
    /// That one's service's priority.
    pub for_priority: i32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forecast {
    /// What changes, a line each.
    pub changes: Vec<String>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// New tasks of the stack.
    pub tasks: Vec<ForeseenTask>,
    /// Tasks of any stack that are stopped for others.
    pub preempted: Vec<ForeseenPreemption>,
    /// Whether more would follow at once than was looked at.
    pub is_cut: bool,
}

/// Looks ahead of a command about a stack.
pub fn forecast(
    state: &State,
    command: &Command,
    stack: &str,
    now: Timestamp,
) -> Result<Forecast, Refusal> {
    let decision = command::decide(state, command, now)?;
    let mut forecast = Forecast::default();
    if let CommandDone::Deployed { changes, warnings, .. } = &decision.done {
        forecast.changes.clone_from(changes);
        forecast.warnings.clone_from(warnings);
    }
    let mut after = state.clone();
    if !decision.actions.is_empty() {
        let group = decision.into_group(state);
        after.apply_group(&group, &mut Vec::new());
    }
    // Everybody was heard just now.
    let observed = Observed { since: now, ..Observed::default() };
    forecast.is_cut = true;
    for _ in 0..PASSES {
        let pass = driver::pass(&after, &observed, now);
        forecast.note_preemptions(&pass.state, &pass.groups);
        after = pass.state;
        if pass.complete {
            forecast.is_cut = false;
            break;
        }
    }
    let tasks = after.services_of(stack).into_iter().flat_map(|one| tasks_of(&after, one.id));
    for task in tasks.filter(|task| !state.tasks.contains_key(&task.id)) {
        let node = task.node.and_then(|node| after.nodes.get(&node));
        let node = node.map(|node| name_of(node)).ok_or_else(|| task.status.message.clone());
        forecast.tasks.push(ForeseenTask { task: after.task_name(task.id), node });
    }
    Ok(forecast)
}

impl Forecast {
    fn note_preemptions(&mut self, state: &State, groups: &[Group]) {
        for action in groups.iter().flat_map(|group| &group.actions) {
            let Action::PreemptTasks { task, node, victims } = action else { continue };
            let node = state.nodes.get(node).map(|node| name_of(node)).unwrap_or_default();
            self.preempted.extend(victims.iter().map(|victim| ForeseenPreemption {
                task: state.task_name(*victim),
                node: node.clone(),
                priority: state.priority(victim.service),
                for_task: state.task_name(*task),
                for_priority: state.priority(task.service),
            }));
        }
    }
}
