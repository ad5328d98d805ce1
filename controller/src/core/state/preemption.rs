//! Tasks that are stopped for others of higher priority.

use std::sync::Arc;

use swarm_proto::id::{NodeId, ServiceId, TaskId};
use swarm_proto::object::{Task, TaskState};
use swarm_proto::spec::ServiceSpec;

use super::index::ENDING;
use super::{Event, Reserved, State, Stored, ids_of, is_one_off};

const _: () = assert!(ENDING < ServiceSpec::LEAST_PRIORITY, "what ends anyway goes first");

impl State {
    /// A service's priority: that of its spec in force, also for tasks of an older one.
    pub(crate) fn priority(&self, service: ServiceId) -> i32 {
        self.services.get(&service).map_or(0, |service| service.spec.priority)
    }

    /// The lowest priority of all services, where they have different ones.
    pub(crate) fn lowest_priority(&self) -> Option<i32> {
        let priorities = &self.index.priorities;
        priorities.keys().next().copied().filter(|_| priorities.len() > 1)
    }

    /// Priorities of services below one, lowest first, behind that of tasks that end anyway.
    pub(crate) fn priorities_below(&self, priority: i32) -> Vec<i32> {
        let lower = self.index.priorities.range(..priority).map(|(priority, _)| *priority);
        std::iter::once(ENDING).chain(lower).collect()
    }

    /// What tasks of a node have reserved that are of a higher priority, and shall run. It may be less than that of those
    /// that would be left, for some never make place.
    pub(crate) fn reserved_above(&self, node: NodeId, priority: i32) -> Reserved {
        let by_priority = &self.index.by_priority;
        let all = self.index.reserved.get(&node);
        // Those of priority 0 are counted only among all.
        let mut kept =
            if priority < 0 { all.cloned().unwrap_or_default() } else { Reserved::default() };
        if priority < 0 {
            by_priority.range((node, ENDING)..=(node, priority)).for_each(|(_, one)| kept.sub(one));
        } else {
            let higher = by_priority.range((node, priority)..=(node, i32::MAX));
            higher.filter(|((_, one), _)| *one > priority).for_each(|(_, one)| kept.add(one));
        }
        kept
    }

    /// Whether a task may be stopped to make place for one of a service. One beside its service's own would be lost.
    pub(crate) fn may_be_preempted(&self, task: &Task, by: ServiceId) -> bool {
        let service = self.services.get(&task.id.service);
        let may = service.is_some_and(|service| !service.spec.never_preempted && !service.removing);
        may && !is_one_off(task)
            && task.desired <= TaskState::Running
            && !task.status.state.is_terminal()
            && self.priority(task.id.service) < self.priority(by)
    }

    /// Whether others make place for a task, or have made it.
    pub(crate) fn is_made_place(&self, task: TaskId) -> bool {
        let first = *ids_of(ServiceId(0)).start();
        let mut all = self.index.preempted.range((task, first)..);
        all.next().is_some_and(|(by, _)| *by == task)
    }

    /// The tasks that still have to end before a task has its place, in order.
    pub(crate) fn preempted_for(&self, task: TaskId) -> impl Iterator<Item = &Stored<Task>> {
        let first = *ids_of(ServiceId(0)).start();
        let all = self.index.preempted.range((task, first)..);
        let own = all.take_while(move |(by, _)| *by == task);
        let victims = own.filter_map(|(_, victim)| self.tasks.get(victim));
        victims.filter(|victim| !victim.status.state.is_terminal())
    }

    pub(super) fn preempt_tasks(
        &mut self,
        id: TaskId,
        node: NodeId,
        victims: &[TaskId],
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let task = self.tasks.get(&id)?;
        if task.node.is_some() || task.status.state.is_terminal() {
            return None;
        }
        let may_go = |victim: &TaskId| {
            let victim = self.tasks.get(victim);
            victim.is_some_and(|victim| {
                victim.node == Some(node) && self.may_be_preempted(victim, id.service)
            })
        };
        if !victims.iter().all(may_go) {
            return None;
        }
        for victim in victims {
            let mut new = self.tasks.get(victim)?.clone();
            let task = Arc::make_mut(&mut new.object);
            task.desired = TaskState::Shutdown;
            task.preempted_by = Some(id);
            new.versions.desired += 1;
            self.put_task(new, events);
        }
        Some(())
    }

    /// The state as if these tasks took nothing of their nodes.
    pub(crate) fn without_tasks<'t>(
        &self,
        tasks: impl IntoIterator<Item = &'t Stored<Task>>,
    ) -> Self {
        let mut without = self.clone();
        for task in tasks {
            without.forget_contribution(task);
        }
        without
    }

    /// The same with a task that was taken out.
    pub(crate) fn with_task(&self, task: &Task) -> Self {
        let mut with = self.clone();
        with.add_contribution(task);
        with
    }
}
