//! Law: no node gives what it does not have, and nothing twice, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use swarm_controller::core::state::State;
use swarm_proto::id::NodeId;
use swarm_proto::object::{GenericResource, HostShare, Task, TaskState};

/// Whether a task may still run on its node.
fn may_live(task: &Task) -> bool {
    !task.status.state.is_terminal() || task.status.state == TaskState::Orphaned
}

/// What the tasks of one node have, counted anew.
#[derive(Default)]
struct Taken {
    share: HostShare,
    counts: BTreeMap<String, u64>,
    names: BTreeMap<String, BTreeSet<String>>,
    /// What those want that came with this entry.
    fresh: HostShare,
}

/// Holds the law against a step from one state to the next.
pub(crate) fn law(before: &State, after: &State) {
    let mut nodes: BTreeMap<NodeId, Taken> = BTreeMap::new();
    for task in after.tasks.values().filter(|task| may_live(task)) {
        let Some(node) = task.node else {
            assert!(task.resources.is_empty(), "{} has something of no node", task.id);
            continue;
        };
        let wanted = after.task_spec(task).unwrap().container.resources.reserved();
        let taken = nodes.entry(node).or_default();
        let add = |sum: &mut HostShare| {
            sum.millicpus += wanted.millicpus;
            sum.memory += wanted.memory;
            sum.pids += wanted.pids;
        };
        add(&mut taken.share);
        if before.tasks.get(&task.id).is_none_or(|old| old.node.is_none()) {
            add(&mut taken.fresh);
        }
        for (kind, resource) in &task.resources {
            match resource {
                GenericResource::Count(count) => {
                    *taken.counts.entry(kind.clone()).or_default() += count;
                }
                GenericResource::Named(names) => {
                    for name in names {
                        let names = taken.names.entry(kind.clone()).or_default();
                        assert!(names.insert(name.clone()), "{kind} {name} of {node} twice");
                    }
                }
            }
        }
    }
    for (node, taken) in &nodes {
        let reserved = after.index.reserved.get(node).cloned().unwrap_or_default();
        assert_eq!((reserved.share, &reserved.counts), (taken.share, &taken.counts));
        assert_eq!(reserved.names, taken.names);
        let description = &after.nodes[node].description;
        let has = description.for_tasks();
        // A node that has less than before keeps its tasks, and gets none that want of it.
        let fits = |fresh: u64, sum: u64, has: u64| fresh == 0 || sum <= has;
        assert!(
            fits(taken.fresh.millicpus, taken.share.millicpus, has.millicpus),
            "CPUs of {node}"
        );
        assert!(fits(taken.fresh.memory, taken.share.memory, has.memory), "memory of {node}");
        assert!(fits(taken.fresh.pids, taken.share.pids, has.pids), "pids of {node}");
    }
    for node in after.index.reserved.keys() {
        assert!(nodes.contains_key(node), "nobody has anything of {node}");
    }
    fresh_ones_are_there(before, after);
}

/// A task is given what its node has when it gets there.
fn fresh_ones_are_there(before: &State, after: &State) {
    let is_fresh = |task: &&Task| before.tasks.get(&task.id).is_none_or(|old| old.node.is_none());
    for task in after.tasks.values().map(|task| &*task.object).filter(is_fresh) {
        let Some(node) = task.node.and_then(|node| after.nodes.get(&node)) else { continue };
        for (kind, resource) in &task.resources {
            let has = &node.description.generic_resources[kind];
            let is_there = match (resource, has) {
                (GenericResource::Count(_), GenericResource::Count(has)) => {
                    after.index.reserved[&node.id].counts[kind] <= *has
                }
                (GenericResource::Named(names), GenericResource::Named(has)) => {
                    names.is_subset(has)
                }
                _ => false,
            };
            assert!(is_there, "{} has {kind} {resource} of {has}", task.id);
        }
    }
}
