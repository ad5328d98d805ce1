//! Which task of a service would be better elsewhere: the next task of its slot would get another node, and then the
//! service would be spread better, or else all tasks together.
//!
//! Counts are compared as the scheduler does: the service's tasks in each place that it is spread over, from the widest
//! on, then on the node. With each move the first of them that differs gets more even, and those before it stay; where all
//! are the same, the loads of two nodes do. So moves come to an end, whatever their order, and none is ever taken back.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::entry::Group;
use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, GenericResources, Move, Node, NodeStatus, PlannedMove, Service, Task, TaskState,
};
use swarm_proto::spec::{MountSource, ServiceMode};

use crate::core::rules::moves::is_left;
use crate::core::rules::name_of;
use crate::core::rules::schedule::{LATELY, failed_on, next_place};
use crate::core::rules::slot::{stop_task, view_of};
use crate::core::state::{State, Stored, ids_of, is_backend, is_one_off, slots_of};

/// Nodes of a service that are looked at, from the fullest on, each in another place that it is spread over.
const SOURCES: usize = 8;

/// A move, and what its task gets of the new node's generic resources.
pub(super) struct Choice {
    pub(super) planned: PlannedMove,
    pub(super) resources: GenericResources,
}

/// Whether tasks of a service may be moved at all, and nothing else is under way with it.
pub(super) fn may_move(state: &State, service: &Service) -> bool {
    let spec = &service.spec;
    let keeps_nothing =
        spec.container.mounts.iter().all(|mount| matches!(mount.source, MountSource::Tmpfs(_)));
    let is_paused = service.update.as_ref().is_some_and(|update| update.state.is_paused());
    let is_there = |(node, _): (NodeId, u32)| {
        state.nodes.get(&node).is_some_and(|node| node.status == NodeStatus::Ready)
    };
    matches!(spec.mode, ServiceMode::Replicated { .. })
        && !state.index.unsettled.contains(&service.id)
        && !is_paused
        && keeps_nothing
        && !has_followers(state, service)
        && nodes_of(state, service.id).all(is_there)
}

/// The service's move that helps most; `None` where none does.
pub(super) fn choose(state: &State, service: &Stored<Service>, now: Timestamp) -> Option<Choice> {
    let shape = Shape::of(state, service);
    shape.sources().into_iter().take(SOURCES).find_map(|from| shape.choose(from, now))
}

/// How many tasks of services that go on shall stay on each node: none that is to be stopped, or is being moved away.
pub(super) struct Loads<'a> {
    state: &'a State,
    leaving: BTreeMap<NodeId, u32>,
}

impl<'a> Loads<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut leaving = BTreeMap::new();
        let moved: BTreeSet<TaskId> = recent(state).map(|one| one.task).collect();
        let stand =
            moved.iter().filter_map(|id| state.tasks.get(id)).filter(|task| is_backend(task));
        for task in stand {
            let is_left = is_left(state, &view_of(state, task.id.service, task.id.slot), task);
            if let Some(node) = task.node.filter(|_| is_left) {
                *leaving.entry(node).or_default() += 1;
            }
        }
        Self { state, leaving }
    }

    pub(super) fn on(&self, node: NodeId) -> u32 {
        let load = self.state.index.loads.get(&node).copied().unwrap_or_default();
        load.staying.saturating_sub(self.leaving.get(&node).copied().unwrap_or(0))
    }
}

/// Whether a node has so many tasks more than another that one should move: two, and a quarter of what it has. Less is
/// not worth a restart.
pub(super) fn is_skewed(from: u32, to: u32) -> bool {
    let surplus = from.saturating_sub(to);
    surplus >= 2 && surplus.saturating_mul(4) > from
}

fn recent(state: &State) -> impl Iterator<Item = &Move> {
    state.cluster.iter().flat_map(|cluster| &cluster.rebalance.recent)
}

