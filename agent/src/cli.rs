//! The program's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use swarm_proto::failure::sentence;
use swarm_proto::transport::{self, Identity, IdentityError, JoinError, JoinToken};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError};
use crate::run::{self, RunError};
use crate::simulation;
use crate::sys;

/// Threads that serve connections and loops. More would only hold memory: heavy work runs aside.
const WORKERS: usize = 2;
/// Threads for heavy work, made as needed.
const ASIDE: usize = 24;
const ASIDE_KEPT: Duration = Duration::from_secs(2);
/// The controllers' port where an address has none.
const CONTROLLER_PORT: u16 = 2377;

#[derive(Debug, Parser)]
#[command(name = "swarm-agent", version, about = "Runs the tasks of this host")]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// What to log, as `RUST_LOG`: `info`, `swarm_agent=debug`.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until told to stop; containers go on without the agent.
    Run,
    /// Play this host's nodes of a backup, in a lab.
    #[command(hide = true)]
    Simulate,
    /// Make this host a member of a cluster.
    Join {
        /// The token that `swarm-controller token` shows; `-` reads it from standard input.
        #[arg(long, value_parser = token)]
        token: JoinToken,
        /// A controller, `host` or `host:port`.
        address: String,
    },
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(
        "this host is node {node} of cluster {cluster} already\n\n\
         hint: to move it to another cluster, stop the agent and remove `{}`",
        folder.display()
    )]
    Member { node: String, cluster: String, folder: PathBuf },
    #[error("cannot start the program's threads")]
    Threads(#[source] std::io::Error),
    #[error("`{0}` is not a log filter")]
    Filter(String),
}

fn token(given: &str) -> Result<JoinToken, Box<dyn std::error::Error + Send + Sync>> {
    Ok(transport::token_argument(given)?.parse::<JoinToken>()?)
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    abort_on_panic();
    sys::share_arenas();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// A half-dead agent is worse than a restarted one.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

#[expect(clippy::print_stderr, reason = "the program's last word to its user")]
fn complain(error: &CliError) {
    eprintln!("error: {}", sentence(error));
}

fn start(arguments: Arguments) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&arguments.log);
    let filter = filter.map_err(|_| CliError::Filter(arguments.log.clone()))?;
    let colour = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour);
    log.with_writer(std::io::stderr).init();
    let config = Config::load(arguments.config.as_deref())?;
    transport::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(ASIDE)
        .thread_keep_alive(ASIDE_KEPT)
        .enable_all()
        .build()
        .map_err(CliError::Threads)?;
    let done = match arguments.command {
        Command::Run => runtime.block_on(run::run(config)).map_err(CliError::from),
        Command::Simulate => runtime.block_on(simulation::run(config)).map_err(CliError::from),
        Command::Join { token, address } => runtime.block_on(join(&config, &token, &address)),
    };
    // Work that still runs aside is repeated by the next start.
    runtime.shutdown_background();
    done
}

async fn join(config: &Config, token: &JoinToken, address: &str) -> Result<(), CliError> {
    if let Some(known) = Identity::load(&config.state_dir)? {
        return Err(CliError::Member {
            node: known.node_id.to_string(),
            cluster: known.cluster_id,
            folder: Identity::folder(&config.state_dir),
        });
    }
    let address = if address.contains(':') {
        address.to_owned()
    } else {
        format!("{address}:{CONTROLLER_PORT}")
    };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let identity = transport::join(&address, token, &hostname, None).await?;
    identity.save(&config.state_dir)?;
    tracing::info!(node = %identity.node_id, cluster = %identity.cluster_id, "joined");
    Ok(())
}
