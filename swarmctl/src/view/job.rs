use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{JobRun, Service};
use swarm_proto::spec::{JobSchedule, ServiceMode};

use super::{View, age, span, time};
use crate::convergence;
use crate::state::State;

/// A job, as `job ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// The service's id.
    pub id: u64,
    /// The service's full name.
    pub name: String,
    /// The stack.
    pub stack: String,
    /// `replicated-job` or `global-job`.
    pub mode: String,
    /// How often it completes in a run; null is once on each node.
    pub total: Option<u32>,
    /// How many tasks at a time, at most; null is one on each node.
    pub parallelism: Option<u32>,
    /// When it runs by itself.
    pub schedule: Option<ScheduleView>,
    /// When it runs next.
    pub next_run_at: Option<String>,
    /// How many runs were begun, one-off tasks too.
    pub runs: u64,
    /// How many decisions were made to leave times of the schedule out.
    pub skipped: u64,
    /// The last run.
    pub last: Option<RunView>,
    #[serde(skip)]
    next: Option<Timestamp>,
}

/// When a job runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleView {
    /// A cron expression or a period.
    pub expression: String,
    /// A name of the IANA database.
    pub time_zone: String,
    /// `skip`, `run-once` or `run-all`.
    pub missed: String,
    /// `allow`, `forbid` or `replace`.
    pub concurrency: String,
}

/// One run of a job, or a one-off task, as `job runs` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunView {
    /// The service's full name.
    pub service: String,
    /// Counts the runs of the service.
    pub number: u64,
    /// `running`, `complete`, `failed` or `stopped`.
    pub state: String,
    /// Places that completed.
    pub completed: usize,
    /// Places in all.
    pub total: usize,
    /// Tasks that run.
    pub running: usize,
    /// The time of the schedule that it is for.
    pub scheduled_at: Option<String>,
    /// When it began.
    pub started_at: String,
    /// When it was over.
    pub ended_at: Option<String>,
    /// Why it failed or was stopped.
    pub message: String,
    /// Counts the service's specs.
    pub spec_version: u64,
    /// One task beside the service's own.
    pub one_off: bool,
    /// Replaces the command of a one-off task.
    pub command: Option<Vec<String>>,
    #[serde(skip)]
    started: Timestamp,
    #[serde(skip)]
    ended: Option<Timestamp>,
}

impl JobView {
    /// The view of one job.
    pub fn of(state: &State, service: &Service) -> Self {
        let spec = &service.spec;
        let (total, parallelism) = match spec.mode {
            ServiceMode::ReplicatedJob { total, max_concurrent } => {
                (Some(total), Some(max_concurrent))
            }
            _ => (None, None),
        };
        let next = spec.schedule.as_ref().and_then(|schedule| {
            schedule.times().ok()?.next(service.runs.decided_until.max(state.clock))
        });
        Self {
            id: service.id.0,
            name: service.name(),
            stack: service.stack.clone(),
            mode: mode_words(spec.mode).to_owned(),
            total,
            parallelism,
            schedule: spec.schedule.as_ref().map(ScheduleView::of),
            next_run_at: next.map(time),
            runs: service.runs.started,
            skipped: service.runs.skipped,
            last: service.runs.newest().map(|run| RunView::of(state, service, run)),
            next,
        }
    }
}

impl ScheduleView {
    fn of(schedule: &JobSchedule) -> Self {
        Self {
            expression: schedule.expression.clone(),
            time_zone: schedule.time_zone.clone(),
            missed: schedule.missed.as_str().to_owned(),
            concurrency: schedule.concurrency.as_str().to_owned(),
        }
    }

    fn words(&self) -> String {
        match self.time_zone.as_str() {
            JobSchedule::TIME_ZONE => self.expression.clone(),
            zone => format!("{} {zone}", self.expression),
        }
    }
}

impl RunView {
    /// The view of one run.
    pub fn of(state: &State, service: &Service, run: &JobRun) -> Self {
        let progress = convergence::of_run(state, service, run);
        Self {
            service: service.name(),
            number: run.number,
            state: run.state.to_string(),
            completed: progress.completed,
            total: progress.total,
            running: progress.running,
            scheduled_at: run.scheduled_at.map(time),
            started_at: time(run.started_at),
            ended_at: run.ended_at.map(time),
            message: run.message.clone(),
            spec_version: run.spec_version,
            one_off: run.one_off,
            command: run.command.clone(),
            started: run.started_at,
            ended: run.ended_at,
        }
    }
}

/// A mode as a stack file writes it.
pub(super) fn mode_words(mode: ServiceMode) -> &'static str {
    match mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global => "global",
        ServiceMode::ReplicatedJob { .. } => "replicated-job",
        ServiceMode::GlobalJob => "global-job",
    }
}

impl View for JobView {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "MODE", "SCHEDULE", "NEXT", "LAST RUN", "STATE", "COMPLETED"];
    const WIDE_COLUMNS: &'static [&'static str] =
        &["ID", "RUNS", "SKIPPED", "MISSED", "CONCURRENCY"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let last = self.last.as_ref();
        vec![
            self.name.clone(),
            self.mode.clone(),
            self.schedule.as_ref().map(ScheduleView::words).unwrap_or_default(),
            self.next.map(|next| format!("in {}", span(next.since(now)))).unwrap_or_default(),
            last.map(|run| format!("{} ago", age(run.started, now))).unwrap_or_default(),
            last.map(|run| run.state.clone()).unwrap_or_default(),
            last.map(|run| format!("{}/{}", run.completed, run.total)).unwrap_or_default(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let of_schedule = |word: fn(&ScheduleView) -> &String| {
            self.schedule.as_ref().map(|schedule| word(schedule).clone()).unwrap_or_default()
        };
        vec![
            self.id.to_string(),
            self.runs.to_string(),
            self.skipped.to_string(),
            of_schedule(|schedule| &schedule.missed),
            of_schedule(|schedule| &schedule.concurrency),
        ]
    }
}

impl View for RunView {
    const COLUMNS: &'static [&'static str] =
        &["RUN", "STATE", "COMPLETED", "SCHEDULED", "STARTED", "TOOK", "MESSAGE"];
    const WIDE_COLUMNS: &'static [&'static str] = &["SPEC", "COMMAND"];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let kind = if self.one_off { " (one-off)" } else { "" };
        vec![
            format!("{}{kind}", self.number),
            self.state.clone(),
            format!("{}/{}", self.completed, self.total),
            self.scheduled_at.clone().unwrap_or_default(),
            format!("{} ago", age(self.started, now)),
            span(self.ended.unwrap_or(now).since(self.started)),
            self.message.clone(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let command = self.command.as_ref().map(|words| words.join(" "));
        vec![self.spec_version.to_string(), command.unwrap_or_default()]
    }
}