/// The nodes with tasks of a service, and how many.
fn nodes_of(state: &State, service: ServiceId) -> impl Iterator<Item = (NodeId, u32)> + '_ {
    let all = (service, NodeId(0))..=(service, NodeId(u64::MAX));
    state.index.spread.range(all).map(|((_, node), count)| (*node, *count))
}

/// Whether tasks of another service went to where this one's are.
fn has_followers(state: &State, service: &Service) -> bool {
    let key = (service.stack.clone(), service.key.clone());
    let followers =
        state.index.near.range((key.clone(), ServiceId(0))..=(key, ServiceId(u64::MAX)));
    followers.into_iter().any(|(_, id)| *id != service.id)
}

/// Whether a task of the service, or one that was moved, failed on a node lately.
fn is_risky(state: &State, service: ServiceId, node: NodeId, now: Timestamp) -> bool {
    let own = state.index.dead.range(slots_of(service)).map(|((_, slot), _)| (service, *slot));
    let moved = recent(state).map(|one| (one.task.service, one.task.slot));
    own.chain(moved).any(|(service, slot)| {
        let tasks = view_of(state, service, slot).tasks;
        tasks.into_iter().any(|task| failed_on(task, now) == Some(node))
    })
}

/// How a service is spread.
struct Shape<'a> {
    state: &'a State,
    service: &'a Stored<Service>,
    /// Its tasks by the first labels' values, by those of the first two, and so on.
    places: BTreeMap<Vec<&'a str>, u32>,
    loads: Loads<'a>,
}

impl<'a> Shape<'a> {
    fn of(state: &'a State, service: &'a Stored<Service>) -> Self {
        let (places, loads) = (BTreeMap::new(), Loads::of(state));
        let mut shape = Self { state, service, places, loads };
        if service.spec.placement.spread.is_empty() {
            return shape;
        }
        for (node, count) in nodes_of(state, service.id) {
            let Some(node) = state.nodes.get(&node) else { continue };
            let values = shape.values(node);
            for depth in 1..=values.len() {
                *shape.places.entry(values[..depth].to_vec()).or_default() += count;
            }
        }
        shape
    }

