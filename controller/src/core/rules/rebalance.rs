//! Moves tasks to where they would be placed now, when nodes joined or the load is skewed: by itself where the cluster's
//! setting says so, or because an operator asks.
//!
//! A service's tasks move one after the other, under its update policy (see `moves`), and all services' together no
//! faster than the setting allows, which `apply` counts. Nothing is moved while it is in doubt which nodes are there.

mod choice;
mod outlook;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use swarm_proto::entry::{Action, Counter, Group, ObjectId};
use swarm_proto::id::{NodeId, ServiceId, Slot, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Node, NodeStatus, PlannedMove, Rebalance, RebalanceMode, Service, TaskState,
};

use super::command::Decision;
use super::moves::{Moves, is_left};
use super::schedule::LATELY;
use super::slot::{stop_task, view_of};
use super::{Observed, Plan, Rule, allocate, name_of, replicate, schedule, service};
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::{State, Stored, is_backend};
use choice::{Loads, choose, is_skewed, may_move, rested_at};
pub use outlook::{Outlook, foresee};

/// How many nodes are looked at in a pass, counted once for each service that may be spread unevenly and once for each of
/// those on nodes with many tasks: what is left then has its turn a second later.
const LOOKS: usize = 20_000;
/// Where not everything could be looked at, when to go on.
const AGAIN: Duration = Duration::from_secs(1);
/// A node that went down or came back so lately makes it doubtful how things are.
const CALM: Duration = Duration::from_mins(1);

/// See the module.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster) = &state.cluster else { return plan };
    call_off(state, &cluster.rebalance, now, &mut plan);
    if cluster.rebalance.mode == RebalanceMode::Off {
        return plan;
    }
    // A new leader has not heard all nodes yet.
    let heard_at = observed.since.after(cluster.node_down_after);
    let calm_at = doubt(state, now).map(|doubt| doubt.until);
    let room_at = cluster.rebalance.room_at(now);
    let waits = [Some(heard_at).filter(|at| *at > now), calm_at, room_at];
    if let Some(at) = waits.into_iter().flatten().max() {
        plan.wake(at);
        return plan;
    }
    let begin = now.0 / 1_000;
    let begin = ServiceId(begin.wrapping_mul(0x9E37_79B9_7F4A_7C15) % state.next.service.max(1));
    let mut seen = look(state, crowded(state, begin), now, &mut plan);
    // What spreads a service changes loads, too: it goes first, also where it has to wait.
    if seen == Seen::Nothing {
        seen = look(state, overloading(state), now, &mut plan);
    }
    if seen != Seen::Move {
        // By then, failures that are in the way now are forgotten.
        plan.wake(now.after(LATELY));
    }
    plan
}

/// What stands between a cluster and its moves.
struct Doubt {
    until: Timestamp,
    why: String,
}

/// Whether it is in doubt which nodes are there.
fn doubt(state: &State, now: Timestamp) -> Option<Doubt> {
    let doubtful = |node: &Stored<Node>| {
        let is_down = node.status == NodeStatus::Down;
        let turned = is_down || !node.recent_downs.is_empty();
        let calm_at = turned.then(|| node.status_since.after(CALM));
        let until = calm_at.max(node.steady_at()).filter(|at| *at > now)?;
        let what = if is_down { "went down" } else { "came back" };
        let why = format!("node {} {what} less than a minute ago", name_of(node));
        Some(Doubt { until, why })
    };
    state.nodes.values().filter_map(doubtful).max_by_key(|doubt| doubt.until)
}

/// Services that may be spread unevenly, in the order of their ids from this one on.
fn crowded(state: &State, begin: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
    let (crowds, spread_out) = (&state.index.crowds, &state.index.spread_out);
    let crowds = crowds.range(begin..).chain(crowds.range(..begin)).map(|(id, _)| *id);
    crowds.chain(spread_out.range(begin..).chain(spread_out.range(..begin)).copied())
}

