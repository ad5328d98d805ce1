//! Whether a service can be the job that its spec asks for.

use swarm_proto::spec::{Concurrency, ServiceMode, ServiceSpec, UpdatePolicy};

use super::check::check_replicas;
use crate::core::command::Refusal;

/// Finished runs of one job that are kept, at most.
const LONGEST_HISTORY: u32 = 100;

/// Checks what only jobs may say, and what they may not.
pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let wrong = |message: String, hint: &str| Err(Refusal::invalid(message, hint));
    if !service.mode.is_job() {
        if service.schedule.is_some() || service.run_history.is_some() {
            return wrong(
                format!("service `{key}` has a schedule or a history of runs, but is not a job"),
                "use `mode: replicated-job` or `mode: global-job`",
            );
        }
        return Ok(());
    }
    if let ServiceMode::ReplicatedJob { total, max_concurrent } = service.mode {
        check_replicas(key, total.max(max_concurrent))?;
        if total == 0 || max_concurrent == 0 {
            return wrong(
                format!("job `{key}` would never complete: it runs no task"),
                "`total` and `parallelism` are at least 1",
            );
        }
    }
    if service.update != UpdatePolicy::default() {
        return wrong(
            format!("job `{key}` cannot have an `update_config`"),
            "a changed job is run anew; remove `update_config`",
        );
    }
    if service.canary.is_some() {
        return wrong(
            format!("job `{key}` cannot have a canary"),
            "a changed job is run anew; remove `canary`",
        );
    }
    if service.run_history.is_some_and(|kept| !(1..=LONGEST_HISTORY).contains(&kept)) {
        return wrong(
            format!("job `{key}` cannot keep so many finished runs"),
            "`history` is a number from 1 to 100",
        );
    }
    let Some(schedule) = &service.schedule else { return Ok(()) };
    if let Err(error) = schedule.times() {
        return wrong(format!("schedule of job `{key}`: {error}"), error.hint());
    }
    if service.mode == ServiceMode::GlobalJob && schedule.concurrency == Concurrency::Allow {
        return wrong(
            format!("runs of job `{key}` cannot overlap: it has one place on each node"),
            "use `concurrency: forbid` or `concurrency: replace`",
        );
    }
    Ok(())
}