    fn values(&self, node: &'a Node) -> Vec<&'a str> {
        let labels = self.service.spec.placement.spread.iter();
        labels.map(|label| label.value(node).unwrap_or_default()).collect()
    }

    fn own(&self, node: NodeId) -> u32 {
        self.state.index.spread.get(&(self.service.id, node)).copied().unwrap_or(0)
    }

    /// Its tasks in each place that a node is in, from the widest on.
    fn counts(&self, node: &'a Node) -> Vec<u32> {
        let values = self.values(node);
        let of = |depth: usize| self.places.get(&values[..depth]).copied().unwrap_or(0);
        (1..=values.len()).map(of).collect()
    }

    /// The fullest node of each place, the fullest place first. A node that is paused keeps what it has.
    fn sources(&self) -> Vec<&'a Node> {
        let mut fullest: BTreeMap<Vec<&'a str>, (u32, u32, &'a Node)> = BTreeMap::new();
        for (id, own) in nodes_of(self.state, self.service.id) {
            let node = self.state.nodes.get(&id).map(|node| &*node.object);
            let active = node.filter(|node| node.availability == Availability::Active);
            let Some(node) = active else { continue };
            let found = (own, self.loads.on(id), node);
            let known = fullest.entry(self.values(node)).or_insert(found);
            if (found.0, found.1) > (known.0, known.1) {
                *known = found;
            }
        }
        let mut sources: Vec<_> = fullest.into_values().collect();
        sources.sort_by_cached_key(|(own, load, node)| {
            std::cmp::Reverse((self.counts(node), *own, *load))
        });
        sources.into_iter().map(|(.., node)| node).collect()
    }

    fn choose(&self, from: &'a Node, now: Timestamp) -> Option<Choice> {
        let task = self.task_on(from.id)?;
        let (to, resources) = self.place_without(task, now)?;
        let to = self.state.nodes.get(&to)?;
        let why = self.gain(from, to)?;
        if is_risky(self.state, self.service.id, to.id, now) {
            return None;
        }
        let service = self.service.name();
        let planned = PlannedMove { service, task: task.id, from: from.id, to: to.id, why };
        Some(Choice { planned, resources })
    }

    /// The service's task on a node with the highest slot.
    fn task_on(&self, node: NodeId) -> Option<&'a Stored<Task>> {
        let ids = ids_of(self.service.id);
        let on_node = self.state.index.node_tasks.range((node, *ids.start())..=(node, *ids.end()));
        let mut tasks = on_node.filter_map(|(_, id)| self.state.tasks.get(id));
        tasks.rfind(|task| is_backend(task) && !is_one_off(task))
    }

    /// Where the next task of a task's slot goes: with start-first beside it.
    fn place_without(&self, task: &Task, now: Timestamp) -> Option<(NodeId, GenericResources)> {
        let place = |state: &State| {
            let (node, resources) = next_place(state, self.service, now)?;
            Some((node.id, resources))
        };
        if self.service.update_policy().order.overlaps() {
            return place(self.state);
        }
        let mut without = self.state.clone();
        let group = Group { actions: vec![stop_task(task)], ..Group::default() };
        without.apply_group(&group, &mut Vec::new()).then_some(())?;
        place(&without)
    }

    /// What a move from one node to another makes better, in words; `None` where it is nothing.
    fn gain(&self, from: &'a Node, to: &'a Node) -> Option<String> {
        if from.id == to.id {
            return None;
        }
        let (values, others) = (self.values(from), self.values(to));
        let counts = self.counts(from).into_iter().zip(self.counts(to)).enumerate();
        for (depth, (has, would_have)) in counts {
            let is_shared = values[..=depth] == others[..=depth];
            if is_shared || has == would_have + 1 {
                continue;
            }
            let label = self.service.spec.placement.spread.get(depth)?;
            let name = |value: &str| if value.is_empty() { "none" } else { value }.to_owned();
            let (here, there) = (name(values[depth]), name(others[depth]));
            return (has > would_have).then(|| {
                format!("of its tasks, {label} {here} has {has}, {there} has {would_have}")
            });
        }
        let (here, there) = (name_of(from), name_of(to));
        let (has, would_have) = (self.own(from.id), self.own(to.id));
        if has != would_have + 1 {
            return (has > would_have)
                .then(|| format!("of its tasks, {here} has {has}, {there} has {would_have}"));
        }
        let (has, would_have) = (self.loads.on(from.id), self.loads.on(to.id));
        is_skewed(has, would_have)
            .then(|| format!("of all services' tasks, {here} has {has}, {there} has {would_have}"))
    }
}

/// From when on a service may have its next move: once the last was watched for as long as a task of an update is, and the
/// policy's delay is over. After one that came to nothing, once what failed lately is forgotten.
pub(super) fn rested_at(state: &State, service: &Service) -> Timestamp {
    let policy = service.update_policy();
    let moves = recent(state).filter(|one| one.task.service == service.id);
    let at = moves.map(|one| {
        let tasks = view_of(state, service.id, one.task.slot).tasks;
        let successor = tasks.last().filter(|last| last.id != one.task);
        let Some(last) = successor else { return one.at.after(policy.monitor) };
        let came_to_nothing = last.desired > TaskState::Running || last.status.state.is_terminal();
        let rest = policy.delay.max(policy.monitor);
        one.at.max(last.status.since).after(if came_to_nothing { LATELY } else { rest })
    });
    at.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_skewed_by_two_tasks_and_a_quarter() {
        let skewed = [(2, 0), (4, 2), (9, 6), (100, 74)];
        assert!(skewed.into_iter().all(|(from, to)| is_skewed(from, to)));
        let even = [(1, 0), (3, 2), (8, 6), (100, 75), (2, 5)];
        assert!(!even.into_iter().any(|(from, to)| is_skewed(from, to)));
    }
}