/// Services with tasks on nodes that have many more than another, from the fullest node on.
fn overloading(state: &State) -> impl Iterator<Item = ServiceId> + '_ {
    let takes = |node: &&Stored<Node>| {
        node.status == NodeStatus::Ready && node.availability == Availability::Active
    };
    let nodes = state.nodes.values().filter(takes);
    let of_nodes = Loads::of(state);
    let mut loads: Vec<_> = nodes.map(|node| (Reverse(of_nodes.on(node.id)), node.id)).collect();
    loads.sort_unstable();
    let least = loads.last().map_or(0, |(Reverse(load), _)| *load);
    let full = loads.into_iter().take_while(move |(Reverse(load), _)| is_skewed(*load, least));
    full.flat_map(|(_, node)| services_on(state, node))
}

/// The services with tasks on a node.
fn services_on(state: &State, node: NodeId) -> impl Iterator<Item = ServiceId> + '_ {
    let mut next = Some(ServiceId(0));
    std::iter::from_fn(move || {
        let first = TaskId { service: next?, slot: Slot::Replica(0), generation: 0 };
        let (on, task) = state.index.node_tasks.range((node, first)..).next()?;
        next = task.service.0.checked_add(1).map(ServiceId);
        (*on == node).then_some(task.service)
    })
}

/// What a look at services came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A task is moved.
    Move,
    /// Some were not looked at, or have to wait.
    Part,
    /// None gets better by a move.
    Nothing,
}

/// Moves a task of the first of these services that gets better by it. Where the next one goes shows only once this one
/// has its node.
fn look(
    state: &State,
    services: impl Iterator<Item = ServiceId>,
    now: Timestamp,
    plan: &mut Plan,
) -> Seen {
    let mut known = BTreeSet::new();
    let mut seen = Seen::Nothing;
    let mut left = LOOKS;
    for id in services.filter(|id| known.insert(*id)) {
        if left == 0 {
            plan.wake(now.after(AGAIN));
            return Seen::Part;
        }
        left -= 1;
        let Some(service) = state.services.get(&id) else { continue };
        let rested_at = rested_at(state, service);
        if rested_at > now {
            plan.wake(rested_at);
            seen = Seen::Part;
        } else if may_move(state, service) {
            left = left.saturating_sub(state.nodes.len());
            if let Some((planned, actions)) = next_move(state, service, now) {
                plan.add(state, &read(service, &planned), actions);
                return Seen::Move;
            }
        }
    }
    seen
}

/// The next move of a service, and what begins it.
fn next_move(
    state: &State,
    service: &Stored<Service>,
    now: Timestamp,
) -> Option<(PlannedMove, Vec<Action>)> {
    let planned = choose(state, service, now)?.planned;
    let task = state.tasks.get(&planned.task)?;
    let action = Moves::of(state, service).begin(task, now)?;
    Some((planned, vec![Action::CountMove(task.id), action]))
}

/// What a move rests on.
fn read(service: &Service, planned: &PlannedMove) -> Vec<(ObjectId, Counter)> {
    vec![
        (ObjectId::Service(service.id), Counter::Spec),
        (ObjectId::Service(service.id), Counter::Desired),
        (ObjectId::Task(planned.task), Counter::Desired),
        (ObjectId::Node(planned.to), Counter::Spec),
        (ObjectId::Node(planned.to), Counter::Status),
    ]
}

/// Gives up successors that do not run within the progress deadline, while the tasks that they should replace serve.
fn call_off(state: &State, rebalance: &Rebalance, now: Timestamp, plan: &mut Plan) {
    for one in &rebalance.recent {
        let Some(task) = state.tasks.get(&one.task).filter(|task| is_backend(task)) else {
            continue;
        };
        let node = task.node.and_then(|node| state.nodes.get(&node));
        let drains = node.is_some_and(|node| node.availability == Availability::Drain);
        let view = view_of(state, task.id.service, task.id.slot);
        let Some(service) = state.services.get(&task.id.service) else { continue };
        let Some(newest) = view.newest().filter(|_| !drains && is_left(state, &view, task)) else {
            continue;
        };
        if is_backend(newest) || newest.desired > TaskState::Running {
            continue;
        }
        let at = newest.created_at.after(service.update_policy().progress_deadline);
        if at > now {
            plan.wake(at);
            continue;
        }
        let read = [
            (ObjectId::Task(newest.id), Counter::Status),
            (ObjectId::Task(newest.id), Counter::Desired),
        ];
        plan.add(state, &read, vec![stop_task(newest)]);
    }
}

