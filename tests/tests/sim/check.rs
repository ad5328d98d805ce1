//! What must always hold.

use std::collections::BTreeMap;

use swarm_controller::core::{Event, State};
use swarm_proto::id::{NodeId, TaskId};
use swarm_proto::object::TaskState;

#[derive(Default)]
pub(crate) struct Check {
    /// The state's checksum after each index, as the first controller that applied it found.
    checksums: BTreeMap<u64, u64>,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// The highest term in which each controller spoke.
    spoken: BTreeMap<u64, u64>,
    /// Where each task is, and how far it has come.
    tasks: BTreeMap<TaskId, (u64, Option<NodeId>, TaskState)>,
}

impl Check {
    pub(crate) fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub(crate) fn commits(&self) -> u64 {
        self.checksums.len() as u64
    }

    /// A controller says that it leads.
    pub(crate) fn leads(&mut self, term: u64, controller: u64) {
        let first = *self.leaders.entry(term).or_insert(controller);
        assert_eq!(first, controller, "two leaders in term {term}");
    }

    /// A controller said something to another, in this term.
    pub(crate) fn spoke(&mut self, term: u64, controller: u64) {
        let highest = self.spoken.entry(controller).or_default();
        *highest = term.max(*highest);
    }

    /// A controller starts from its disk: it must remember every term in which it ever spoke, or it could vote twice.
    pub(crate) fn started(&self, term: u64, controller: u64) {
        let spoken = self.spoken.get(&controller).copied().unwrap_or(0);
        assert!(term >= spoken, "{controller} forgot term {spoken} and starts in {term}");
    }

    /// A controller's state moved on.
    pub(crate) fn applied(&mut self, state: &State, events: &[Event]) {
        let first = *self.checksums.entry(state.applied).or_insert(state.checksum);
        assert_eq!(first, state.checksum, "states differ after entry {}", state.applied);
        let mut last = BTreeMap::new();
        for event in events {
            if let Event::Task(task) = event {
                last.insert(task.id, task);
            }
        }
        for task in last.into_values() {
            self.task(state.applied, task);
        }
        unique_addresses(state);
        no_overcommitment(state);
    }

    fn task(&mut self, index: u64, task: &swarm_proto::object::Task) {
        let now = (index, task.node, task.status.state);
        let before = self.tasks.entry(task.id).or_insert(now);
        // A controller that lags tells again what others have told.
        if index <= before.0 {
            return;
        }
        assert!(task.status.state >= before.2, "task {} fell from {}", task.id, before.2);
        assert!(before.1.is_none() || before.1 == task.node, "task {} moved", task.id);
        *before = now;
    }
}

fn unique_addresses(state: &State) {
    let mut held = BTreeMap::new();
    for task in state.tasks.values().filter(|task| !task.status.state.is_terminal()) {
        for place in &task.attachments {
            let key = (place.network, place.address);
            let other = held.insert(key, task.id);
            assert_eq!(other, None, "{} of network {} is held twice", key.1, key.0);
            let raw = (place.network, u32::from(place.address));
            assert!(!state.quarantine.contains_key(&raw), "{} is used in quarantine", key.1);
        }
    }
}

fn no_overcommitment(state: &State) {
    for (node, load) in &state.index.loads {
        let has = state.nodes.get(node).map_or(0, |node| node.description.millicpus);
        assert!(load.millicpus <= has, "node {node} is overcommitted");
    }
}
