//! Waiting until the cluster is as wished, with progress on the way.

use std::time::Duration;

use swarm_proto::object::{Availability, Node, RunState};
use tokio::time::{Instant, sleep_until};

use crate::connect::Cluster;
use crate::convergence::{self, ServiceProgress, What};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::state::State;
use crate::watch::Watch;

/// How many times a look's own cost passes until the next one.
const REST: u32 = 10;

/// What is waited for.
#[derive(Debug, Clone)]
pub(crate) enum Goal {
    /// A stack's revision (or a later one) runs, and nothing of earlier ones.
    Stack {
        /// The stack.
        name: String,
        /// The revision that the deploy made.
        revision: u64,
    },
    /// Services run with these numbers of tasks.
    Services {
        /// Full names and numbers.
        replicas: Vec<(String, u32)>,
    },
    /// A run of a job is over.
    Run {
        /// The job's full name.
        service: String,
        /// The run's number.
        number: u64,
    },
    /// A service's update, or rollback, ended well.
    Update {
        /// Full name.
        service: String,
    },
    /// Nodes have no tasks any more.
    Drained {
        /// Host names or ids.
        nodes: Vec<String>,
    },
    /// Nothing is left of a stack.
    Gone {
        /// The stack.
        name: String,
    },
}

impl Goal {
    /// The only stack that matters; empty when more may.
    fn stack(&self) -> &str {
        match self {
            Self::Stack { name, .. } | Self::Gone { name } => name,
            Self::Services { .. }
            | Self::Run { .. }
            | Self::Update { .. }
            | Self::Drained { .. } => "",
        }
    }
}

/// How the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is as wished.
    Reached,
    /// The user pressed Ctrl-C.
    Detached,
}

/// What is still owed.
#[derive(Debug, Default)]
struct Owed {
    services: Vec<ServiceProgress>,
    is_reached: bool,
}

/// Waits for a goal. What was reached must hold for `settle`.
pub(crate) async fn until(
    cluster: &Cluster,
    goal: &Goal,
    within: Duration,
    settle: Duration,
) -> Result<Outcome, Failure> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let deadline = Instant::now() + within;
    let mut watch = Watch::of(cluster, goal.stack());
    let mut progress = Progress::new(goal);
    let mut owed = Owed::default();
    let mut settled_at: Option<Instant> = None;
    // When to look at what changed; a look costs time, so a stream of changes gets no look of its own each.
    let mut look_at: Option<Instant> = None;
    let mut rested_until = Instant::now();
    loop {
        let wake = [look_at, settled_at].into_iter().flatten().fold(deadline, Instant::min);
        tokio::select! {
            biased;
            _ = &mut interrupt => {
                progress.stop();
                return Ok(Outcome::Detached);
            }
            () = sleep_until(wake) => {}
            change = watch.next() => {
                change?;
                look_at = look_at.or(Some(rested_until));
                continue;
            }
        }
        let start = Instant::now();
        if look_at.take().is_some() {
            owed = owed_of(&watch.state, goal)?;
            progress.show(&owed.services);
            settled_at = match (owed.is_reached, settled_at) {
                (false, _) => None,
                (true, known) => known.or(Some(start + settle)),
            };
            rested_until = Instant::now() + start.elapsed() * REST;
        }
        let now = Instant::now();
        if settled_at.is_some_and(|settled| now >= settled) {
            progress.finish(&owed.services);
            return Ok(Outcome::Reached);
        }
        if now >= deadline {
            progress.stop();
            return Err(late(goal, &owed, within));
        }
    }
}

fn owed_of(state: &State, goal: &Goal) -> Result<Owed, Failure> {
    let (services, is_ready) = match goal {
        Goal::Stack { name, revision } => {
            let Some(stack) = state.stacks.get(name) else {
                return Err(Failure::refused(format!("stack `{name}` was removed meanwhile")));
            };
            if stack.removing {
                return Err(Failure::refused(format!("stack `{name}` is being removed")));
            }
            (convergence::of_stack(state, name), stack.revision >= *revision)
        }
        Goal::Services { replicas } => {
            let mut services = Vec::new();
            for (name, _) in replicas {
                services.push(progress_of(state, name)?);
            }
            (services, true)
        }
        Goal::Run { service, number } => match run_progress(state, service, *number)? {
            Some((progress, is_over)) => (vec![progress], is_over),
            None => (Vec::new(), false),
        },
        Goal::Update { service } => (vec![progress_of(state, service)?], true),
        Goal::Drained { nodes } => {
            let nodes: Vec<&Node> =
                nodes.iter().map(|name| node(state, name)).collect::<Result<_, _>>()?;
            let is_told = nodes.iter().all(|node| node.availability == Availability::Drain);
            (nodes.into_iter().map(|node| convergence::of_node(state, node)).collect(), is_told)
        }
        Goal::Gone { name } => {
            let is_gone = !state.stacks.contains_key(name)
                && !state.networks.values().any(|network| network.stack == *name);
            (convergence::of_stack(state, name), is_gone)
        }
    };
    let lost = services.iter().find_map(|service| Some((service.what, service.lost.clone()?)));
    if let Some((kind, (what, why))) = lost {
        let hint = if kind == What::Job {
            "nothing starts it again; `swarmctl job run` begins another run"
        } else {
            "its restart policy is `none`, so it is not started again"
        };
        return Err(Failure::refused(format!("{what} failed: {why}")).hint(hint));
    }
    let of_update = matches!(goal, Goal::Update { .. }) || matches!(goal, Goal::Stack { .. });
    if is_ready
        && of_update
        && let Some((key, why)) = services.iter().find_map(|s| Some((&s.key, s.failed.as_ref()?)))
    {
        let name = match goal {
            Goal::Stack { name, .. } => format!("{name}_{key}"),
            _ => key.clone(),
        };
        let hint = format!(
            "`swarmctl service ps -a {name}` shows its tasks; deploy a corrected stack, or see \
             `swarmctl service resume` and `rollback`"
        );
        return Err(Failure::refused(format!("service `{name}`: {why}")).hint(hint));
    }
    let is_reached = is_ready && services.iter().all(ServiceProgress::is_converged);
    Ok(Owed { services, is_reached })
}