/// Why nothing may be moved now.
fn refusal(state: &State, rebalance: &Rebalance, now: Timestamp) -> Option<Refusal> {
    let seconds = |until: Timestamp| until.since(now).as_secs() + 1;
    if let Some(Doubt { until, why }) = doubt(state, now) {
        let what = format!("nothing is moved now: {why}");
        return Some(Refusal::conflict(what, format!("try again in {} s", seconds(until))));
    }
    let room_at = rebalance.room_at(now)?;
    let most = rebalance.moves_per_minute;
    Some(Refusal::conflict(
        format!("nothing is moved now: the cluster allows {most} per minute"),
        format!(
            "try again in {} s; `swarmctl cluster update --moves-per-minute` allows more",
            seconds(room_at)
        ),
    ))
}

/// Begins the next move of each of these services, as far as is allowed now.
pub(super) fn begin(state: &State, names: &[String], now: Timestamp) -> Result<Decision, Refusal> {
    let Some(cluster) = &state.cluster else {
        return Err(Refusal::unavailable("the cluster is not known yet"));
    };
    let most = Rebalance::MOST_PER_MINUTE;
    if names.len() > most as usize {
        let what = format!("moves of {} services were asked for", names.len());
        return Err(Refusal::invalid(what, format!("ask for those of {most} at most")));
    }
    if let Some(refusal) = refusal(state, &cluster.rebalance, now) {
        return Err(refusal);
    }
    let mut ahead = state.clone();
    ahead.clock = ahead.clock.max(now);
    let mut decision = Decision::new(Vec::new(), Vec::new());
    let mut moves = Vec::new();
    for name in names {
        let service = service::find(&ahead, name)?.clone();
        if !may_move(&ahead, &service) || rested_at(&ahead, &service) > now {
            continue;
        }
        let Some((planned, actions)) = next_move(&ahead, &service, now) else { continue };
        let group = Group { actions, ..Group::default() };
        if !ahead.apply_group(&group, &mut Vec::new()) {
            // As many as may were moved within the last minute.
            break;
        }
        place(&mut ahead, now);
        decision.actions.extend(group.actions);
        decision.read.extend(read(&service, &planned));
        moves.push(planned);
    }
    decision.done = CommandDone::Moved(moves);
    Ok(decision)
}

/// Gives tasks their nodes, as the next pass does.
fn place(state: &mut State, now: Timestamp) {
    let rules: [Rule; 3] = [replicate::plan, allocate::plan, schedule::plan];
    for rule in rules {
        for group in rule(state, &Observed::default(), now).groups {
            state.apply_group(&group, &mut Vec::new());
        }
    }
}

/// Changes how the cluster moves tasks; `None` leaves it.
pub(super) fn set(
    state: &State,
    mode: Option<RebalanceMode>,
    moves_per_minute: Option<u32>,
) -> Result<Decision, Refusal> {
    let Some(cluster) = &state.cluster else {
        return Err(Refusal::unavailable("the cluster is not known yet"));
    };
    let most = Rebalance::MOST_PER_MINUTE;
    if moves_per_minute.is_some_and(|moves| moves == 0 || moves > most) {
        let hint = format!("choose from 1 to {most}; `--rebalance off` moves nothing");
        return Err(Refusal::invalid("there cannot be so many moves per minute", hint));
    }
    let mut new = cluster.as_ref().clone();
    new.rebalance.mode = mode.unwrap_or(new.rebalance.mode);
    new.rebalance.moves_per_minute = moves_per_minute.unwrap_or(new.rebalance.moves_per_minute);
    let changes = new.rebalance != cluster.rebalance;
    let actions = changes.then(|| Action::SetCluster(Box::new(new)));
    Ok(Decision::new(actions.into_iter().collect(), Vec::new()))
}
