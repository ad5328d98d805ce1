//! `cluster`: the controllers, and the cluster as a whole; one file for each verb.

mod backup;
mod ca;
mod init;
mod lock;
mod status;
mod token;
mod update;

use super::Call;
use crate::failure::Failure;

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClusterCommand {
    /// Makes a new cluster with this host as its first controller
    Init(init::Init),
    /// Prints how further hosts join, or only a token, on a controller's host; or makes new tokens
    Token(token::Token),
    /// Replaces the certificate authority
    #[command(subcommand)]
    Ca(ca::Ca),
    Lock(lock::Lock),
    /// Opens the locked controller of this host; the unlock key is read from standard input
    Unlock,
    Update(update::Update),
    /// Shows the controllers: who leads, who lags, who can be lost
    Status,
    /// Writes the cluster's state into a file, while everything runs
    Backup(backup::Backup),
}

/// Runs what `swarm-controller` does on this host; gives back what is asked of a cluster.
pub(crate) fn run_here(command: ClusterCommand) -> Result<Option<ClusterCommand>, Failure> {
    if let ClusterCommand::Init(init) = &command {
        return init::init(init).map(|()| None);
    }
    if let ClusterCommand::Token(token::Token { verb: None, role }) = &command {
        return init::token(*role).map(|()| None);
    }
    Ok(Some(command))
}

pub(crate) async fn run(command: ClusterCommand, call: &Call) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status::run(call).await,
        ClusterCommand::Backup(backup) => backup::run(&backup, call).await,
        ClusterCommand::Update(update) => update::run(&update, call).await,
        ClusterCommand::Ca(ca) => ca::run(ca, call).await,
        ClusterCommand::Lock(lock) => lock::lock(&lock, call).await,
        ClusterCommand::Unlock => lock::unlock(call).await,
        ClusterCommand::Token(token) => token::run(token, call).await,
        ClusterCommand::Init(_) => Ok(()),
    }
}
