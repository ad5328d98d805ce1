//! `swarmctl lab`: a whole cluster on one machine.
//!
//! Each host has network, mount, uts, ipc and pid namespaces of its own and runs the same programs as a real host;
//! `boot` is its first process. The machine's own network, mounts and services are left alone.

mod boot;
mod cgroup;
mod config;
mod control;
mod enter;
mod error;
mod host;
mod layout;
mod network;
mod observe;
mod pause;
mod ready;
mod record;
mod rehearsal;
mod relay;
mod supervise;
mod up;

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use crate::failure::Failure;
use crate::output::Format;
use control::Request;
use error::Error;
use layout::{Layout, SWITCH};
use record::{Cut, Record};

pub use up::UpOptions;

/// What to do with a lab.
#[derive(Debug, clap::Subcommand)]
pub enum LabCommand {
    /// Bring up a lab of hosts n1, n2, … that form a swarm, and select it as context
    Up(UpOptions),
    /// End a lab and leave nothing of it
    Down(LabName),
    /// List the labs of this machine and their hosts
    Ls,
    /// Run a command on a host
    Exec {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …, or `switch`
        host: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show what a host's programs said
    Logs {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …, or `switch`
        host: String,
        /// Only this program's
        program: Option<String>,
        /// And go on
        #[arg(short, long)]
        follow: bool,
    },
    /// Cut a host's power, or kill one of its programs
    Kill {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …
        host: String,
        /// Kill only this program; it stays ended until `lab start`
        #[arg(long, value_parser = ["controller", "agent"])]
        only: Option<String>,
    },
    /// Switch a host on, or start its programs that were killed
    Start {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …
        host: String,
    },
    /// Freeze all of a host
    Pause {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …
        host: String,
    },
    /// Let a frozen host go on
    Resume {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …
        host: String,
    },
    /// Cut the network between two hosts, or between one and all others
    Cut {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// n1, n2, …
        host: String,
        /// The other host
        other: Option<String>,
        /// Lose only what the first sends to the other
        #[arg(long, requires = "other")]
        one_way: bool,
    },
    /// Mend all cuts
    Heal(LabName),
    /// Listen on this machine's loopback for a published port of the lab, until interrupted
    Forward {
        /// Which lab
        #[command(flatten)]
        lab: LabName,
        /// The published port
        port: u16,
        /// The port here [default: the same]
        #[arg(long)]
        listen: Option<u16>,
    },
    /// A host's first process
    #[command(hide = true)]
    Host {
        /// What to do
        boot: PathBuf,
    },
    /// Dials outside for the lab's hosts
    #[command(hide = true)]
    Relay(LabName),
}

/// Which lab.
#[derive(Debug, clap::Args)]
pub struct LabName {
    /// The lab's name
    #[arg(long, default_value = "lab")]
    name: String,
}

/// Runs one command. Called before any thread or runtime was started, so that it may enter namespaces.
pub fn run(command: LabCommand, format: Format) -> Result<ExitCode, Failure> {
    Ok(obey(command, format)?)
}

fn obey(command: LabCommand, format: Format) -> Result<ExitCode, Error> {
    match command {
        LabCommand::Up(options) => up::up(&options)?,
        LabCommand::Down(lab) => up::down(&lab.layout()?)?,
        LabCommand::Ls => observe::ls(format)?,
        LabCommand::Exec { lab, host, command } => return exec(&lab.layout()?, &host, &command),
        LabCommand::Logs { lab, host, program, follow } => {
            observe::logs(&lab.layout()?, &host, program.as_deref(), follow)?;
        }
        LabCommand::Kill { lab, host, only } => kill(&lab.layout()?, &host, only)?,
        LabCommand::Start { lab, host } => start(&lab.layout()?, &host)?,
        LabCommand::Pause { lab, host } => pause::pause(first_process(&lab.layout()?, &host)?)?,
        LabCommand::Resume { lab, host } => pause::resume(first_process(&lab.layout()?, &host)?)?,
        LabCommand::Cut { lab, host, other, one_way } => {
            cut(&lab.layout()?, host, other, one_way)?;
        }
        LabCommand::Heal(lab) => change_cuts(&lab.layout()?, |record| record.cuts.clear())?,
        LabCommand::Forward { lab, port, listen } => {
            relay::forward(&lab.layout()?, port, listen.unwrap_or(port))?;
        }
        LabCommand::Host { boot } => boot::run(&boot)?,
        LabCommand::Relay(lab) => relay::run(&lab.layout()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl LabName {
    fn layout(&self) -> Result<Layout, Error> {
        Layout::new(&self.name)
    }
}

/// The first process of a host that the lab has and that is on.
fn first_process(layout: &Layout, host: &str) -> Result<nix::unistd::Pid, Error> {
    let record = Record::require(layout)?;
    if host != SWITCH {
        record.check_host(host)?;
    }
    host::require_on(layout, host)
}

fn exec(layout: &Layout, host: &str, command: &[String]) -> Result<ExitCode, Error> {
    let first = first_process(layout, host)?;
    let record = Record::require(layout)?;
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Error::refused("there is no command to run", "give one after `--`"))?;
    let mut process = Command::new("/usr/bin/env");
    // `env` looks the program up with the path that it is given.
    process.arg(format!("PATH={}", host::search_path(&record))).arg(program).args(arguments);
    let mut child = enter::spawn(first, process)?;
    let status = child.wait().map_err(Error::system("wait for the command"))?;
    Ok(ExitCode::from(shell_code(status)))
}

/// The exit code as a shell gives it.
fn shell_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn kill(layout: &Layout, host: &str, only: Option<String>) -> Result<(), Error> {
    Record::require(layout)?.check_host(host)?;
    match only {
        None => host::power_off(layout, host),
        Some(program) => host::request(layout, host, &Request::Kill { program }).map(|_| ()),
    }
}

fn start(layout: &Layout, host: &str) -> Result<(), Error> {
    let record = Record::require(layout)?;
    record.check_host(host)?;
    host::boot(layout, &record, host)?;
    up::start_programs(layout, host)
}

fn cut(layout: &Layout, host: String, other: Option<String>, one_way: bool) -> Result<(), Error> {
    let record = Record::require(layout)?;
    record.check_host(&host)?;
    let cut = match other {
        None => Cut::Host(host),
        Some(other) => {
            record.check_host(&other)?;
            if other == host {
                return Err(Error::refused(format!("{host} cannot be cut from itself"), ""));
            }
            match (one_way, host < other) {
                (true, _) => Cut::OneWay { from: host, to: other },
                (false, true) => Cut::Pair(host, other),
                (false, false) => Cut::Pair(other, host),
            }
        }
    };
    change_cuts(layout, |record| {
        record.cuts.insert(cut);
    })
}

/// Changes the cuts and makes them true on the hosts that are on; the others meet them when they boot.
fn change_cuts(layout: &Layout, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
    let mut record = Record::require(layout)?;
    change(&mut record);
    record.save(layout)?;
    let switch = host::switch_namespace(layout)?;
    for host in record.host_names() {
        if let Some(first) = control::first_process(&layout.control(&host))? {
            network::apply_cuts(&switch, &network::namespace(first)?, &host, &record)?;
        }
    }
    Ok(())
}
