//! Writes of runs: of jobs, and of one-off tasks.

use std::sync::Arc;

use swarm_proto::entry::{Action, RunProgress, RunStart};
use swarm_proto::id::{ServiceId, Slot, Timestamp};
use swarm_proto::object::{JobRun, JobRuns, RunState, Service};
use swarm_proto::spec::ServiceMode;

use super::{Event, State};

/// Runs of one service that are not over, at most.
pub(crate) const ACTIVE_RUNS: usize = 100;

impl State {
    pub(super) fn act_run(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::StartRun(start) => self.start_run(start, events),
            Action::SetRun(progress) => self.set_run(progress, events),
            Action::SkipRuns { service, until } => self.skip_runs(*service, *until, events),
            _ => None,
        }
    }

    fn start_run(&mut self, start: &RunStart, events: &mut Vec<Event>) -> Option<()> {
        let service = self.services.get(&start.service)?.object.clone();
        let mut runs = service.runs.clone();
        let active = runs.list.iter().filter(|run| run.is_active()).count();
        let fits = start.one_off || service.spec.mode.is_job();
        if service.removing || !fits || start.run != runs.started + 1 || active >= ACTIVE_RUNS {
            return None;
        }
        if let Some(at) = start.scheduled_at {
            if at <= runs.decided_until {
                return None;
            }
            runs.decided_until = at;
        }
        let total = match service.spec.mode {
            _ if start.one_off => Some(1),
            ServiceMode::ReplicatedJob { total, .. } => Some(total),
            _ => None,
        };
        let last_slot = |run: &JobRun| run.slots_after.saturating_add(run.total.unwrap_or(0));
        runs.started = start.run;
        runs.list.push(JobRun {
            number: start.run,
            scheduled_at: start.scheduled_at,
            started_at: self.clock,
            ended_at: None,
            state: RunState::Running,
            message: String::new(),
            spec_version: service.spec_version,
            total,
            slots_after: runs.active().map(last_slot).max().unwrap_or(0),
            completed: 0,
            failed: 0,
            one_off: start.one_off,
            command: start.command.clone(),
        });
        self.put_runs(start.service, runs, events)
    }

    /// Ends a run; or takes one up again that was over, as when a node joins that a job has not run on.
    fn set_run(&mut self, progress: &RunProgress, events: &mut Vec<Event>) -> Option<()> {
        let service = self.services.get(&progress.service)?.object.clone();
        let mut runs = service.runs.clone();
        let run = runs.list.iter_mut().find(|run| run.number == progress.run)?;
        let again = progress.state == RunState::Running;
        if again == run.is_active() || run.state == RunState::Stopped {
            return None;
        }
        run.state = progress.state;
        run.message.clone_from(&progress.message);
        run.completed = progress.completed;
        run.failed = progress.failed;
        run.ended_at = (!again).then_some(self.clock);
        let kept = service.spec.run_history.unwrap_or(JobRuns::HISTORY);
        for forgotten in forget_old_runs(&mut runs, kept) {
            // A one-off task has its slot for itself.
            if let Ok(number) = u32::try_from(forgotten) {
                self.slots.remove(&(progress.service, Slot::OneOff(number)));
            }
        }
        self.put_runs(progress.service, runs, events)
    }

    fn skip_runs(
        &mut self,
        id: ServiceId,
        until: Timestamp,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut runs = self.services.get(&id)?.runs.clone();
        if until <= runs.decided_until {
            return None;
        }
        runs.decided_until = until;
        runs.skipped += 1;
        self.put_runs(id, runs, events)
    }

    fn put_runs(&mut self, id: ServiceId, runs: JobRuns, events: &mut Vec<Event>) -> Option<()> {
        let mut new = self.services.get(&id)?.clone();
        self.mix(runs.started);
        self.mix(runs.decided_until.0);
        for run in &runs.list {
            self.mix(run.number << 8 | u64::from(run.state as u8));
        }
        Arc::make_mut(&mut new.object).runs = runs;
        new.versions.desired += 1;
        self.mix(new.versions.desired);
        self.services.insert(id, new.clone());
        self.judge(id);
        events.push(Event::Service(new.object));
        Some(())
    }

    /// The runs of a service whose spec is replaced: times before a schedule began do not count, and runs end when the
    /// mode is another one.
    pub(super) fn runs_after(&self, old: Option<&Service>, new: &Service) -> JobRuns {
        let mut runs = old.map(|old| old.runs.clone()).unwrap_or_default();
        if new.spec.schedule.is_some()
            && old.is_none_or(|old| old.spec.schedule != new.spec.schedule)
        {
            runs.decided_until = runs.decided_until.max(self.clock);
        }
        let kind = |service: &Service| std::mem::discriminant(&service.spec.mode);
        if old.is_some_and(|old| kind(old) != kind(new)) {
            for run in runs.list.iter_mut().filter(|run| run.is_active() && !run.one_off) {
                run.state = RunState::Stopped;
                "the service has another mode".clone_into(&mut run.message);
                run.ended_at = Some(self.clock);
            }
        }
        runs
    }

    /// Whether nothing is to be done for the runs of a service.
    pub(super) fn has_settled_runs(&self, service: &Service) -> bool {
        let runs = &service.runs;
        let keys = (service.id, 0)..=(service.id, u64::MAX);
        let counted = self.index.runs.range(keys);
        let tasks = counted.map(|((_, number), counts)| (runs.get(*number), *counts));
        let over = tasks.into_iter().all(|(run, counts)| match run {
            None => counts.kept == 0,
            Some(run) if run.is_active() => true,
            Some(run) => counts.wanted == 0 || stays_open(service, run),
        });
        over && !needs_run(service)
            && runs.list.iter().filter(|run| run.is_active()).all(|run| {
                let key = (service.id, run.number);
                let counts = self.index.runs.get(&key).copied().unwrap_or_default();
                let left = run.total.map(|total| total.saturating_sub(counts.complete));
                let at_once = match service.spec.mode {
                    _ if run.one_off => 1,
                    ServiceMode::ReplicatedJob { max_concurrent, .. } => max_concurrent,
                    _ => u32::MAX,
                };
                // As many run as may: nothing is to be done before one of them ends.
                left.is_some_and(|left| left > 0 && counts.running == left.min(at_once))
                    && counts.wanted == counts.running + counts.complete
            })
    }
}

