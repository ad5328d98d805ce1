//! Places that tasks are stopped for: until the last of these has ended, a place is kept for the task that shall have it.

use swarm_proto::object::{Node, Service, Task};
use swarm_proto::spec::ServiceSpec;

use super::filter::{Question, given, possible};
use super::placed::Placed;
use crate::core::state::{State, Stored, is_one_off};

/// A place that others make for a task.
pub(super) struct Place<'a> {
    node: &'a Node,
    /// Who still has to end there.
    victims: Vec<&'a Stored<Task>>,
}

impl<'a> Place<'a> {
    /// The place that is being made for a task, on a node that can still have it.
    pub(super) fn of(
        state: &'a State,
        (service, spec): (&Service, &ServiceSpec),
        task: &Task,
    ) -> Option<Self> {
        let none = Placed::default();
        let question =
            Question { state, service, spec, is_one_off: is_one_off(task), placed: &none };
        let victims: Vec<_> = state.preempted_for(task.id).collect();
        let nodes = victims.iter().filter_map(|victim| state.nodes.get(&victim.node?));
        let node =
            nodes.map(|node| &*node.object).find(|node| possible(&question, node).is_none())?;
        let victims = victims.into_iter().filter(|victim| victim.node == Some(node.id)).collect();
        Some(Self { node, victims })
    }

    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    /// Keeps it from those that are placed after the task, on top of what `base` says is taken.
    pub(super) fn hold(
        &self,
        state: &State,
        base: &State,
        (service, spec): (&Service, &ServiceSpec),
        task: &Task,
        placed: &mut Placed,
    ) {
        let without = state.without_tasks(self.victims.iter().copied());
        let (is_one_off, none) = (is_one_off(task), Placed::default());
        let question = Question { state: &without, service, spec, is_one_off, placed: &none };
        // What does not fit any more is asked for again once they have ended.
        let given = given(&question, self.node).unwrap_or_default();
        placed.take(base, (service, spec), self.node, &given);
    }

    /// What the task waits for.
    pub(super) fn reason(&self, state: &State) -> String {
        let names = self.victims.iter().map(|victim| format!("`{}`", state.task_name(victim.id)));
        let (names, node) = (names.collect::<Vec<_>>().join(", "), &self.node.description.hostname);
        format!("waits until {names} made place on {node}")
    }
}
