//! `x-swarm: job`: how often a job completes, when it runs by itself, and how many of its runs are kept.

use swarm_proto::schedule::ScheduleError;
use swarm_proto::spec::{Concurrency, JobSchedule, MissedRuns, ServiceMode};

use super::deploy::{Deploy, MOST_REPLICAS, Mode};
use super::{Decoder, Fields};
use crate::keys::X_SWARM_JOB;
use crate::tree::{At, Node};

/// Finished runs that are kept, at most.
const LONGEST_HISTORY: u32 = 100;
const NOT_A_JOB: &str = "use `mode: replicated-job` or `mode: global-job` below `deploy`";

/// What is said of a job; what it leaves out is `None`.
#[derive(Default)]
pub(super) struct Job {
    total: Option<(At, u32)>,
    parallelism: Option<(At, u32)>,
    pub(super) schedule: Option<JobSchedule>,
    pub(super) history: Option<u32>,
}

/// Reads `job`, which belongs to a service of this mode only if it is a job.
pub(super) fn job(d: &Decoder<'_>, node: &Node, mode: Mode) -> Option<Job> {
    let fields = d.fields(node, "`job`", &X_SWARM_JOB)?;
    if !mode.is_job() {
        d.problems.error_hint(node.at, "`job` needs a service that is a job", NOT_A_JOB);
        return None;
    }
    let number = |key: &str, most: u32| {
        let node = fields.get(key)?;
        let number = d.integer(node, key, 1..=i64::from(most))?;
        Some((node.at, u32::try_from(number).ok()?))
    };
    Some(Job {
        total: number("total", MOST_REPLICAS),
        parallelism: number("parallelism", MOST_REPLICAS),
        history: number("history", LONGEST_HISTORY).map(|(_, kept)| kept),
        schedule: schedule(d, &fields, mode),
    })
}

fn schedule(d: &Decoder<'_>, fields: &Fields<'_>, mode: Mode) -> Option<JobSchedule> {
    let Some(node) = fields.get("schedule") else {
        for key in ["time_zone", "missed", "concurrency"] {
            if fields.get(key).is_some() {
                let message = format!("`{key}` needs a `schedule`");
                d.problems.error_hint(fields.key_at(key), message, "write one, or remove it");
            }
        }
        return None;
    };
    let zone = fields.get("time_zone");
    let missed = [
        ("skip", MissedRuns::Skip),
        ("run-once", MissedRuns::RunOnce),
        ("run-all", MissedRuns::RunAll),
    ];
    let concurrency = [
        ("allow", Concurrency::Allow),
        ("forbid", Concurrency::Forbid),
        ("replace", Concurrency::Replace),
    ];
    let word = |key| fields.get(key).map(|node| (node, key));
    let missed = word("missed").and_then(|(node, key)| d.word(node, key, &missed));
    let chosen = word("concurrency").and_then(|(node, key)| d.word(node, key, &concurrency));
    if let (Mode::GlobalJob, Some(Concurrency::Allow)) = (mode, chosen) {
        let message = "runs of a global job cannot overlap: it has one place on each node";
        let hint = "use `concurrency: forbid` or `concurrency: replace`";
        d.problems.error_hint(fields.key_at("concurrency"), message, hint);
    }
    let schedule = JobSchedule {
        expression: d.text(node, "schedule")?.trim().to_owned(),
        time_zone: match zone {
            Some(zone) => d.text(zone, "time_zone")?.to_owned(),
            None => JobSchedule::TIME_ZONE.to_owned(),
        },
        missed: missed.unwrap_or_default(),
        concurrency: chosen.unwrap_or_default(),
    };
    if let Err(error) = schedule.times() {
        let is_zone = matches!(error, ScheduleError::Zone(_));
        let at = zone.filter(|_| is_zone).unwrap_or(node).at;
        d.problems.error_hint(at, error.to_string(), error.hint());
        return None;
    }
    Some(schedule)
}

/// How many completions, and how many tasks at a time. `replicas` says both where nothing else does.
pub(super) fn mode(
    d: &Decoder<'_>,
    mode: Mode,
    replicas: Option<(At, u32)>,
    job: &Job,
) -> ServiceMode {
    if mode == Mode::GlobalJob {
        for (at, _) in [replicas, job.total, job.parallelism].into_iter().flatten() {
            let hint = "remove it, or use `mode: replicated-job`";
            d.problems.error_hint(at, "a global job has one task on each node", hint);
        }
        return ServiceMode::GlobalJob;
    }
    if let Some((at, 0)) = replicas {
        let message = "a job with no replicas would never complete";
        d.problems.error_hint(at, message, "`replicas` of a job is at least 1");
    }
    let number = |said: Option<(At, u32)>| said.map(|(_, number)| number);
    let total = number(job.total).or(number(replicas)).unwrap_or(1);
    let max_concurrent = number(job.parallelism).or(number(replicas)).unwrap_or(total);
    ServiceMode::ReplicatedJob { total, max_concurrent }
}

/// Swarm refuses it too: a changed job is run anew.
pub(super) fn refuse_update(d: &Decoder<'_>, deploy: &Deploy) {
    if let (true, Some(at)) = (deploy.mode.is_job(), deploy.update_at) {
        let hint = "remove it: a changed job is run anew";
        d.problems.error_hint(at, "a job has no `update_config`", hint);
    }
}