/// How far a run is, and whether it is over; nothing when it is not known yet.
fn run_progress(
    state: &State,
    service: &str,
    number: u64,
) -> Result<Option<(ServiceProgress, bool)>, Failure> {
    let Some(found) = state.service(service) else {
        return Err(Failure::refused(format!("job `{service}` was removed meanwhile")));
    };
    let Some(run) = found.runs.get(number) else { return Ok(None) };
    if matches!(run.state, RunState::Failed | RunState::Stopped) {
        let what = format!("run {number} of `{service}` {}", run.state);
        return Err(Failure::refused(format!("{what}: {}", run.message))
            .hint(format!("see `swarmctl ps -a {service}`")));
    }
    let progress = convergence::of_run(state, found, run);
    let waits = usize::from(run.is_active());
    let progress = ServiceProgress {
        wanted: progress.total.max(progress.completed + waits),
        done: progress.completed,
        removing: found.removing,
        what: What::Job,
        ..ServiceProgress::of_nothing(service)
    };
    Ok(Some((progress, !run.is_active())))
}

fn progress_of(state: &State, name: &str) -> Result<ServiceProgress, Failure> {
    let Some(service) = state.service(name) else {
        return Err(Failure::refused(format!("service `{name}` was removed meanwhile")));
    };
    let progress = convergence::of_service(state, service);
    Ok(ServiceProgress { key: name.to_owned(), ..progress })
}

fn node<'a>(state: &'a State, name: &str) -> Result<&'a Node, Failure> {
    let is_named = |node: &&Node| node.description.hostname == name || node.id.to_string() == name;
    let node = state.nodes.values().find(is_named);
    node.ok_or_else(|| Failure::refused(format!("node `{name}` was removed meanwhile")))
}

/// That the time is over, and what is missing.
fn late(goal: &Goal, owed: &Owed, within: Duration) -> Failure {
    let within = format!("after {}", humane(within));
    let (what, hint) = match goal {
        Goal::Stack { name, .. } => (
            format!("stack `{name}` has not converged {within}"),
            format!("the deploy goes on; see `swarmctl stack ps {name}`"),
        ),
        Goal::Services { replicas } => {
            let names: Vec<String> = replicas.iter().map(|(name, _)| format!("`{name}`")).collect();
            (
                format!("{} has not converged {within}", names.join(", ")),
                "see `swarmctl ps`".to_owned(),
            )
        }
        Goal::Run { service, number } => (
            format!("run {number} of `{service}` is not over {within}"),
            format!("the run goes on; see `swarmctl job runs {service}`"),
        ),
        Goal::Update { service } => (
            format!("service `{service}` has not converged {within}"),
            format!("the update goes on; see `swarmctl service ps {service}`"),
        ),
        Goal::Drained { nodes } => {
            let names: Vec<String> = nodes.iter().map(|name| format!("`{name}`")).collect();
            (
                format!("{} still has tasks {within}", names.join(", ")),
                "the drain goes on; a service without enough other running tasks keeps what it \
                 has: see `swarmctl ps`"
                    .to_owned(),
            )
        }
        Goal::Gone { name } => (
            format!("stack `{name}` is not gone {within}"),
            format!("the removal goes on; see `swarmctl ps -a {name}`"),
        ),
    };
    let mut lines = vec![what];
    for service in owed.services.iter().filter(|service| !service.is_converged()) {
        lines.push(format!("  {}: {}", service.key, service.words()));
        for (task, why) in service.stuck.iter().take(3) {
            lines.push(format!("    {task}: {why}"));
        }
    }
    Failure::not_converged(lines.join("\n")).hint(hint)
}

fn humane(span: Duration) -> String {
    let (seconds, milliseconds) = (span.as_secs(), span.subsec_millis());
    match (seconds / 60, seconds % 60, milliseconds) {
        (0, 0, milliseconds) => format!("{milliseconds}ms"),
        (0, seconds, 0) => format!("{seconds}s"),
        (0, seconds, milliseconds) => format!("{seconds}.{milliseconds:03}s"),
        (minutes, 0, _) => format!("{minutes}m"),
        (minutes, seconds, _) => format!("{minutes}m{seconds}s"),
    }
}
