//! What one node shall make true, and how that differs from what it was sent.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::assignment::{
    AssignmentDiff, Measure, TaskAssignment, VolumeAssignment, Withdrawal,
};
use swarm_proto::id::{NodeId, TaskId, VolumeId};
use swarm_proto::object::{Task, TaskState};
use swarm_proto::spec::{
    Autoscale, ContentId, MountSource, PortMode, RestartCondition, ServiceSpec,
};

use super::Print;
use super::template;
use crate::core::state::{Content, State, Stored, is_one_off, is_unfinished, tasks_on};

/// Every task of the node that the state knows, dead ones too: their logs are kept. But one that the agent had accepted
/// once and `has` no more, when it greets, is lost: told of it, the agent would start it anew, beside its successor. Only
/// those that may have `changed`, where that is known.
pub(super) fn tasks(
    state: &State,
    node: NodeId,
    (has, sent): (&BTreeSet<TaskId>, &mut BTreeMap<TaskId, Print>),
    changed: Option<&BTreeSet<TaskId>>,
    diff: &mut AssignmentDiff,
    mut withdrawal: impl FnMut(&Stored<Task>) -> Option<Withdrawal>,
) {
    let all = || tasks_on(state, node).map(|task| task.id).chain(sent.keys().copied()).collect();
    let all: BTreeSet<TaskId> = if changed.is_none() { all() } else { BTreeSet::new() };
    for id in changed.unwrap_or(&all) {
        let before = sent.get(id);
        let task = state.tasks.get(id).filter(|task| task.node == Some(node));
        let known =
            task.and_then(|task| Some((task, print(state, task, (has, before), &mut withdrawal)?)));
        match known {
            None => diff.removed_tasks.extend(sent.remove(id).map(|_| *id)),
            Some((_, print)) if before == Some(&print) => {}
            Some((task, print)) => {
                diff.tasks.extend(task_assignment(state, task, print.2));
                sent.insert(*id, print);
            }
        }
    }
}

/// What a task's assignment is made from; `None` for one that its node is not told of.
fn print(
    state: &State,
    task: &Stored<Task>,
    (has, before): (&BTreeSet<TaskId>, Option<&Print>),
    withdrawal: &mut impl FnMut(&Stored<Task>) -> Option<Withdrawal>,
) -> Option<Print> {
    let is_lost = task.status.state > TaskState::Assigned
        && task.desired <= TaskState::Running
        && !has.contains(&task.id);
    if is_lost && before.is_none() {
        return None;
    }
    let service = state.services.get(&task.id.service)?;
    Some((task.versions.desired, service.versions.spec, withdrawal(task)))
}

fn task_assignment(
    state: &State,
    task: &Stored<Task>,
    withdrawal: Option<Withdrawal>,
) -> Option<TaskAssignment> {
    let service = state.services.get(&task.id.service)?;
    let spec = state.task_spec(task)?;
    let volume = |source: &MountSource| match source {
        MountSource::Volume { volume, .. } => {
            Some((volume.clone(), state.volume_of(&service.stack, source)?.id))
        }
        _ => None,
    };
    let sources = spec.container.mounts.iter().map(|mount| &mount.source);
    let run = task.run.and_then(|run| service.runs.get(run)).filter(|run| run.one_off);
    let mut container = template::filled(state, service, spec, task);
    let mut restart = spec.task_restart();
    if let Some(run) = run {
        restart.condition = RestartCondition::None;
        container.command = run.command.clone().or(container.command);
    }
    let host = service.ports.iter().filter(|port| port.mode == PortMode::Host);
    Some(TaskAssignment {
        id: task.id,
        name: state.task_name(task.id),
        stack: service.stack.clone(),
        service: service.name(),
        desired: task.desired,
        start_after: task.start_after,
        container,
        attachments: task.attachments.clone(),
        volumes: sources.filter_map(volume).collect(),
        host_ports: host.filter(|_| !is_one_off(task)).copied().collect(),
        restart,
        withdrawal,
        lease: state
            .cluster
            .as_ref()
            .and_then(|cluster| spec.node_loss.lease(cluster.node_down_after)),
        resources: task.resources.clone(),
        measure: service.spec.autoscale.as_ref().filter(|_| !is_one_off(task)).map(measure),
    })
}

