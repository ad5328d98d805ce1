//! Jobs and their runs.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{text, texts, time};
use crate::entry::{Action, RunProgress, RunStart};
use crate::id::ServiceId;
use crate::object::{JobRun, JobRuns, RunState};
use crate::spec::{Concurrency, JobSchedule, MissedRuns};

fn run_state() -> BoxedStrategy<RunState> {
    let states = [RunState::Running, RunState::Complete, RunState::Failed, RunState::Stopped];
    select(states.to_vec()).boxed()
}

strategy! {
    fn job_schedule -> JobSchedule {
        expression: text(),
        time_zone: text(),
        missed: select(vec![MissedRuns::Skip, MissedRuns::RunOnce, MissedRuns::RunAll]),
        concurrency: select(vec![Concurrency::Allow, Concurrency::Forbid, Concurrency::Replace]),
    }
    fn job_run -> JobRun {
        number: any::<u64>(),
        scheduled_at: option::of(time()),
        started_at: time(),
        ended_at: option::of(time()),
        state: run_state(),
        message: text(),
        spec_version: any::<u64>(),
        total: any::<Option<u32>>(),
        slots_after: any::<u32>(),
        completed: any::<u32>(),
        failed: any::<u32>(),
        one_off: any::<bool>(),
        command: option::of(texts()),
    }
    fn job_runs -> JobRuns {
        started: any::<u64>(),
        decided_until: time(),
        skipped: any::<u64>(),
        list: vec(job_run(), 0..3),
    }
    fn run_start -> RunStart {
        service: any::<u64>().prop_map(ServiceId),
        run: any::<u64>(),
        scheduled_at: option::of(time()),
        one_off: any::<bool>(),
        command: option::of(texts()),
    }
    fn run_progress -> RunProgress {
        service: any::<u64>().prop_map(ServiceId),
        run: any::<u64>(),
        state: run_state(),
        message: text(),
        completed: any::<u32>(),
        failed: any::<u32>(),
    }
}

/// Actions about runs.
pub(crate) fn run_action() -> BoxedStrategy<Action> {
    let skip = (any::<u64>(), time());
    prop_oneof![
        run_start().prop_map(|start| Action::StartRun(Box::new(start))),
        run_progress().prop_map(|progress| Action::SetRun(Box::new(progress))),
        skip.prop_map(|(id, until)| Action::SkipRuns { service: ServiceId(id), until }),
    ]
    .boxed()
}
