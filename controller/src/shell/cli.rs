//! The command line of `swarm-controller`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use swarm_proto::transport::{self, ClientRole};
use tracing_subscriber::EnvFilter;

use super::networking::Networking;
use super::restore::Restored;
use super::setup::{SetupError, Tokens};
use super::{fatal, restore, server, setup, survivor};
use crate::config::{self, Config};

/// A controller of a swarm.
#[derive(Debug, Parser)]
#[command(name = "swarm-controller", version, about)]
struct Arguments {
    /// The configuration; the default one may be absent.
    #[arg(long, global = true, value_name = "FILE", help = format!("configuration [default: {}]", config::DEFAULT_PATH))]
    config: Option<PathBuf>,
    /// What is logged: `debug`, or directives such as `swarm_controller=debug`.
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the controller.
    Run {
        /// Wait for `init` or `join` where neither has been done.
        #[arg(long)]
        wait: bool,
    },
    /// Make a new cluster with this host as its first controller.
    Init {
        /// Where other hosts reach this one.
        #[arg(long, value_name = "IP[:PORT]")]
        advertise: Option<String>,
        #[command(flatten)]
        networking: Networking,
    },
    /// Enter a cluster as a further controller; a host that is a member already stays the node that it is.
    Join {
        /// The controllers' token (`swarm-controller token`), or `-` to read it from standard input; a controller whose log
        /// is lost needs none.
        #[arg(long)]
        token: Option<String>,
        /// A controller of the cluster; a member knows some.
        #[arg(value_name = "HOST[:PORT]")]
        controller: Option<String>,
        /// Where other hosts reach this one.
        #[arg(long, value_name = "IP[:PORT]")]
        advertise: Option<String>,
    },
    /// Make this host the only controller of a cluster whose other controllers are lost for good.
    ForceNewCluster {
        /// They never come back with their old disks.
        #[arg(long)]
        i_know_the_others_are_lost: bool,
    },
    /// Print how further hosts join.
    Token {
        /// Print only the token that lets in a host of this role.
        role: Option<TokenRole>,
    },
    /// Make a new cluster out of a backup (`swarmctl cluster backup`), with this host as its only controller.
    ///
    /// First stop all controllers of the old cluster: two that share an identity would both command its hosts.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The file with its key [default: `FILE.key`].
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Where other hosts reach this one.
        #[arg(long, value_name = "IP[:PORT]")]
        advertise: Option<String>,
    },
    /// Make a certificate for swarmctl on another machine.
    AdminBundle {
        /// Whom it is for; shown in the certificate.
        #[arg(long, default_value = "admin")]
        name: String,
        /// What it allows: `admin` everything, `reader` only to look.
        #[arg(long, default_value_t)]
        role: ClientRole,
        /// Where to write it; else standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TokenRole {
    Controller,
    Agent,
}

/// The exit code of a controller that would end in the same way if it were started again (`EX_CONFIG`); its unit does
/// not start it again then.
const FINAL: u8 = 78;

/// The exit code of a command that was called wrongly, as clap's.
const USAGE: u8 = 2;

type Failure = Box<dyn std::error::Error>;

/// Runs the program.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error is nobody's loss.
            let _ = writeln!(io::stderr(), "error: {}", explain(error.as_ref()));
            exit_code(error.as_ref())
        }
    }
}

