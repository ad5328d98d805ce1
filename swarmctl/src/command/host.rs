//! `host`: the machine that swarmctl runs on, as a member of a cluster.

mod leave;

use std::os::unix::net::UnixStream;
use std::path::Path;

use swarm_proto::transport::token_argument;

use super::Call;
use crate::failure::Failure;
use crate::host::configuration::{Edited, FOLDER};
use crate::host::places::Places;
use crate::host::preflight::{self, Host, Lack, Part, Ports};
use crate::host::{program, unit};
use crate::local;
use crate::output;

/// What to do with this host.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum HostCommand {
    /// Looks for what this host lacks
    Check {
        /// What it is to run
        #[arg(value_enum, default_value = "agent")]
        part: Part,
    },
    /// Lets this host join a cluster
    Join {
        /// A controller of the cluster: `HOST[:PORT]`
        address: String,
        /// The join token, as `swarmctl cluster token` on a controller's host prints it; `-` reads it from standard input
        #[arg(long)]
        token: String,
        /// What it is to run; the token must be for that
        #[arg(long = "as", value_enum, default_value = "agent")]
        part: Part,
        /// Where other hosts reach this one, for a controller: `IP[:PORT]`
        #[arg(long, value_name = "IP[:PORT]")]
        advertise: Option<String>,
        #[command(flatten)]
        places: Places,
        /// Join though something is missing
        #[arg(long)]
        ignore_checks: bool,
    },
    /// Takes this host out of its cluster: its tasks move away, then it is removed
    Leave(leave::Leave),
}

/// Runs what needs no cluster; gives back what does.
pub(crate) fn run_here(command: HostCommand) -> Result<Option<HostCommand>, Failure> {
    match command {
        HostCommand::Check { part } => {
            check(part, Places::default().ports(Path::new(FOLDER))?, true)?;
            output::talk("this host has all that it needs");
        }
        HostCommand::Join { address, token, part, advertise, places, ignore_checks } => {
            refuse_advertise(part, advertise.as_deref())?;
            let token = token_argument(&token)
                .map_err(|error| Failure::because("cannot read the token", &error))?;
            places.check(part)?;
            check_unless(ignore_checks, part, places.ports(Path::new(FOLDER))?)?;
            let edited = places.write(Path::new(FOLDER))?;
            join(&address, &token, part, advertise.as_deref())?;
            edited.into_iter().for_each(Edited::keep);
            unit::start(part)?;
        }
        leave @ HostCommand::Leave(_) => return Ok(Some(leave)),
    }
    Ok(None)
}

pub(crate) async fn run(command: HostCommand, call: &Call) -> Result<(), Failure> {
    match command {
        HostCommand::Leave(leave) => leave::run(&leave, call).await,
        HostCommand::Check { .. } | HostCommand::Join { .. } => Ok(()),
    }
}

fn refuse_advertise(part: Part, advertise: Option<&str>) -> Result<(), Failure> {
    if part == Part::Agent && advertise.is_some() {
        let hint = "an agent's address is `--data-address`";
        return Err(Failure::usage("`--advertise` is for controllers").hint(hint));
    }
    Ok(())
}

fn join(address: &str, token: &str, part: Part, advertise: Option<&str>) -> Result<(), Failure> {
    let (name, mut arguments) = match part {
        Part::Agent => ("swarm-agent", vec!["join", "--token", "-"]),
        Part::Controller => ("swarm-controller", vec!["join", "--token", "-"]),
    };
    if let Some(advertise) = advertise {
        arguments.extend(["--advertise", advertise]);
    }
    arguments.push(address);
    // Not as an argument, which everybody on the host could read.
    let said = program::run_with(name, &arguments, token)?;
    // Its first line says as which node; how to start it is said by us.
    output::talk(said.lines().next().unwrap_or("this host joined the cluster"));
    Ok(())
}

/// Refuses to go on while something is missing.
pub(crate) fn check_unless(ignored: bool, part: Part, ports: Ports) -> Result<(), Failure> {
    // A host that becomes a controller as well has an agent, which finds there what it needs.
    match check(part, ports, !own_agent_runs()) {
        Err(failure) if ignored => {
            output::warn(&failure.message);
            Ok(())
        }
        Err(failure) => Err(failure.hint("or go on without: --ignore-checks")),
        Ok(()) => Ok(()),
    }
}

/// What the part lacks, of the host itself as well where that is asked for.
fn check(part: Part, ports: Ports, of_host: bool) -> Result<(), Failure> {
    let mut lacks = if of_host { this_host()?.lacks() } else { Vec::new() };
    lacks.extend(preflight::lacking_programs(part, |name| program::find(name).is_some()));
    lacks.extend(preflight::taken_ports(part, ports, own_agent_runs()));
    if lacks.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = lacks.iter().map(line).collect();
    Err(Failure::refused(format!("this host lacks:\n{}", lines.join("\n"))))
}

fn own_agent_runs() -> bool {
    UnixStream::connect(local::SOCKET).is_ok()
}

fn this_host() -> Result<Host, Failure> {
    let host = Host::this();
    host.map_err(|error| Failure::refused(format!("cannot read the kernel's release: {error}")))
}

fn line(lack: &Lack) -> String {
    format!("  {}\n    fix: {}", lack.what, lack.fix)
}
