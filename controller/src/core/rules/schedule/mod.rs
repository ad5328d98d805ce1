//! Gives pending tasks their nodes: tasks of one spec together, filters first, then the best of the nodes that are left.

mod affinity;
mod candidates;
mod filter;
mod making;
mod placed;
pub mod preempt;
mod victims;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, TaskId, Timestamp};
use swarm_proto::object::{GenericResources, Node, Service, Task, TaskState};
use swarm_proto::spec::ServiceSpec;

use super::allocate::wait;
use super::dependency::awaited;
use super::slot::view_of;
use super::{Observed, Plan};
use crate::core::state::{State, Stored, ids_of, is_one_off, slots_of};
use candidates::Candidates;
pub(in crate::core) use filter::mounted;
use filter::{Question, explain, given, refusal};
use making::Place;
use placed::Placed;
use victims::Making;

/// Tasks that get nodes in one pass.
const TASKS: usize = 500;
/// A node on which this many of a service's tasks failed lately gets its tasks last: without that a broken node, which
/// never keeps any, would draw them all. Swarm's numbers; fewer where a shorter history of dead tasks is kept.
const FAILURES: usize = 5;
/// How long ago is lately.
pub(super) const LATELY: Duration = Duration::from_mins(5);

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut placed = Placed::default();
    let mut left = TASKS;
    // Services one after the other, first those of higher priority: what comes after the last that has room in this pass
    // is not looked at.
    for service in waiting(state) {
        if left == 0 {
            break;
        }
        // First those for which others make place: else another one that comes before would get it.
        let is_later = |task| state.index.preempted.is_empty() || !state.is_made_place(task);
        let mut batches: BTreeMap<(bool, u64, bool), Vec<&Stored<Task>>> = BTreeMap::new();
        for id in state.index.unplaced.range(ids_of(service)) {
            let Some(task) = state.tasks.get(id) else { continue };
            let kind = (is_later(task.id), task.spec_version, is_one_off(task));
            batches.entry(kind).or_default().push(task);
        }
        let Some(service) = state.services.get(&service) else { continue };
        for ((_, version, is_one_off), tasks) in batches {
            let Some(spec) = state.specs.get(&(service.id, version)) else { continue };
            let batch = Batch { state, service, spec, is_one_off, now };
            left -= batch.place(&tasks, left, &mut placed, &mut plan);
        }
    }
    if !state.index.unplaced.is_empty() {
        let steady = state.nodes.values().filter_map(|node| node.steady_at());
        steady.filter(|at| *at > now).for_each(|at| plan.wake(at));
    }
    plan
}

/// Services with tasks that wait for nodes, those of higher priority first; among equals, those for which others make
/// place or have made it.
fn waiting(state: &State) -> Box<dyn Iterator<Item = ServiceId> + '_> {
    let unplaced = &state.index.unplaced;
    let mut next = unplaced.iter().next().map(|id| id.service);
    let services = std::iter::from_fn(move || {
        let service = next?;
        let later = (Bound::Excluded(*ids_of(service).end()), Bound::Unbounded);
        next = unplaced.range(later).next().map(|id| id.service);
        Some(service)
    });
    if state.lowest_priority().is_none() {
        return Box::new(services);
    }
    let mut services: Vec<ServiceId> = services.collect();
    services.sort_by_cached_key(|service| {
        let (first, last) = ids_of(*service).into_inner();
        let is_made = state.index.preempted.range((first, first)..).next();
        let is_made = is_made.is_some_and(|(task, _)| *task <= last);
        (Reverse(state.priority(*service)), !is_made, *service)
    });
    Box::new(services.into_iter())
}

/// Tasks of one spec, the service's own or those beside them.
struct Batch<'a> {
    state: &'a State,
    service: &'a Service,
    spec: &'a ServiceSpec,
    is_one_off: bool,
    now: Timestamp,
}

/// Whether a task that waits for a node could have one, were it the only one that waits.
pub(super) fn has_a_node(state: &State, task: TaskId) -> bool {
    let Some(task) = state.tasks.get(&task) else { return false };
    let (Some(service), Some(spec)) = (state.services.get(&task.id.service), state.task_spec(task))
    else {
        return false;
    };
    let placed = Placed::default();
    let question = Question { state, service, spec, is_one_off: is_one_off(task), placed: &placed };
    let is_for = |node: &Node| !matches!(task.id.slot, Slot::Node(id) if id != node.id);
    state.nodes.values().any(|node| is_for(node) && refusal(&question, node).is_none())
}

