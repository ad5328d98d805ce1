//! `cluster init` and `cluster token`: what `swarm-controller` does on this host.

use crate::command::host::check_unless;
use crate::failure::Failure;
use crate::host::preflight::Part;
use crate::host::{program, unit};
use crate::output;

/// How to make a new cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Where other hosts reach this one
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<String>,
    /// Go on though something is missing
    #[arg(long)]
    ignore_checks: bool,
}

/// Whom a token lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenRole {
    /// A further controller
    Controller,
    /// A host with only an agent
    Agent,
}

pub(super) fn init(init: &Init) -> Result<(), Failure> {
    check_unless(init.ignore_checks, Part::Controller)?;
    let mut arguments = vec!["init"];
    if let Some(advertise) = &init.advertise {
        arguments.extend(["--advertise", advertise]);
    }
    program::run("swarm-controller", &arguments)?;
    output::talk("this host is the first controller of a new cluster");
    unit::start(Part::Controller)?;
    output::talk("let others in: `swarmctl cluster token` prints how");
    Ok(())
}

pub(super) fn token(role: Option<TokenRole>) -> Result<(), Failure> {
    let arguments: &[&str] = match role {
        None => &["token"],
        Some(TokenRole::Controller) => &["token", "controller"],
        Some(TokenRole::Agent) => &["token", "agent"],
    };
    output::data(&program::run("swarm-controller", arguments)?);
    Ok(())
}