fn exit_code(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    if error.downcast_ref::<server::RunError>().is_some_and(server::RunError::is_final) {
        return ExitCode::from(FINAL);
    }
    match error.downcast_ref::<SetupError>() {
        Some(SetupError::Networking(_)) => ExitCode::from(USAGE),
        _ => ExitCode::FAILURE,
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.config.as_deref())?;
    let filter = EnvFilter::try_new(arguments.log.as_deref().unwrap_or(&config.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    fatal::abort_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()?;
    let result = runtime.block_on(carry_out(arguments.verb, &config));
    runtime.shutdown_background();
    result
}

async fn carry_out(verb: Verb, config: &Config) -> Result<(), Failure> {
    match verb {
        Verb::Run { wait } => server::run(config, wait).await?,
        Verb::Init { advertise, networking } => {
            let tokens = setup::init(config, advertise.as_deref(), &networking)?;
            print("This host is the first controller of a new cluster.\n\n")?;
            print("Start it here:\n\n    swarm-controller run\n\n")?;
            print(&how_to_join(&tokens))?;
        }
        Verb::Join { token, controller, advertise } => {
            let token = token.as_deref().map(transport::token_argument).transpose()?;
            let (token, controller) = (token.as_deref(), controller.as_deref());
            let node = setup::join(config, token, controller, advertise.as_deref()).await?;
            print(&format!("This host joined the cluster as node {node}.\n\n"))?;
            print("Start its controller:\n\n    swarm-controller run\n")?;
        }
        Verb::Restore { file, key_file, advertise } => {
            config.refuse_hold()?;
            let backup = (file.as_path(), key_file.as_deref());
            let restored = restore::restore(config, backup, advertise.as_deref())?;
            print(&what_was_restored(&restored))?;
        }
        Verb::ForceNewCluster { i_know_the_others_are_lost: confirmed } => {
            config.refuse_hold()?;
            let done = survivor::force_new_cluster(config, confirmed).await?;
            print("This host is the only controller of its cluster now.\n\n")?;
            for name in &done.given_up {
                print(&format!("Given up: the controller of {name}; its agent stays.\n"))?;
            }
            print(&format!("The old log is kept in {}.\n\n", done.backup.display()))?;
            print("Start it:\n\n    swarm-controller run\n")?;
        }
        Verb::Token { role } => {
            let tokens = setup::tokens(config).await?;
            print(&match role {
                None => how_to_join(&tokens),
                Some(TokenRole::Controller) => format!("{}\n", tokens.controller),
                Some(TokenRole::Agent) => format!("{}\n", tokens.agent),
            })?;
        }
        Verb::AdminBundle { name, role, output } => {
            let bundle = setup::admin_bundle(config, &name, role).await?;
            match output {
                Some(path) => write_secret(&path, bundle.reveal())?,
                None => print(bundle.reveal())?,
            }
        }
    }
    Ok(())
}

fn what_was_restored(restored: &Restored) -> String {
    let Restored { cluster, node, made_at, nodes, stale } = restored;
    let age = made_at.elapsed().unwrap_or_default().as_secs();
    let unsure =
        if *stale { " No quorum had confirmed it, so it may lack the last changes." } else { "" };
    format!(
        "This host is the only controller of cluster {cluster}, as node {node}. The backup was made {age} s ago.{unsure}\n\n\
         Start it here:\n\n    swarm-controller run\n\n\
         The {nodes} nodes of the backup come back by themselves where their agents know this host's address, and keep \
         the containers that the backup knows. Nodes that ran controllers are agents now: join them again, as \
         `swarm-controller token` says.\n"
    )
}

fn how_to_join(tokens: &Tokens) -> String {
    let Tokens { controller, agent, address } = tokens;
    format!(
        "Add a controller, on its host:\n\n    swarm-controller join --token {controller} --advertise IP {address}\n\n\
         Add an agent, on its host:\n\n    swarm-agent join --token {agent} {address}\n"
    )
}

fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// An error with its causes in one line, and the hint of whichever gave one.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut hint = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let whole = error.to_string();
        let (message, own_hint) = match whole.split_once("\n\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (whole.as_str(), None),
        };
        hint = hint.or(own_hint);
        if !text.ends_with(message) {
            let separator = if text.is_empty() { "" } else { ": " };
            // Writing to a text cannot fail.
            let _ = write!(text, "{separator}{message}");
        }
        next = error.source();
    }
    match hint {
        Some(hint) => format!("{text}\n\nhint: {hint}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::shell::disk::DiskError;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn causes_come_before_the_hint() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = DiskError::File { action: "read", path: "/x".into(), source };
        assert_eq!(explain(&error), "cannot read /x: permission denied");
        let error = server::RunError::NoIdentity { folder: "/x".into() };
        assert!(explain(&error).starts_with(
            "this host belongs to no cluster yet: /x does not exist\n\nhint: make a cluster"
        ));
    }
}