impl<'a> Batch<'a> {
    /// Gives so many of the tasks nodes, and says how many got one.
    fn place(
        &self,
        tasks: &[&Stored<Task>],
        most: usize,
        placed: &mut Placed,
        plan: &mut Plan,
    ) -> usize {
        if let Some(reason) = awaited(self.state, self.service, self.spec) {
            for task in tasks {
                wait(self.state, task, reason.clone(), plan);
            }
            return 0;
        }
        let mut candidates = None;
        // Tasks that may go anywhere have the same answer when there is none.
        let mut hopeless: Option<String> = None;
        let mut count = 0;
        for task in tasks {
            if count >= most {
                break;
            }
            let chosen = match (task.id.slot, &hopeless) {
                (Slot::Node(node), _) => self.fixed(node, placed),
                (_, Some(reason)) => Err(reason.clone()),
                (_, None) => self.free(task, placed, &mut candidates),
            };
            match chosen {
                Ok(node) => {
                    let read = [
                        (ObjectId::Task(task.id), Counter::Desired),
                        (ObjectId::Node(node.id), Counter::Spec),
                    ];
                    let Ok(resources) = given(&self.question(placed), node) else { continue };
                    placed.take(self.state, (self.service, self.spec), node, &resources);
                    let action = Action::AssignTask { task: task.id, node: node.id, resources };
                    plan.add(self.state, &read, vec![action]);
                    if let Some(candidates) = &mut candidates {
                        candidates.took(&self.question(placed), node);
                    }
                    count += 1;
                }
                Err(reason) => {
                    let kept = self.keep_place(task, placed);
                    wait(self.state, task, kept.unwrap_or_else(|| reason.clone()), plan);
                    if !matches!(task.id.slot, Slot::Node(_)) {
                        hopeless = Some(reason);
                    }
                }
            }
        }
        count
    }

    /// Keeps the place that others make for a task, and says what it waits for; `None` where nobody makes one.
    fn keep_place(&self, task: &Task, placed: &mut Placed) -> Option<String> {
        let parts = (self.service, self.spec);
        let place = Place::of(self.state, parts, task)?;
        place.hold(self.state, self.state, parts, task, placed);
        Some(place.reason(self.state))
    }

    fn question<'p>(&self, placed: &'p Placed) -> Question<'a, 'p> {
        let Self { state, service, spec, is_one_off, .. } = *self;
        Question { state, service, spec, is_one_off, placed }
    }

    /// The node that a task is made for, or why it cannot have it.
    fn fixed(&self, node: NodeId, placed: &Placed) -> Result<&'a Node, String> {
        let Some(node) = self.state.nodes.get(&node).map(|node| &*node.object) else {
            return Err(explain(&[], self.state));
        };
        match refusal(&self.question(placed), node) {
            None => Ok(node),
            Some(reason) => Err(explain(&[(node.id, reason)], self.state)),
        }
    }

    /// The best node for a task, or why there is none.
    fn free(
        &self,
        task: &Task,
        placed: &Placed,
        candidates: &mut Option<Candidates<'a>>,
    ) -> Result<&'a Node, String> {
        let question = self.question(placed);
        if let Some(home) = self.home(task).filter(|home| refusal(&question, home).is_none()) {
            return Ok(home);
        }
        let candidates = candidates.get_or_insert_with(|| {
            Candidates::new(&question, &flaky_nodes(self.state, self.service.id, self.now))
        });
        candidates.best(&question).ok_or_else(|| {
            let nodes = self.state.nodes.values();
            let reasons = nodes.filter_map(|node| Some((node.id, refusal(&question, node)?)));
            explain(&reasons.collect::<Vec<_>>(), self.state)
        })
    }

    /// The node of the task before, where its volumes are.
    fn home(&self, task: &Task) -> Option<&'a Node> {
        mounted(self.state, &self.service.stack, self.spec).next()?;
        let before = TaskId { generation: task.id.generation.saturating_sub(1), ..task.id };
        let node = self.state.tasks.get(&before)?.node?;
        self.state.nodes.get(&node).map(|node| &*node.object)
    }
}

/// Nodes on which tasks of a service failed several times lately.
fn flaky_nodes(state: &State, service: ServiceId, now: Timestamp) -> BTreeSet<NodeId> {
    let mut failures: BTreeMap<NodeId, usize> = BTreeMap::new();
    let with_dead = state.index.dead.range(slots_of(service)).map(|((_, slot), _)| *slot);
    let tasks = with_dead.flat_map(|slot| view_of(state, service, slot).tasks);
    for node in tasks.filter_map(|task| failed_on(task, now)) {
        *failures.entry(node).or_default() += 1;
    }
    let kept = state.cluster.as_ref().map_or(FAILURES, |cluster| cluster.task_history as usize);
    let flaky = failures.into_iter().filter(|(_, count)| *count >= FAILURES.min(kept.max(1)));
    flaky.map(|(node, _)| node).collect()
}

/// The node on which a task failed lately.
pub(super) fn failed_on(task: &Task, now: Timestamp) -> Option<NodeId> {
    let failed = matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
        && now.since(task.status.since) <= LATELY;
    task.node.filter(|_| failed)
}

/// Where the next task of a service goes, were none waiting before it but those for which others make place, and what it
/// is given there of the node's generic resources.
pub(super) fn next_place<'a>(
    state: &'a State,
    service: &'a Service,
    now: Timestamp,
) -> Option<(&'a Node, GenericResources)> {
    let mut placed = Placed::default();
    Making::of(state).hold(state, service, &mut placed);
    let spec = &service.spec;
    let question = Question { state, service, spec, is_one_off: false, placed: &placed };
    let flaky = flaky_nodes(state, service.id, now);
    let node = Candidates::new(&question, &flaky).best(&question)?;
    Some((node, given(&question, node).ok()?))
}
