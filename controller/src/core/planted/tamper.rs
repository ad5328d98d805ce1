//! What planted faults do to the state.

use std::sync::Arc;

use swarm_proto::object::{Task, TaskState};

use crate::core::state::{Applied, Event, State, Stored};

/// Entries between two faults of a run.
const SELDOM: u64 = 50;

/// The raft id that was given out by an entry is the next one again.
pub(super) fn reuse_raft_id(state: &mut State, before: u64) {
    if before > 1 && before.is_multiple_of(2) {
        state.next.raft = before;
    }
}

/// Some dead task runs again.
pub(super) fn revive_dead_task(state: &mut State, applied: &mut Applied) {
    let dead = |task: &&Stored<Task>| task.status.state == TaskState::Shutdown;
    change_task(state, applied, dead, |task| task.status.state = TaskState::Running);
}

/// Some task is on another node.
pub(super) fn move_task(state: &mut State, applied: &mut Applied) {
    let nodes: Vec<_> = state.nodes.keys().copied().collect();
    let placed = |task: &&Stored<Task>| task.node.is_some();
    change_task(state, applied, placed, |task| {
        task.node = nodes.iter().find(|node| Some(**node) != task.node).copied();
    });
}

fn change_task(
    state: &mut State,
    applied: &mut Applied,
    which: impl FnMut(&&Stored<Task>) -> bool,
    change: impl FnOnce(&mut Task),
) {
    if !state.version.is_multiple_of(SELDOM) {
        return;
    }
    let Some(mut stored) = state.tasks.values().find(which).cloned() else { return };
    change(Arc::make_mut(&mut stored.object));
    applied.events.push(Event::Task(Arc::clone(&stored.object)));
    state.tasks.insert(stored.id, stored);
}
