//! How far a job is: what its newest run completed.

use swarm_proto::id::Slot;
use swarm_proto::object::{JobRun, RunState, Service, Task, TaskState};
use swarm_proto::spec::{RestartCondition, ServiceMode};

use super::{ServiceProgress, What, failure, is_alive, stuck, wanted_slots};
use crate::state::State;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunProgress {
    /// Places that completed.
    pub completed: usize,
    /// Places in all.
    pub total: usize,
    /// Tasks that run.
    pub running: usize,
}

/// How far a run of a service is.
pub fn of_run(state: &State, service: &Service, run: &JobRun) -> RunProgress {
    let tasks = || state.tasks_of(service.id).filter(|task| task.run == Some(run.number));
    let running = tasks().filter(|task| task.status.state == TaskState::Running).count();
    let over = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let completed = if run.is_active() {
        tasks().filter(|task| task.status.state == TaskState::Complete).count()
    } else {
        over(run.completed)
    };
    let total = match (run.total, run.is_active()) {
        (Some(total), _) => over(total),
        (None, true) => wanted_slots(state, service).len().max(completed),
        (None, false) => over(run.completed.saturating_add(run.failed)),
    };
    RunProgress { completed, total, running }
}

/// How far a job is. One that runs by itself at its times owes nothing now.
pub(super) fn of_service(state: &State, service: &Service) -> ServiceProgress {
    let leaves = |task: &&Task| {
        (service.removing || task.desired > TaskState::Running) && is_alive(state, task)
    };
    let mut progress = ServiceProgress {
        leaving: state.tasks_of(service.id).filter(leaves).count(),
        removing: service.removing,
        what: What::Job,
        ..ServiceProgress::of_nothing(&service.key)
    };
    if service.removing || service.spec.schedule.is_some() {
        return progress;
    }
    let newest = service.runs.newest();
    let Some(run) = newest.filter(|run| run.spec_version == service.spec_version) else {
        // The run has not begun yet.
        progress.wanted = match service.spec.mode {
            ServiceMode::ReplicatedJob { total, .. } => usize::try_from(total).unwrap_or(1),
            _ => 1,
        };
        return progress;
    };
    let so_far = of_run(state, service, run);
    progress.wanted = so_far.total.max(1);
    progress.done = match run.state {
        // Not before the run itself is over.
        RunState::Running => so_far.completed.min(progress.wanted - 1),
        RunState::Failed => so_far.completed,
        RunState::Complete | RunState::Stopped => progress.wanted,
    };
    look_at_tasks(state, service, run, &mut progress);
    if run.state == RunState::Failed {
        progress.lost = Some((format!("job `{}`", service.name()), run.message.clone()));
    }
    progress
}

/// Says why places of a run that is not over are empty, and which of them are lost for certain.
fn look_at_tasks(state: &State, service: &Service, run: &JobRun, progress: &mut ServiceProgress) {
    if !run.is_active() {
        return;
    }
    let mut tasks: Vec<&Task> =
        state.tasks_of(service.id).filter(|task| task.run == Some(run.number)).collect();
    tasks.sort_by_key(|task| (task.id.slot, task.id.generation));
    for place in tasks.chunk_by(|a, b| a.id.slot == b.id.slot) {
        let Some(newest) = place.last().filter(|task| !matches!(task.id.slot, Slot::OneOff(_)))
        else {
            continue;
        };
        if place.iter().any(|task| task.status.state == TaskState::Complete) {
            continue;
        }
        progress.stuck.extend(stuck(state, place));
        let is_final = service.spec.restart.condition == RestartCondition::None
            && newest.desired <= TaskState::Running
            && matches!(newest.status.state, TaskState::Failed | TaskState::Rejected);
        if is_final && progress.lost.is_none() {
            let task = format!("task `{}`", state.task_name(newest));
            progress.lost = Some((task, failure(newest)));
        }
    }
}
