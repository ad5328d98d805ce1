//! The command line: deploy, look, operate, and the lab.
//!
//! Data goes to standard output and talk to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong usage,
//! 3 not converged in time.

mod command;
mod connect;
mod contents;
pub mod context;
pub mod convergence;
pub mod doctor;
pub mod failure;
mod hidden;
pub mod host;
pub mod lab;
mod local;
pub mod output;
mod progress;
pub mod state;
pub mod swarm_flags;
pub mod view;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use failure::Failure;

/// Deploys and operates stacks on a swarm
#[derive(Debug, Parser)]
#[command(name = "swarmctl", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    target: connect::Target,
    /// The form of data on standard output
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: output::Format,
    /// Answer at once from one controller's own state, which may be behind
    #[arg(long, global = true)]
    stale: bool,
    /// Ask this host's own agent, with no controller at all: `ps`, `logs` and `exec` of what runs here
    #[arg(long, global = true, conflicts_with = "stale")]
    local: bool,
    /// Where this host's agent listens for root
    #[arg(long, global = true, env = "SWARM_AGENT_SOCKET", value_name = "PATH", default_value = local::SOCKET, hide = true)]
    agent_socket: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Cluster(command::Command),
    /// A whole cluster on this machine
    #[command(subcommand)]
    Lab(lab::LabCommand),
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            output::error(&failure.to_string());
            ExitCode::from(failure.code as u8)
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let format = arguments.output;
    match arguments.command {
        Command::Lab(command) => lab::run(command, format),
        Command::Cluster(command) if arguments.local => {
            command::run_locally(command, &arguments.agent_socket, format)
        }
        Command::Cluster(command) => {
            command::run(command, &arguments.target, format, arguments.stale)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    fn each(command: &clap::Command, look: &mut impl FnMut(&clap::Command)) {
        look(command);
        command.get_subcommands().for_each(|inner| each(inner, look));
    }

    /// The value would be taken for that of all, which is then of the wrong type.
    #[test]
    fn no_command_has_an_argument_of_another_type_with_the_name_of_one_of_all() {
        let command = Arguments::command();
        let type_of = |argument: &clap::Arg| argument.get_value_parser().type_id();
        let common: Vec<_> = command.get_arguments().filter(|one| one.is_global_set()).collect();
        assert!(common.iter().any(|one| one.get_id() == "context"), "{common:?}");
        let clashes = |own: &&clap::Arg| {
            let same = common.iter().find(|one| one.get_id() == own.get_id());
            same.is_some_and(|one| type_of(one) != type_of(own))
        };
        for inner in command.get_subcommands() {
            each(inner, &mut |command| {
                let wrong = command.get_arguments().find(clashes).map(clap::Arg::get_id);
                assert_eq!(wrong, None, "of `{}`", command.get_name());
            });
        }
    }
}
