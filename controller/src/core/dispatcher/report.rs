//! What agents reported, as groups for the log. Only what differs from the state is written.

use std::collections::BTreeSet;

use swarm_proto::assignment::VolumeReport;
use swarm_proto::entry::{Action, Group};
use swarm_proto::id::{NodeId, TaskId, Timestamp};
use swarm_proto::object::{FilledFrom, NodeStatus, TaskState, TaskStatus, VolumeHolding};
use swarm_proto::version::ClusterVersion;

use super::Dispatcher;
use crate::core::state::{State, tasks_on};

/// Statuses in one entry of the log.
const STATUSES: usize = 2_000;
/// Statuses that are looked at for one: most of what agents say when they connect again is known.
const LOOKED_AT: usize = 20_000;

fn group(actions: Vec<Action>) -> Group {
    Group { actions, ..Group::default() }
}

pub(super) fn groups(dispatcher: &mut Dispatcher, state: &State, now: Timestamp) -> Vec<Group> {
    let mut groups = Vec::new();
    if all_know(state) {
        for (node, description) in std::mem::take(&mut dispatcher.withheld) {
            dispatcher.descriptions.entry(node).or_insert(description);
        }
    }
    for (node, mut description) in std::mem::take(&mut dispatcher.descriptions) {
        let Some(stored) = state.nodes.get(&node) else { continue };
        if !all_know(state) && description.is_later() {
            dispatcher.withheld.insert(node, description.clone());
            description = description.earlier();
        }
        if stored.description != description {
            let description = Box::new(description);
            groups.push(group(vec![Action::SetNodeDescription { node, description }]));
        }
    }
    for node in std::mem::take(&mut dispatcher.awake) {
        if state.nodes.get(&node).is_some_and(|node| node.status != NodeStatus::Ready) {
            let status = NodeStatus::Ready;
            groups.push(group(vec![Action::SetNodeStatus { node, status }]));
        }
    }
    for (node, has) in std::mem::take(&mut dispatcher.greetings) {
        groups.extend(lost_tasks(state, node, &has, now));
    }
    groups.extend(status_groups(dispatcher, state));
    for (node, volumes) in std::mem::take(&mut dispatcher.volumes) {
        groups.extend(volume_groups(state, node, &volumes));
    }
    groups
}

/// Whether all controllers know what cluster version 4 brought.
pub(super) fn all_know(state: &State) -> bool {
    state.cluster_version >= ClusterVersion(4)
}

/// What agents said of their tasks, as much as fits into an entry.
fn status_groups(dispatcher: &mut Dispatcher, state: &State) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut looked_at = 0;
    while let Some(mut first) = dispatcher.statuses.first_entry() {
        let node = *first.key();
        while groups.len() < STATUSES && looked_at < LOOKED_AT {
            let Some((task, status)) = first.get_mut().pop_first() else { break };
            looked_at += 1;
            groups.extend(status_group(state, node, task, status));
        }
        if !first.get().is_empty() {
            break;
        }
        first.remove();
    }
    groups
}

/// Only the node that has a task may speak of it, and never of what only controllers decide.
fn status_group(state: &State, node: NodeId, task: TaskId, status: TaskStatus) -> Option<Group> {
    let known = state.tasks.get(&task).filter(|known| known.node == Some(node))?;
    // Not every controller knows of health yet.
    let status = TaskStatus { health: status.health.filter(|_| all_know(state)), ..status };
    let decided = matches!(status.state, TaskState::Remove | TaskState::Orphaned)
        || status.state <= TaskState::Assigned;
    let news = status.state > known.status.state
        || (status.state == known.status.state && status != known.status);
    let status = Box::new(status);
    (news && !decided).then(|| group(vec![Action::SetTaskStatus { task, status }]))
}

/// Tasks that an agent once knew and does not know any more: whatever became of them, they do not run.
fn lost_tasks(state: &State, node: NodeId, has: &BTreeSet<TaskId>, now: Timestamp) -> Vec<Group> {
    let lost = tasks_on(state, node).filter(|task| {
        !has.contains(&task.id)
            && task.status.state > TaskState::Assigned
            && !task.status.state.is_terminal()
    });
    let failed = lost.map(|task| {
        let status = TaskStatus {
            state: TaskState::Failed,
            since: now,
            message: "its node does not know it any more".to_owned(),
            pid: None,
            ..task.status.clone()
        };
        group(vec![Action::SetTaskStatus { task: task.id, status: Box::new(status) }])
    });
    failed.collect()
}

/// What a node holds of each volume.
fn volume_groups(state: &State, node: NodeId, reports: &[VolumeReport]) -> Vec<Group> {
    let mut groups = Vec::new();
    for volume in state.volumes.values() {
        let report = reports.iter().find(|report| report.id == volume.id);
        let known = volume.holdings.get(&node);
        let holding = report.map(|report| VolumeHolding {
            created_at: report.created_at,
            filled_from: report
                .filled_from
                .clone()
                .map(|(reference, digest)| FilledFrom { reference, digest }),
            removing: volume.removing,
        });
        if known != holding.as_ref() {
            let volume = volume.id;
            groups.push(group(vec![Action::SetHolding { volume, node, holding }]));
        }
    }
    groups
}
