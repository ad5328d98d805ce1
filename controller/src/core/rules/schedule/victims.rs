//! Who would have to go for a task of higher priority, and where that does the least harm.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use swarm_proto::id::{NodeId, Slot, TaskId};
use swarm_proto::object::{Node, Service, Task, TaskState};
use swarm_proto::spec::ServiceSpec;

use super::filter::{Question, crowded, possible};
use super::making::Place;
use super::placed::Placed;
use crate::core::state::{State, Stored, is_one_off, tasks_on};

/// Nodes where it is possible that are compared; the lowest priorities come first, so what is missed could only have had
/// fewer victims.
const NODES: usize = 32;

/// The tasks for which place is being made, by node.
#[derive(Default)]
pub(super) struct Making<'a>(BTreeMap<NodeId, Vec<(Place<'a>, &'a Stored<Task>)>>);

impl<'a> Making<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut making = Self::default();
        let mut tasks: Vec<TaskId> = state.index.preempted.iter().map(|(task, _)| *task).collect();
        tasks.dedup();
        for id in tasks.iter().filter(|id| state.index.unplaced.contains(*id)) {
            let Some(task) = state.tasks.get(id) else { continue };
            if let Some(parts) = parts(state, task)
                && let Some(place) = Place::of(state, parts, task)
            {
                making.0.entry(place.node().id).or_default().push((place, task));
            }
        }
        making
    }

    /// Keeps the places of tasks that are placed before those of a service.
    pub(super) fn hold(&self, state: &State, service: &Service, placed: &mut Placed) {
        for (place, task) in self.0.values().flatten() {
            if state.priority(task.id.service) >= service.spec.priority
                && let Some(parts) = parts(state, task)
            {
                place.hold(state, state, parts, task, placed);
            }
        }
    }
}

fn parts<'a>(state: &'a State, task: &Task) -> Option<(&'a Service, &'a ServiceSpec)> {
    let service: &Service = state.services.get(&task.id.service)?;
    let spec: &ServiceSpec = state.task_spec(task)?;
    Some((service, spec))
}

/// A task that waits for a node.
pub(super) struct Waiting<'a> {
    state: &'a State,
    making: &'a Making<'a>,
    service: &'a Service,
    spec: &'a ServiceSpec,
    pub(super) task: &'a Task,
    /// The priorities of tasks that may go, lowest first.
    lower: Vec<i32>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(
        state: &'a State,
        making: &'a Making<'a>,
        (service, spec): (&'a Service, &'a ServiceSpec),
        task: &'a Task,
    ) -> Self {
        let lower = state.priorities_below(service.spec.priority);
        Self { state, making, service, spec, task, lower }
    }

    /// Whether it is made for one node.
    pub(super) fn has_one_node(&self) -> bool {
        matches!(self.task.id.slot, Slot::Node(_))
    }

    /// Where it does the least harm, and to whom; `None` where it has a node, will have one without that, or never will.
    /// The highest priority of those who go counts first, then how many they are.
    pub(super) fn find(&self) -> Option<(NodeId, Vec<TaskId>)> {
        let nodes = self.nodes().into_iter();
        let mut nodes: Vec<_> =
            nodes.filter_map(|node| Some((self.level(node)?, node.id, node))).collect();
        nodes.sort_by_key(|(level, id, _)| (*level, *id));
        let mut best = None;
        let mut compared = 0;
        for (_, id, node) in nodes {
            let Some(victims) = self.victims(node) else { continue };
            let highest = victims.iter().map(|task| self.state.priority(task.service)).max()?;
            let key = (highest, victims.len(), id);
            if best.as_ref().is_none_or(|(known, _)| key < *known) {
                best = Some((key, victims));
            }
            compared += 1;
            if compared == NODES {
                break;
            }
        }
        best.map(|((.., node), victims)| (node, victims))
    }

    /// Nodes that it could have, were there room.
    fn nodes(&self) -> Vec<&'a Node> {
        let placed = Placed::default();
        let question = self.question(self.state, &placed);
        let is_possible = |node: &&Node| possible(&question, node).is_none();
        match self.task.id.slot {
            Slot::Node(id) => {
                let node = self.state.nodes.get(&id).map(|node| &*node.object);
                node.into_iter().filter(is_possible).collect()
            }
            Slot::Replica(_) | Slot::OneOff(_) => {
                self.state.nodes.values().map(|node| &*node.object).filter(is_possible).collect()
            }
        }
    }

    /// The lowest priority up to which all tasks of a node must go for what the task reserves to be free; `None` where it
    /// never would be.
    fn level(&self, node: &Node) -> Option<i32> {
        let wanted = &self.spec.container.resources;
        let has_room = |level: i32| {
            let kept = self.state.reserved_above(node.id, level);
            kept.give(&node.description, wanted).is_ok()
        };
        self.lower.get(self.lower.partition_point(|level| !has_room(*level))).copied()
    }

    /// The tasks of a node that must go; none where those that end anyway are enough.
    fn victims(&self, node: &Node) -> Option<Vec<TaskId>> {
        let open = || tasks_on(self.state, node.id).filter(|task| !task.status.state.is_terminal());
        let ending = open().filter(|task| task.desired > TaskState::Running);
        let mut left = self.state.without_tasks(ending);
        if self.fits(node, &left) {
            return Some(Vec::new());
        }
        let lower = open().filter(|task| self.state.may_be_preempted(task, self.service.id));
        let mut lower: Vec<&Stored<Task>> = lower.collect();
        left = left.without_tasks(lower.iter().copied());
        if lower.is_empty() || !self.fits(node, &left) {
            return None;
        }
        // Those of higher priority stay first, then those that have the least: so few go.
        lower.sort_by_key(|task| {
            let spec = self.state.task_spec(task);
            let share = spec.map(|spec| spec.container.resources.reserved()).unwrap_or_default();
            let size = (share.millicpus, share.memory, share.pids);
            (Reverse(self.state.priority(task.id.service)), size, task.id)
        });
        let must_go = |task: &&&Stored<Task>| {
            let with = left.with_task(task);
            let fits = self.fits(node, &with);
            if fits {
                left = with;
            }
            !fits
        };
        Some(lower.iter().filter(must_go).map(|task| task.id).collect())
    }

    /// Whether a node has room in what is left of the state, beside what others are making place for there.
    fn fits(&self, node: &Node, left: &State) -> bool {
        let mut placed = Placed::default();
        let own = self.service.spec.priority;
        for (place, task) in self.making.0.get(&node.id).into_iter().flatten() {
            if task.id != self.task.id
                && self.state.priority(task.id.service) >= own
                && let Some(parts) = parts(self.state, task)
            {
                place.hold(self.state, left, parts, task, &mut placed);
            }
        }
        crowded(&self.question(left, &placed), node).is_none()
    }

    fn question<'q, 'p>(&self, state: &'q State, placed: &'p Placed) -> Question<'q, 'p>
    where
        'a: 'q,
    {
        let is_one_off = is_one_off(self.task);
        Question { state, service: self.service, spec: self.spec, is_one_off, placed }
    }
}
