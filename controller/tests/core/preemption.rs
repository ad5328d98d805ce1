//! Law: place is made only for a task of higher priority, only where that gives it the place, and nobody goes in vain.

use std::collections::BTreeSet;

use swarm_controller::core::rules::{Observed, driver};
use swarm_controller::core::state::{State, apply};
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, Slot, TaskId, Timestamp};
use swarm_proto::object::{Task, TaskState, TaskStatus};

/// Holds the law against groups that are applied one after the other.
pub(crate) fn law(state: &State, observed: &Observed, groups: &[Group], now: Timestamp) {
    let is_preemption = |action: &Action| matches!(action, Action::PreemptTasks { .. });
    if !groups.iter().flat_map(|group| &group.actions).any(is_preemption) {
        return;
    }
    let mut state = state.clone();
    for group in groups {
        let before = state.clone();
        write(&mut state, group.clone(), now);
        for action in &group.actions {
            if let Action::PreemptTasks { task, node, victims } = action {
                are_lower(&before, *task, *node, victims);
                let came = |state: &State| after_their_end(state, observed, *node, now);
                let gets_it = |one: &TaskId| one == task || goes_before(&state, *one, *task);
                let placed = came(&state).iter().any(gets_it);
                assert!(placed, "{victims:?} of {node} made place for {task} in vain");
                for victim in victims {
                    let placed = came(&spare(&before, action, *victim, now)).contains(task);
                    assert!(!placed, "{victim} of {node} made place for {task} in vain");
                }
            }
        }
    }
}

fn write(state: &mut State, group: Group, now: Timestamp) {
    let entry = Entry { time: now, checksum: state.checksum, groups: vec![group] };
    assert!(apply(state, &entry).checksum_matches);
}

fn priority(state: &State, task: TaskId) -> i32 {
    state.services[&task.service].spec.priority
}

fn are_lower(before: &State, by: TaskId, node: NodeId, victims: &[TaskId]) {
    assert!(!victims.is_empty() && before.tasks[&by].node.is_none());
    for id in victims {
        let victim = &before.tasks[id];
        assert!(priority(before, *id) < priority(before, by), "{by} takes the place of {id}");
        assert!(victim.node == Some(node) && victim.desired <= TaskState::Running);
        assert!(!victim.status.state.is_terminal() && !matches!(id.slot, Slot::OneOff(_)));
        assert!(!before.services[&id.service].spec.never_preempted, "{id} keeps its place");
    }
}

/// The same preemption without one of its victims.
fn spare(before: &State, action: &Action, spared: TaskId, now: Timestamp) -> State {
    let mut state = before.clone();
    if let Action::PreemptTasks { task, node, victims } = action {
        let victims: Vec<_> = victims.iter().copied().filter(|victim| *victim != spared).collect();
        let action = Action::PreemptTasks { task: *task, node: *node, victims };
        write(&mut state, Group { actions: vec![action], ..Group::default() }, now);
    }
    state
}

/// Whether a task may have the node in another one's stead: that one is of lower priority, or gets its place.
fn goes_before(state: &State, one: TaskId, other: TaskId) -> bool {
    let (own, its) = (priority(state, one), priority(state, other));
    let mut tasks = state.tasks.values();
    own > its || own == its && tasks.any(|task| task.preempted_by == Some(one))
}

/// Who comes to a node once all that shall end there has ended.
fn after_their_end(
    state: &State,
    observed: &Observed,
    node: NodeId,
    now: Timestamp,
) -> BTreeSet<TaskId> {
    let mut state = state.clone();
    let ends = |one: &&Task| {
        one.node == Some(node)
            && one.desired > TaskState::Running
            && !one.status.state.is_terminal()
    };
    let tasks = state.tasks.values().map(|task| &*task.object);
    let ending: Vec<TaskId> = tasks.filter(ends).map(|task| task.id).collect();
    let end = |task| {
        let status = Box::new(TaskStatus::new(TaskState::Shutdown, now));
        Action::SetTaskStatus { task, status }
    };
    let actions = ending.into_iter().map(end).collect();
    write(&mut state, Group { actions, ..Group::default() }, now);
    let after = driver::pass(&state, observed, now).state;
    let was_there = |id: &TaskId| state.tasks.get(id).is_some_and(|old| old.node.is_some());
    let there = after.tasks.values().filter(|task| task.node == Some(node));
    there.map(|task| task.id).filter(|id| !was_there(id)).collect()
}
