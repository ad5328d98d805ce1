//! `stack`: what was deployed, as a whole.

use std::time::Duration;

use swarm_proto::wire;

use super::{Call, Waiting, config, deploy, now, ps, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::state::State;
use crate::view::{self, ServiceView, StackView};
use crate::wait::{self, Goal, Outcome};

/// What to do with stacks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StackCommand {
    /// Deploys a stack file: `swarmctl deploy` in the words of Docker
    #[command(alias = "up")]
    Deploy(deploy::StackDeploy),
    /// Prints what stack files say, as `swarmctl config` does
    Config(config::Resolve),
    /// Lists stacks
    Ls,
    /// Lists the services of a stack
    Services {
        /// The stack
        stack: String,
    },
    /// Lists the tasks of a stack
    Ps {
        /// The stack
        stack: String,
        /// Also tasks that ended
        #[arg(short, long)]
        all: bool,
    },
    /// Removes stacks with their services and networks; volumes stay
    Rm {
        /// The stacks
        #[arg(required = true)]
        stacks: Vec<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Runs what needs no cluster; gives back what does.
pub(crate) fn run_here(
    command: StackCommand,
    format: Format,
) -> Result<Option<StackCommand>, Failure> {
    match command {
        StackCommand::Config(config) => config::run(&config, format).map(|()| None),
        other => Ok(Some(other)),
    }
}

pub(crate) async fn run(command: StackCommand, call: &Call) -> Result<(), Failure> {
    match command {
        StackCommand::Deploy(deploy) => deploy::run_stack(deploy, call).await?,
        StackCommand::Config(_) => {}
        StackCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let views: Vec<StackView> =
                state.stacks.values().map(|stack| StackView::of(&state, stack)).collect();
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        StackCommand::Services { stack } => {
            let state = State::get(&call.cluster, call.stale).await?;
            check(&state, &stack)?;
            let views: Vec<ServiceView> = state
                .services_of(&stack)
                .into_iter()
                .map(|service| ServiceView::of(&state, service))
                .collect();
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        StackCommand::Ps { stack, all } => {
            let state = State::get(&call.cluster, call.stale).await?;
            check(&state, &stack)?;
            ps::show(&state, Some(&stack), all, call.format)?;
        }
        StackCommand::Rm { stacks, waiting } => {
            for stack in stacks {
                remove(&stack, &waiting, call).await?;
            }
        }
    }
    Ok(())
}

fn check(state: &State, stack: &str) -> Result<(), Failure> {
    if state.stacks.contains_key(stack) {
        return Ok(());
    }
    Err(unknown("stack", stack, state.stacks.keys().map(String::as_str)))
}

async fn remove(stack: &str, waiting: &Waiting, call: &Call) -> Result<(), Failure> {
    let request = wire::RemoveStackRequest { request_id: request_id()?, stack: stack.to_owned() };
    call.cluster.call(async |mut client| client.remove_stack(request.clone()).await).await?;
    if waiting.detach {
        output::talk(&format!("stack `{stack}` is being removed"));
        return Ok(());
    }
    let goal = Goal::Gone { name: stack.to_owned() };
    match wait::until(&call.cluster, &goal, waiting.timeout, Duration::ZERO).await? {
        Outcome::Reached => output::talk(&format!("stack `{stack}` is removed; its volumes stay")),
        Outcome::Detached => output::talk("detached: the removal goes on"),
    }
    Ok(())
}
