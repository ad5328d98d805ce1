//! Removes what a deploy with `--prune` left out of its stack, last: once every service of the stack runs as its spec
//! says, and has for a moment. What takes from the hosts that which these services wait for goes before.

use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{ServiceId, TaskId, Timestamp};
use swarm_proto::object::{Leaving, Service, Stack, TaskState};

use super::schedule::has_a_node;
use super::{Observed, Plan};
use crate::core::state::{State, Stored, ids_of, tasks_of};

/// How long tasks must have run: one that fails at once has not run.
const STEADY: Duration = Duration::from_secs(2);
/// Waiting tasks that are looked at in one pass; others of their services wait for the same.
const TASKS: usize = 32;

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for name in &state.index.leaving {
        if let Some(stack) = state.stacks.get(name).filter(|stack| !stack.removing) {
            step(state, stack, now, &mut plan);
        }
    }
    plan
}

fn step(state: &State, stack: &Stored<Stack>, now: Timestamp, plan: &mut Plan) {
    let name = &stack.spec.name;
    let named = |service: &&Stored<Service>| stack.leaving.services.contains(&service.key);
    let left: Vec<_> = state.services_of(name).into_iter().filter(named).collect();
    let staying: Vec<_> = left.iter().copied().filter(|service| !service.removing).collect();
    let going = match steady_at(state, stack) {
        Some(at) if at <= now && left.is_empty() => return remove_networks(state, stack, plan),
        Some(at) if at <= now => staying,
        waits => {
            if let Some(at) = waits {
                plan.wake(at);
            }
            in_the_way(state, stack, &staying)
        }
    };
    if !going.is_empty() {
        let mut read = vec![(ObjectId::Stack(name.clone()), Counter::Spec)];
        read.extend(going.iter().map(|service| (ObjectId::Service(service.id), Counter::Spec)));
        let actions = going.iter().map(|service| Action::SetServiceRemoving(service.id));
        plan.add(state, &read, actions.collect());
    }
}

/// With its services gone, the networks follow, and nothing is left to be remembered. A network that another stack has
/// come to use stays.
fn remove_networks(state: &State, stack: &Stack, plan: &mut Plan) {
    let name = &stack.spec.name;
    let mut actions = Vec::new();
    for key in &stack.leaving.networks {
        let network = state.find_network(name, key).filter(|network| !network.removing);
        let unused = |name: &String| state.users_of_network(name).next().is_none();
        if let Some(network) = network.filter(|network| unused(&network.name)) {
            actions.push(Action::SetNetworkRemoving(network.id));
        }
    }
    let (stack, leaving) = (name.clone(), Leaving::default());
    actions.push(Action::SetStackLeaving { stack, leaving });
    plan.add(state, &[(ObjectId::Stack(name.clone()), Counter::Spec)], actions);
}

/// Services of the spec.
fn services<'a>(
    state: &'a State,
    stack: &'a Stack,
) -> impl Iterator<Item = Option<&'a Stored<Service>>> {
    stack.spec.services.keys().map(|key| state.find_service(&stack.spec.name, key))
}

/// When all services of the spec will have run for long enough, should all of their tasks go on; `None` while something
/// is owed.
fn steady_at(state: &State, stack: &Stack) -> Option<Timestamp> {
    let mut since = Timestamp::default();
    for service in services(state, stack) {
        let index = &state.index;
        let owed = |id| index.unsettled.contains(&id) || index.unallocated.contains(&id);
        let service = service.filter(|service| !service.removing && !owed(service.id))?;
        let running = tasks_of(state, service.id)
            .filter(|task| task.status.state == TaskState::Running)
            .map(|task| task.status.since);
        since = running.fold(since, Timestamp::max);
    }
    Some(if since == Timestamp::default() { since } else { since.after(STEADY) })
}

/// Those services, of the ones that shall go last, without whose tasks a task of the spec's services would have a node
/// or an address.
fn in_the_way<'a>(
    state: &State,
    stack: &Stack,
    staying: &[&'a Stored<Service>],
) -> Vec<&'a Stored<Service>> {
    let mut waiting = services(state, stack).flatten().flat_map(|service| {
        let unplaced = state.index.unplaced.range(ids_of(service.id)).copied();
        unplaced.chain(state.index.unaddressed.range(ids_of(service.id)).copied())
    });
    let blocked = waiting.by_ref().take(TASKS).find_map(|task| blockers(state, task, staying));
    blocked.unwrap_or_default()
}

/// The first of the services that together keep a task from a node or an address; `None` when they do not.
fn blockers<'a>(
    state: &State,
    task: TaskId,
    staying: &[&'a Stored<Service>],
) -> Option<Vec<&'a Stored<Service>>> {
    let waits = state.tasks.get(&task)?;
    if waits.status.state == TaskState::New {
        let full = !waits.status.message.is_empty();
        let shares = |service: &&&Stored<Service>| full && shares_network(state, task, service.id);
        return staying.iter().find(shares).map(|service| vec![*service]);
    }
    if has_a_node(state, task) {
        return None;
    }
    let makes_room = |going: &[&Stored<Service>]| {
        let ids: Vec<ServiceId> = going.iter().map(|service| service.id).collect();
        has_a_node(&state.without_tasks_of(&ids), task)
    };
    let count = (1..=staying.len()).find(|count| makes_room(&staying[..*count]))?;
    // Without those that it would do with.
    let mut going = staying[..count].to_vec();
    for service in &staying[..count] {
        let mut fewer = going.clone();
        fewer.retain(|one| one.id != service.id);
        if makes_room(&fewer) {
            going = fewer;
        }
    }
    Some(going)
}

/// Whether tasks of a service hold addresses on a network of a task.
fn shares_network(state: &State, task: TaskId, service: ServiceId) -> bool {
    let Some(task) = state.tasks.get(&task) else { return false };
    let (Some(own), Some(spec)) = (state.services.get(&task.id.service), state.task_spec(task))
    else {
        return false;
    };
    let networks = spec.networks.iter().filter_map(|one| state.network_of(&own.stack, one));
    let networks: Vec<_> = networks.map(|network| network.id).collect();
    let mut places = tasks_of(state, service).flat_map(|task| &task.attachments);
    places.any(|place| networks.contains(&place.network))
}
