//! `run`: one task beside those of a service, with its spec and perhaps another command.

use std::process::ExitCode;

use swarm_proto::object::{JobRun, RunState, Task, TaskState};
use swarm_proto::wire;

use super::{Call, job, logs};
use crate::connect::{Client, request_id};
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::watch::Watch;

/// Runs one task with a service's spec, beside the service's own
///
/// It has the service's image, environment, networks, volumes and secrets, but no published ports, and no part in the
/// service's name or address. Shows what it writes and exits as it does; Ctrl-C stops it. It is started once: when it
/// fails or its node is lost, nothing starts it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Return at once; `job runs` shows how it ended, `logs` what it wrote
    #[arg(short, long)]
    detach: bool,
    /// The service's full name
    service: String,
    /// Replaces the container's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(run: Run, call: &Call) -> Result<ExitCode, Failure> {
    let state = State::get(&call.cluster, false).await?;
    let stack = job::find(&state, &run.service)?.stack.clone();
    let request = wire::RunOneOffRequest {
        request_id: request_id()?,
        service: run.service.clone(),
        command: run.command,
    };
    let ask = async |mut client: Client| client.run_one_off(request.clone()).await;
    let number = call.cluster.call(ask).await?.run;
    if run.detach {
        output::talk(&format!("run {number} of `{}` begun", run.service));
        return Ok(ExitCode::SUCCESS);
    }
    let mut one_off = OneOff { call, service: &run.service, number, is_stopping: false };
    let mut watch = Watch::of(&call.cluster, &stack);
    let begun = one_off.until(&mut watch, |known| known.task.is_some_and(has_begun)).await?;
    let Some(task) = &begun.task else { return one_off.end(&begun) };
    let over = one_off.until(&mut watch, |_| false);
    let ended = logs::of_task(call, &task.id.to_string(), over).await?;
    OneOff { call, service: &run.service, number, is_stopping: false }.end(&ended)
}

/// Whether a task may have written something.
fn has_begun(task: &Task) -> bool {
    task.status.state >= TaskState::Running
}

/// What is known of a run and its task.
struct Known<'a> {
    task: Option<&'a Task>,
}

/// The same, kept.
struct Found {
    run: Option<JobRun>,
    task: Option<Task>,
}

struct OneOff<'a> {
    call: &'a Call,
    service: &'a str,
    number: u64,
    /// Ctrl-C was pressed once.
    is_stopping: bool,
}

impl OneOff<'_> {
    /// Waits until the run is over, or something else is so. Ctrl-C stops the run, a second one the waiting.
    async fn until(
        &mut self,
        watch: &mut Watch<'_>,
        is_so: impl Fn(&Known<'_>) -> bool,
    ) -> Result<Found, Failure> {
        loop {
            let service = watch.state.service(self.service);
            let run = service.and_then(|service| service.runs.get(self.number));
            let task = service.and_then(|service| {
                let mut tasks = watch.state.tasks_of(service.id);
                tasks.find(|task| task.run == Some(self.number))
            });
            if run.is_some_and(|run| !run.is_active()) || is_so(&Known { task }) {
                return Ok(Found { run: run.cloned(), task: task.cloned() });
            }
            if service.is_none() && !watch.state.services.is_empty() {
                let message = format!("service `{}` was removed meanwhile", self.service);
                return Err(Failure::refused(message));
            }
            tokio::select! {
                change = watch.next() => drop(change?),
                _ = tokio::signal::ctrl_c() => self.interrupted().await?,
            }
        }
    }

    async fn interrupted(&mut self) -> Result<(), Failure> {
        if self.is_stopping {
            let message = format!("run {} of `{}` is being stopped", self.number, self.service);
            return Err(Failure::refused(message).hint("see `swarmctl job runs`"));
        }
        self.is_stopping = true;
        output::talk("stopping it; Ctrl-C again leaves it to itself");
        job::stop(self.call, self.service, Some(self.number)).await
    }

    /// Exits as the task did.
    fn end(&self, found: &Found) -> Result<ExitCode, Failure> {
        let code = found.task.as_ref().and_then(|task| task.status.exit_code);
        let state = found.run.as_ref().map(|run| run.state);
        match (state, code) {
            (Some(RunState::Complete), _) => Ok(ExitCode::SUCCESS),
            (_, Some(code)) if code != 0 => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
            _ => {
                let why = found.run.as_ref().map_or("", |run| run.message.as_str());
                let message = format!("run {} of `{}` ended early", self.number, self.service);
                let separator = if why.is_empty() { "" } else { ": " };
                Err(Failure::refused(format!("{message}{separator}{why}")))
            }
        }
    }
}