/// Whether a job without a schedule has not begun a run of its current spec.
pub(crate) fn needs_run(service: &Service) -> bool {
    let newest = service.runs.newest();
    service.spec.mode.is_job()
        && service.spec.schedule.is_none()
        && newest.is_none_or(|run| run.spec_version < service.spec_version)
}

/// Whether a run that is over goes on when a node joins: then its tasks stay, each a sign that its node had it.
pub(crate) fn stays_open(service: &Service, run: &JobRun) -> bool {
    let is_newest = service.runs.newest().is_some_and(|newest| newest.number == run.number);
    is_newest
        && run.total.is_none()
        && run.state != RunState::Stopped
        && service.spec.mode == ServiceMode::GlobalJob
        && service.spec.schedule.is_none()
}

/// Keeps the runs that are not over, the last of the service itself, and so many of the others. Returns the numbers of
/// those that go.
fn forget_old_runs(runs: &mut JobRuns, history: u32) -> Vec<u64> {
    let mut gone = Vec::new();
    let newest = runs.newest().map(|run| run.number);
    let over = runs.list.iter().filter(|run| !run.is_active()).count();
    let mut surplus = over.saturating_sub(history as usize);
    runs.list.retain(|run| {
        let goes = surplus > 0 && !run.is_active() && Some(run.number) != newest;
        if goes {
            surplus -= 1;
            gone.push(run.number);
        }
        !goes
    });
    gone
}
