//! `cluster`: the controllers, and the cluster as a whole; one file for each verb.

mod backup;
mod status;

use super::Call;
use crate::failure::Failure;

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Shows the controllers: who leads, who lags, who can be lost
    Status,
    /// Writes the cluster's state into a file, while everything runs
    Backup(backup::Backup),
}

pub(crate) async fn run(command: ClusterCommand, call: &Call) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status::run(call).await,
        ClusterCommand::Backup(backup) => backup::run(&backup, call).await,
    }
}
