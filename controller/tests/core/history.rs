//! A cluster that steps drive: what is written is applied as a controller would that reads it from the log.

use std::collections::BTreeMap;

use swarm_controller::core::rules::driver::Pass;
use swarm_controller::core::rules::{Observed, command, driver};
use swarm_controller::core::state::{State, apply};
use swarm_controller::core::{Command, CommandDone, Event, Refusal};
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Cluster, NodeDescription, NodeStatus, Role, Secret, TaskState, TaskStatus,
};
use swarm_proto::version::ClusterVersion;

/// See the module.
pub(crate) struct History {
    pub(crate) state: State,
    pub(crate) observed: Observed,
    pub(crate) now: Timestamp,
    /// What the last entry told.
    pub(crate) told: Vec<Event>,
    /// Is told the state before and after each entry.
    look: fn(&State, &State),
}

impl History {
    /// A cluster without nodes.
    pub(crate) fn new() -> Self {
        let cluster = Cluster::new("0".repeat(32), String::new(), Secret::default());
        Self::of(cluster, |_, _| ())
    }

    /// The same with settings of its own, and somebody who looks at each entry.
    pub(crate) fn of(cluster: Cluster, look: fn(&State, &State)) -> Self {
        let (state, observed) = (State::default(), Observed::default());
        let now = Timestamp(1);
        let mut history = Self { state, observed, now, told: Vec::new(), look };
        history.write(vec![Action::SetCluster(Box::new(cluster))]);
        history.write(vec![Action::SetClusterVersion(ClusterVersion::NEWEST)]);
        history
    }

    /// A new node that takes tasks. Its name and address follow from its number, the rest is as described.
    pub(crate) fn join(&mut self, description: NodeDescription) -> u64 {
        let number = self.state.next.node;
        let (hostname, role) = (format!("n{number}"), Role::Agent);
        let join = Command::Join { hostname, role, controller_address: None };
        self.ask(&join).unwrap();
        self.describe(number, description);
        self.set_status(number, NodeStatus::Ready);
        number
    }

    /// A node's agent tells what it has.
    pub(crate) fn describe(&mut self, number: u64, description: NodeDescription) {
        let description = NodeDescription {
            hostname: format!("n{number}"),
            address: Some([192, 0, 2, u8::try_from(number).unwrap()].into()),
            ..description
        };
        let (node, description) = (NodeId(number), Box::new(description));
        self.write(vec![Action::SetNodeDescription { node, description }]);
    }

    pub(crate) fn set_status(&mut self, number: u64, status: NodeStatus) {
        self.write(vec![Action::SetNodeStatus { node: NodeId(number), status }]);
    }

    pub(crate) fn set_availability(&mut self, number: u64, availability: Availability) {
        let _ = self.ask(&Command::UpdateNode {
            node: format!("n{number}"),
            availability: Some(availability),
            set_labels: BTreeMap::new(),
            remove_labels: Vec::new(),
        });
    }

    /// A task's agent tells how it is.
    pub(crate) fn report(&mut self, task: TaskId, state: TaskState) {
        let status = Box::new(TaskStatus::new(state, self.now));
        self.write(vec![Action::SetTaskStatus { task, status }]);
    }

    pub(crate) fn write(&mut self, actions: Vec<Action>) -> bool {
        self.apply(vec![Group { actions, ..Group::default() }])
    }

    /// Whether all groups were as their conditions ask.
    pub(crate) fn apply(&mut self, groups: Vec<Group>) -> bool {
        let entry = Entry { time: self.now, checksum: self.state.checksum, groups };
        let before = self.state.clone();
        let done = apply(&mut self.state, &entry);
        assert!(done.checksum_matches);
        self.told = done.events;
        (self.look)(&before, &self.state);
        done.groups.iter().all(|done| *done)
    }

    /// What a command comes to, unless it is refused or all is as wished.
    pub(crate) fn decide(&self, command: &Command) -> Option<Group> {
        let decision = command::decide(&self.state, command, self.now).ok()?;
        (!decision.actions.is_empty()).then(|| decision.into_group(&self.state))
    }

    pub(crate) fn ask(&mut self, command: &Command) -> Result<CommandDone, Refusal> {
        let decision = command::decide(&self.state, command, self.now)?;
        let done = decision.done.clone();
        if !decision.actions.is_empty() {
            let group = decision.into_group(&self.state);
            assert!(self.apply(vec![group]), "what was decided fits");
        }
        Ok(done)
    }

    /// What the rules want now that all agents were heard; nothing where they are content.
    pub(crate) fn pass(&mut self) -> Option<Pass> {
        let nodes = self.state.nodes.keys().map(|node| (*node, self.now));
        self.observed.heard.extend(nodes);
        let pass = driver::pass(&self.state, &self.observed, self.now);
        Some(pass).filter(|pass| !pass.groups.is_empty())
    }

    /// Passes until the rules are content: they must be, soon.
    pub(crate) fn settle(&mut self) {
        for _ in 0..30 {
            let Some(pass) = self.pass() else { return };
            assert!(self.apply(pass.groups));
        }
        panic!("the rules find no rest");
    }
}

/// A machine that has room for a few tasks.
pub(crate) fn machine() -> NodeDescription {
    NodeDescription { millicpus: 4_000, memory: 1 << 30, ..NodeDescription::default() }
}
