//! `job`: services that run until they complete, when they are deployed, at their times, or now.

use std::time::Duration;

use swarm_proto::object::Service;
use swarm_proto::wire;

use super::{Call, Waiting, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, JobView, RunView};
use crate::wait::{self, Goal, Outcome};

/// What to do with jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum JobCommand {
    /// Lists jobs, with their schedules and last runs
    Ls,
    /// Lists the runs of a job, and the one-off tasks of a service
    Runs {
        /// The service's full name
        service: String,
    },
    /// Runs a job now, and waits until the run is over
    Run {
        /// The service's full name
        service: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stops the runs of a job that are under way
    Stop {
        /// The service's full name
        service: String,
        /// Only the run with this number
        #[arg(long, value_name = "NUMBER")]
        run: Option<u64>,
    },
}

pub(crate) async fn run(command: JobCommand, call: &Call) -> Result<(), Failure> {
    match command {
        JobCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let jobs = state.services.values().filter(|service| service.spec.mode.is_job());
            let mut views: Vec<JobView> =
                jobs.map(|service| JobView::of(&state, service)).collect();
            views.sort_by(|a, b| a.name.cmp(&b.name));
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        JobCommand::Runs { service } => {
            let state = State::get(&call.cluster, call.stale).await?;
            let service = find(&state, &service)?;
            let runs = service.runs.list.iter().rev();
            let views: Vec<RunView> = runs.map(|run| RunView::of(&state, service, run)).collect();
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        JobCommand::Run { service, waiting } => run_now(service, &waiting, call).await?,
        JobCommand::Stop { service, run } => {
            stop(call, &service, run).await?;
            match run {
                Some(run) => output::talk(&format!("run {run} of `{service}` stopped")),
                None => output::talk(&format!("job `{service}` stopped")),
            }
        }
    }
    Ok(())
}

/// A service by its full name.
pub(super) fn find<'a>(state: &'a State, name: &str) -> Result<&'a Service, Failure> {
    let names: Vec<String> = state.services.values().map(Service::name).collect();
    state.service(name).ok_or_else(|| unknown("service", name, names.iter().map(String::as_str)))
}

async fn run_now(service: String, waiting: &Waiting, call: &Call) -> Result<(), Failure> {
    let request = wire::RunJobRequest { request_id: request_id()?, service: service.clone() };
    let ask = async |mut client: crate::connect::Client| client.run_job(request.clone()).await;
    let number = call.cluster.call(ask).await?.run;
    output::talk(&format!("run {number} of `{service}` begun"));
    if waiting.detach {
        return Ok(());
    }
    let goal = Goal::Run { service, number };
    match wait::until(&call.cluster, &goal, waiting.timeout, Duration::ZERO).await? {
        Outcome::Reached => {}
        Outcome::Detached => output::talk("detached: the run goes on"),
    }
    Ok(())
}

/// Stops one run, or all runs of a job.
pub(super) async fn stop(call: &Call, service: &str, run: Option<u64>) -> Result<(), Failure> {
    let service = service.to_owned();
    let request = wire::StopRunsRequest { request_id: request_id()?, service, run };
    let ask = async |mut client: crate::connect::Client| client.stop_runs(request.clone()).await;
    call.cluster.call(ask).await.map(drop)
}
