//! `cluster`: the controllers, and the cluster as a whole; one file for each verb.

mod status;

use super::Call;
use crate::failure::Failure;

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Shows the controllers: who leads, who lags, who can be lost
    Status,
}

pub(crate) async fn run(command: ClusterCommand, call: &Call) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status::run(call).await,
    }
}
