//! Jobs: their schedules and runs.

use super::fields::{ConvertError, Fields, each};
use crate::entry::{RunProgress, RunStart};
use crate::id::{ServiceId, Timestamp};
use crate::object::{JobRun, JobRuns};
use crate::spec::JobSchedule;
use crate::wire;

impl From<&JobSchedule> for wire::JobSchedule {
    fn from(schedule: &JobSchedule) -> Self {
        Self {
            expression: schedule.expression.clone(),
            time_zone: schedule.time_zone.clone(),
            missed: schedule.missed.into(),
            concurrency: schedule.concurrency.into(),
        }
    }
}

impl TryFrom<wire::JobSchedule> for JobSchedule {
    type Error = ConvertError;

    fn try_from(schedule: wire::JobSchedule) -> Result<Self, ConvertError> {
        let at = Fields("JobSchedule");
        Ok(Self {
            expression: schedule.expression,
            time_zone: schedule.time_zone,
            missed: at.enumeration::<wire::MissedRuns, _>("missed", schedule.missed)?,
            concurrency: at
                .enumeration::<wire::Concurrency, _>("concurrency", schedule.concurrency)?,
        })
    }
}

impl From<&JobRun> for wire::JobRun {
    fn from(run: &JobRun) -> Self {
        Self {
            number: run.number,
            scheduled_at: run.scheduled_at.map(|time| time.0),
            started_at: run.started_at.0,
            ended_at: run.ended_at.map(|time| time.0),
            state: run.state.into(),
            message: run.message.clone(),
            spec_version: run.spec_version,
            total: run.total,
            slots_after: run.slots_after,
            completed: run.completed,
            failed: run.failed,
            one_off: run.one_off,
            command: run.command.clone().map(|words| wire::Words { words }),
        }
    }
}

impl TryFrom<wire::JobRun> for JobRun {
    type Error = ConvertError;

    fn try_from(run: wire::JobRun) -> Result<Self, ConvertError> {
        Ok(Self {
            number: run.number,
            scheduled_at: run.scheduled_at.map(Timestamp),
            started_at: Timestamp(run.started_at),
            ended_at: run.ended_at.map(Timestamp),
            state: Fields("JobRun").enumeration::<wire::RunState, _>("state", run.state)?,
            message: run.message,
            spec_version: run.spec_version,
            total: run.total,
            slots_after: run.slots_after,
            completed: run.completed,
            failed: run.failed,
            one_off: run.one_off,
            command: run.command.map(|command| command.words),
        })
    }
}

impl From<&JobRuns> for wire::JobRuns {
    fn from(runs: &JobRuns) -> Self {
        Self {
            started: runs.started,
            decided_until: runs.decided_until.0,
            skipped: runs.skipped,
            list: each(&runs.list),
        }
    }
}

impl TryFrom<wire::JobRuns> for JobRuns {
    type Error = ConvertError;

    fn try_from(runs: wire::JobRuns) -> Result<Self, ConvertError> {
        Ok(Self {
            started: runs.started,
            decided_until: Timestamp(runs.decided_until),
            skipped: runs.skipped,
            list: Fields("JobRuns").list("list", runs.list)?,
        })
    }
}

impl From<&RunStart> for wire::StartRun {
    fn from(start: &RunStart) -> Self {
        Self {
            service: start.service.0,
            run: start.run,
            scheduled_at: start.scheduled_at.map(|time| time.0),
            one_off: start.one_off,
            command: start.command.clone().map(|words| wire::Words { words }),
        }
    }
}

impl From<wire::StartRun> for RunStart {
    fn from(start: wire::StartRun) -> Self {
        Self {
            service: ServiceId(start.service),
            run: start.run,
            scheduled_at: start.scheduled_at.map(Timestamp),
            one_off: start.one_off,
            command: start.command.map(|command| command.words),
        }
    }
}

impl From<&RunProgress> for wire::SetRun {
    fn from(progress: &RunProgress) -> Self {
        Self {
            service: progress.service.0,
            run: progress.run,
            state: progress.state.into(),
            message: progress.message.clone(),
            completed: progress.completed,
            failed: progress.failed,
        }
    }
}

impl TryFrom<wire::SetRun> for RunProgress {
    type Error = ConvertError;

    fn try_from(progress: wire::SetRun) -> Result<Self, ConvertError> {
        Ok(Self {
            service: ServiceId(progress.service),
            run: progress.run,
            state: Fields("SetRun").enumeration::<wire::RunState, _>("state", progress.state)?,
            message: progress.message,
            completed: progress.completed,
            failed: progress.failed,
        })
    }
}
