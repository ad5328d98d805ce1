//! Which containers of a slot may run beside each other though no node is cut off: an old and a new one while clients are
//! led from one to the other, and one that moves beside its successor. Never is it two of one spec otherwise.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::State;
use swarm_proto::id::{NodeId, ServiceId, TaskId};
use swarm_proto::object::{Availability, Node, Service, Task, TaskState};

use crate::switch::switch;

/// A task as it was written last.
struct Known {
    version: u64,
    node: Option<NodeId>,
    standby: bool,
    desired: TaskState,
    /// Its node was drained since it is there, or it was moved.
    moves: bool,
    /// Its spec promises that it never runs twice.
    runs_once: bool,
    /// The older tasks of its slot that it may run beside.
    beside: BTreeSet<TaskId>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Overlaps {
    tasks: BTreeMap<TaskId, Known>,
    draining: BTreeSet<NodeId>,
    /// Services whose update leads clients over at once.
    switching: BTreeSet<ServiceId>,
    /// Services whose successors start first.
    overlapping: BTreeSet<ServiceId>,
}

impl Overlaps {
    /// A backup was restored: what its tasks may run beside is as it was.
    pub(crate) fn begin_anew(&mut self, state: &State) {
        self.switching.clear();
        self.overlapping.clear();
        self.draining.clear();
        state.services.values().for_each(|service| self.note_service(service));
        state.nodes.values().for_each(|node| self.note_node(node));
        state.tasks.values().for_each(|task| self.note_task(task, state));
    }

    /// A service was written.
    pub(crate) fn note_service(&mut self, service: &Service) {
        let is_switching = switch(service).is_some();
        let overlaps = is_switching || service.update_policy().order.overlaps();
        for (set, is_member) in
            [(&mut self.switching, is_switching), (&mut self.overlapping, overlaps)]
        {
            if is_member {
                set.insert(service.id);
            } else {
                set.remove(&service.id);
            }
        }
    }

    /// A node was written.
    pub(crate) fn note_node(&mut self, node: &Node) {
        if node.availability != Availability::Drain {
            self.draining.remove(&node.id);
        } else if self.draining.insert(node.id) {
            let of_node = self.tasks.values_mut().filter(|known| known.node == Some(node.id));
            of_node.for_each(|known| known.moves = true);
        }
    }

    /// A task was written. What it may run beside is decided when it is made, and by updates that begin before it starts.
    pub(crate) fn note_task(&mut self, task: &Task, state: &State) {
        let before = self.tasks.remove(&task.id);
        let is_new = before.is_none();
        let (moves, runs_once, mut beside) = before.map_or_else(Default::default, |before| {
            (before.moves, before.runs_once, before.beside)
        });
        if is_new {
            self.note_moves(task, state);
        }
        if task.status.state < TaskState::Starting {
            beside.extend(self.beside(task, is_new));
        }
        let spec = state.task_spec(task);
        let spec = spec.map(|spec| spec.node_loss.runs_once());
        let known = Known {
            version: task.spec_version,
            node: task.node,
            standby: task.standby,
            desired: task.desired,
            moves: moves || task.node.is_some_and(|node| self.draining.contains(&node)),
            runs_once: spec.unwrap_or(runs_once),
            beside,
        };
        self.tasks.insert(task.id, known);
    }

    /// The one that a task is made for may have been moved to where it would be placed now.
    fn note_moves(&mut self, new: &Task, state: &State) {
        let Some(cluster) = &state.cluster else { return };
        let older = TaskId { generation: 0, ..new.id }..new.id;
        for (id, known) in self.tasks.range_mut(older) {
            known.moves |= cluster.rebalance.moves(*id);
        }
    }

    fn beside(&self, task: &Task, is_new: bool) -> Vec<TaskId> {
        let service = &task.id.service;
        let is_switching = self.switching.contains(service);
        let overlaps = is_new && self.overlapping.contains(service);
        let may = |old: &Known| {
            let is_other = old.version != task.spec_version;
            let is_moved = old.moves && !old.runs_once;
            is_switching && is_other && old.standby != task.standby
                || overlaps && old.desired <= TaskState::Running && (is_other || is_moved)
        };
        let older = TaskId { generation: 0, ..task.id }..task.id;
        let older = self.tasks.range(older).filter(|(_, old)| may(old));
        older.map(|(id, _)| *id).collect()
    }

    /// Whether a task may run beside an older one of its slot.
    pub(crate) fn may_overlap(&self, older: TaskId, newer: TaskId) -> bool {
        self.tasks.get(&newer).is_some_and(|newer| newer.beside.contains(&older))
    }
}