/// What an agent measures of the tasks of a service that is scaled so.
fn measure(autoscale: &Autoscale) -> Measure {
    Measure {
        scrape: autoscale.scrape.as_ref().map(|target| target.scrape.clone()),
        requests: autoscale.requests.is_some(),
        connections: autoscale.min == 0,
    }
}

/// Secrets and configs by what is in them.
pub(super) type Contents = Vec<(ContentId, Content)>;

/// Secrets and configs that the node lacks for the tasks that it was `told` of. It keeps what it has as long as it has a
/// task that refers to it, also one that is over. When it lets go of one that it was told to remove is only known later:
/// such a task counts for nothing here. Only what `changed` may make a difference, where that is known.
pub(super) fn contents(
    state: &State,
    told: &BTreeMap<TaskId, Print>,
    changed: Option<&BTreeSet<TaskId>>,
    held: &mut BTreeSet<ContentId>,
) -> Contents {
    let has_contents = |spec: &ServiceSpec| !spec.container.files.is_empty();
    if held.is_empty() && changed.is_some_and(|changed| !any_is(state, changed, has_contents)) {
        return Contents::new();
    }
    let (mut known, mut lacking) = (BTreeSet::new(), BTreeMap::new());
    let tasks = told.keys().filter_map(|id| state.tasks.get(id));
    for task in tasks.filter(|task| task.desired < TaskState::Remove) {
        let Some(spec) = state.task_spec(task) else { continue };
        for id in spec.container.contents() {
            let lacks = is_unfinished(task) && !held.contains(&id);
            if let Some(content) = state.contents.get(&id).filter(|_| lacks) {
                lacking.insert(id.clone(), content.clone());
            }
            known.insert(id);
        }
    }
    held.retain(|id| known.contains(id));
    held.extend(lacking.keys().cloned());
    lacking.into_iter().collect()
}

/// Whether the spec of any of these tasks is so.
fn any_is(state: &State, tasks: &BTreeSet<TaskId>, so: impl Fn(&ServiceSpec) -> bool) -> bool {
    let specs = tasks.iter().filter_map(|id| state.task_spec(state.tasks.get(id)?));
    specs.into_iter().any(|spec| so(spec))
}

/// Volumes that tasks of the node use, and those that it shall remove. Only what `changed` may make a difference to the
/// former, where that is known.
pub(super) fn volumes(
    state: &State,
    node: NodeId,
    changed: Option<&BTreeSet<TaskId>>,
    sent: &mut BTreeMap<VolumeId, bool>,
    diff: &mut AssignmentDiff,
) {
    let mut wanted: BTreeMap<VolumeId, bool> = BTreeMap::new();
    let has_mounts = |spec: &ServiceSpec| !spec.container.mounts.is_empty();
    let uses_none =
        sent.is_empty() && changed.is_some_and(|changed| !any_is(state, changed, has_mounts));
    for task in tasks_on(state, node).filter(|_| !uses_none) {
        let (Some(service), Some(spec)) =
            (state.services.get(&task.id.service), state.task_spec(task))
        else {
            continue;
        };
        let used = crate::core::rules::schedule::mounted(state, &service.stack, spec);
        wanted.extend(used.map(|volume| (volume.id, false)));
    }
    for volume in state.volumes.values().filter(|volume| volume.removing) {
        if volume.holdings.contains_key(&node) {
            wanted.insert(volume.id, true);
        }
    }
    for (id, remove) in &wanted {
        if sent.get(id) != Some(remove)
            && let Some(volume) = state.volumes.get(id)
        {
            let (name, remove) = (volume.name.clone(), *remove);
            diff.volumes.push(VolumeAssignment { id: *id, name, remove });
        }
    }
    diff.removed_volumes.extend(sent.keys().filter(|id| !wanted.contains_key(id)));
    *sent = wanted;
}
