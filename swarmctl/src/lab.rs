//! `swarmctl lab`: a whole cluster on one machine.

use std::process::ExitCode;

use crate::failure::Failure;
use crate::output::Format;

/// What to do with a lab.
#[derive(Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Lists the labs of this machine
    Ls,
}

/// Runs one command. Called before any thread or runtime was started, so that it may enter namespaces.
pub fn run(command: LabCommand, format: Format) -> Result<ExitCode, Failure> {
    match (command, format) {
        (LabCommand::Ls, _) => Ok(ExitCode::SUCCESS),
    }
}
