//! Runs of jobs: begins them, gives each of its places a task until one completed there, and ends them. One-off tasks
//! are runs with one place, beside the tasks of their service.

mod course;
mod due;

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::entry::{Action, Counter, Group, ObjectId, RunProgress, RunStart};
use swarm_proto::id::{ServiceId, Slot, Timestamp};
use swarm_proto::object::{JobRun, RunState, Service, Task, TaskState};
use swarm_proto::spec::Concurrency;

use super::command::Decision;
use super::service::find;
use super::slot::{SlotView, slots};
use super::{Observed, Plan};
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::{ACTIVE_RUNS, State, Stored, needs_run, stays_open};

/// See the module.
pub fn plan(state: &State, _observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.scheduled {
        if let Some(service) = state.services.get(id).filter(|service| !service.removing) {
            due::plan(state, service, now, &mut plan);
        }
    }
    // A run that ends or begins here goes on with the next round, which sees it.
    let decided: BTreeSet<ServiceId> = plan.groups.iter().flat_map(about).collect();
    let ids = state.index.unsettled.iter().chain(&state.index.global_jobs);
    let ids: BTreeSet<ServiceId> = ids.copied().collect();
    for id in ids.difference(&decided) {
        let Some(service) = state.services.get(id).filter(|service| !service.removing) else {
            continue;
        };
        if needs_run(service) {
            begin(state, service, &mut plan);
        } else if service.spec.mode.is_job() || service.runs.started > 0 {
            let slots = slots(state, service);
            for run in &service.runs.list {
                course::advance(state, service, run, &slots, now, &mut plan);
            }
            retire(state, service, &slots, &mut plan);
        }
    }
    plan
}

/// The services that a group is about.
fn about(group: &Group) -> impl Iterator<Item = ServiceId> + '_ {
    group.expect.iter().filter_map(|expect| match expect.object {
        ObjectId::Service(id) => Some(id),
        _ => None,
    })
}

/// Begins the run of a changed spec. It takes the place of the one before.
fn begin(state: &State, service: &Service, plan: &mut Plan) {
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    let mut actions = stop_active(state, service, "a newer spec was deployed");
    actions.push(start(service, None));
    plan.add(state, &read, actions);
}

fn start(service: &Service, scheduled_at: Option<Timestamp>) -> Action {
    Action::StartRun(Box::new(RunStart {
        service: service.id,
        run: service.runs.started + 1,
        scheduled_at,
        one_off: false,
        command: None,
    }))
}

/// Ends all runs of a job that are not over.
fn stop_active(state: &State, service: &Service, why: &str) -> Vec<Action> {
    service.runs.active().map(|run| stop_run(state, service, run, why)).collect()
}

fn stop_run(state: &State, service: &Service, run: &JobRun, why: &str) -> Action {
    let counts = state.index.runs.get(&(service.id, run.number)).copied().unwrap_or_default();
    end(service, run, RunState::Stopped, why.to_owned(), (counts.complete, 0))
}

/// Ends a run, in which so many places completed and so many gave up.
fn end(
    service: &Service,
    run: &JobRun,
    state: RunState,
    message: String,
    (completed, failed): (u32, u32),
) -> Action {
    let (service, run) = (service.id, run.number);
    Action::SetRun(Box::new(RunProgress { service, run, state, message, completed, failed }))
}

/// Removes the tasks of runs that are forgotten, and stops those of runs that are over.
fn retire(state: &State, service: &Service, slots: &BTreeMap<Slot, SlotView<'_>>, plan: &mut Plan) {
    let tasks = || slots.values().flat_map(|view| view.tasks.iter().copied());
    let mut desire = |task: &Stored<Task>, desired| {
        if task.desired < desired {
            let read = [(ObjectId::Task(task.id), Counter::Desired)];
            plan.add(state, &read, vec![Action::SetTaskDesired { task: task.id, desired }]);
        }
    };
    for task in tasks() {
        if task.run.is_some_and(|run| service.runs.get(run).is_none()) {
            desire(task, TaskState::Remove);
        }
    }
    for task in tasks() {
        let is_left = match task.run.map(|run| service.runs.get(run)) {
            // What has no run is left from when the service was no job.
            None => service.spec.mode.is_job(),
            Some(run) => run.is_some_and(|run| !run.is_active() && !stays_open(service, run)),
        };
        if is_left {
            desire(task, TaskState::Shutdown);
        }
    }
}

/// The command that begins a run of a job now.
pub(super) fn run(state: &State, name: &str) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    if !service.spec.mode.is_job() {
        return Err(Refusal::invalid(
            format!("service `{name}` is not a job"),
            format!("`swarmctl run {name}` runs one task beside those of the service"),
        ));
    }
    let concurrency = service.spec.schedule.as_ref().map(|schedule| schedule.concurrency);
    let mut actions = Vec::new();
    if let Some(active) = service.runs.active().next() {
        match concurrency.unwrap_or_default() {
            Concurrency::Allow => {}
            Concurrency::Replace => {
                actions = stop_active(state, service, "a later run took its place");
            }
            Concurrency::Forbid => {
                return Err(Refusal::conflict(
                    format!("run {} of `{name}` is not over", active.number),
                    format!("wait until it is, or stop it with `swarmctl job stop {name}`"),
                ));
            }
        }
    }
    actions.push(start(service, None));
    started(service, actions)
}

/// The command that runs one task beside those of a service.
pub(super) fn run_one_off(
    state: &State,
    name: &str,
    command: Option<&[String]>,
) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let start = RunStart {
        service: service.id,
        run: service.runs.started + 1,
        scheduled_at: None,
        one_off: true,
        command: command.map(<[String]>::to_vec),
    };
    started(service, vec![Action::StartRun(Box::new(start))])
}

fn started(service: &Service, actions: Vec<Action>) -> Result<Decision, Refusal> {
    let active = service.runs.list.iter().filter(|run| run.is_active()).count();
    if active >= ACTIVE_RUNS && actions.len() == 1 {
        let name = service.name();
        return Err(Refusal::conflict(
            format!("{active} runs of `{name}` are under way, which is the most"),
            format!("wait until some are over, or stop them with `swarmctl job stop {name}`"),
        ));
    }
    let read = vec![
        (ObjectId::Service(service.id), Counter::Spec),
        (ObjectId::Service(service.id), Counter::Desired),
    ];
    let mut decision = Decision::new(actions, read);
    decision.done = CommandDone::RunStarted { run: service.runs.started + 1 };
    Ok(decision)
}

/// The command that stops one run, or all runs of a job that are not over.
pub(super) fn stop(state: &State, name: &str, number: Option<u64>) -> Result<Decision, Refusal> {
    let service = find(state, name)?;
    let chosen = |run: &&JobRun| match number {
        Some(number) => run.number == number,
        None => !run.one_off,
    };
    let runs = service.runs.list.iter().filter(|run| run.is_active()).filter(chosen);
    let actions: Vec<Action> =
        runs.map(|run| stop_run(state, service, run, "stopped by request")).collect();
    if actions.is_empty() {
        let what = match number {
            Some(number) => format!("run {number} of `{name}` is not under way"),
            None => format!("no run of `{name}` is under way"),
        };
        return Err(Refusal::conflict(what, format!("`swarmctl job runs {name}` lists its runs")));
    }
    let read = vec![(ObjectId::Service(service.id), Counter::Desired)];
    Ok(Decision::new(actions, read))
}
