//! Gives pending tasks their nodes: filters first, then the node where the service, and then everybody, has the least.

pub mod constraint;
mod dependency;
mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::{Node, Service, Task, TaskState};
use swarm_proto::spec::{PortMode, ServiceMode, ServiceSpec};

use super::allocate::wait;
use super::{Observed, Plan};
use crate::core::state::{State, Stored, tasks_of};
use dependency::awaited;
pub(in crate::core) use filter::mounted;
use filter::{Placed, Question, explain, refusal};

/// Tasks that get nodes in one pass.
const TASKS: usize = 500;
/// A node on which this many of a service's tasks failed lately gets its tasks last: without that a broken node, which
/// never keeps any, would draw them all.
const FAILURES: usize = 3;
/// How long ago is lately.
const LATELY: Duration = Duration::from_mins(5);

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut placed = Placed::default();
    // Tasks of one spec that differ in nothing have the same answer when there is none.
    let mut hopeless: BTreeMap<(ServiceId, u64), String> = BTreeMap::new();
    let mut flaky: BTreeMap<ServiceId, BTreeSet<NodeId>> = BTreeMap::new();
    // What each service waits for.
    let mut held: BTreeMap<(ServiceId, u64), Option<String>> = BTreeMap::new();
    let mut done = 0;
    for id in &state.index.unplaced {
        let Some((task, service, spec)) = look_up(state, *id) else { continue };
        let key = (service.id, task.spec_version);
        let awaited = held.entry(key).or_insert_with(|| awaited(state, service, spec));
        if let Some(reason) = awaited {
            wait(state, task, reason.clone(), &mut plan);
            continue;
        }
        let alike = matches!(spec.mode, ServiceMode::Replicated { .. });
        if let Some(reason) = hopeless.get(&key) {
            wait(state, task, reason.clone(), &mut plan);
            continue;
        }
        let avoided =
            flaky.entry(service.id).or_insert_with(|| flaky_nodes(state, service.id, now));
        match choose(state, service, spec, task, &placed, avoided) {
            Ok(node) => {
                let read = [
                    (ObjectId::Task(task.id), Counter::Desired),
                    (ObjectId::Node(node), Counter::Spec),
                ];
                plan.add(state, &read, vec![Action::AssignTask { task: task.id, node }]);
                take(service, spec, node, &mut placed);
                done += 1;
            }
            Err(reason) => {
                wait(state, task, reason.clone(), &mut plan);
                if alike {
                    hopeless.insert(key, reason);
                }
            }
        }
        if done >= TASKS {
            break;
        }
    }
    plan
}

fn look_up(state: &State, id: TaskId) -> Option<(&Stored<Task>, &Service, &ServiceSpec)> {
    let task = state.tasks.get(&id)?;
    let service = state.services.get(&id.service)?;
    Some((task, service, state.task_spec(task)?))
}

/// The best node for a task, or why there is none.
fn choose(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
    task: &Task,
    placed: &Placed,
    avoided: &BTreeSet<NodeId>,
) -> Result<NodeId, String> {
    let question = Question { state, service, spec, task, placed };
    let mut refusals = Vec::new();
    let mut candidates: Vec<&Node> = Vec::new();
    for node in state.nodes.values() {
        match refusal(&question, node) {
            None => candidates.push(node),
            Some(reason) => refusals.push((node.id, reason)),
        }
    }
    let before = TaskId { generation: task.id.generation.saturating_sub(1), ..task.id };
    let home = state.tasks.get(&before).and_then(|before| before.node);
    let has_volume = mounted(state, &service.stack, spec).next().is_some();
    let best = candidates.iter().min_by_key(|node| {
        let away = has_volume && home != Some(node.id);
        let groups = spread_counts(state, service, spec, placed, node);
        let own = placed.of_service(state, service, node.id);
        (away, avoided.contains(&node.id), groups, own, placed.load(state, node.id).tasks, node.id)
    });
    best.map(|node| node.id).ok_or_else(|| explain(&refusals, state))
}

/// Nodes on which tasks of a service failed several times lately.
fn flaky_nodes(state: &State, service: ServiceId, now: Timestamp) -> BTreeSet<NodeId> {
    let mut failures: BTreeMap<NodeId, usize> = BTreeMap::new();
    let failed = tasks_of(state, service).filter(|task| {
        matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
            && now.since(task.status.since) <= LATELY
    });
    for node in failed.filter_map(|task| task.node) {
        *failures.entry(node).or_default() += 1;
    }
    let flaky = failures.into_iter().filter(|(_, count)| *count >= FAILURES);
    flaky.map(|(node, _)| node).collect()
}

/// For each label to spread over, how many tasks of the service are on nodes with this node's value.
fn spread_counts(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
    placed: &Placed,
    node: &Node,
) -> Vec<u32> {
    let mut counts = Vec::new();
    for (depth, _) in spec.placement.spread.iter().enumerate() {
        let labels = &spec.placement.spread[..=depth];
        let alike = |other: &&Stored<Node>| {
            labels.iter().all(|label| other.labels.get(label) == node.labels.get(label))
        };
        let nodes = state.nodes.values().filter(alike);
        counts.push(nodes.map(|other| placed.of_service(state, service, other.id)).sum());
    }
    counts
}

/// Notes what a task takes of its node, for the tasks placed after it.
fn take(service: &Service, spec: &ServiceSpec, node: NodeId, placed: &mut Placed) {
    let load = placed.loads.entry(node).or_default();
    load.tasks += 1;
    load.millicpus += spec.container.resources.reserve_millicpus;
    load.memory += spec.container.resources.reserve_memory;
    *placed.spread.entry((service.id, node)).or_default() += 1;
    for port in spec.ports.iter().filter(|port| port.mode == PortMode::Host) {
        placed.ports.extend(port.published.map(|number| (node, port.protocol, number)));
    }
}
