//! `cluster init` and `cluster token`: what `swarm-controller` does on this host.

use std::path::Path;

use crate::command::host::check_unless;
use crate::failure::Failure;
use crate::host::configuration::{Edited, FOLDER};
use crate::host::places::Places;
use crate::host::preflight::Part;
use crate::host::{program, unit};
use crate::output;

/// How to make a new cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Where other hosts reach this one
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<String>,
    #[command(flatten)]
    places: Places,
    /// The UDP port of the tunnels between hosts, for the whole cluster [default: 4789]
    #[arg(long, value_name = "PORT")]
    vxlan_port: Option<u16>,
    /// The first VXLAN network identifier; networks count up from it [default: 0x100000]
    #[arg(long, value_name = "NUMBER")]
    vni_base: Option<String>,
    /// Where networks' subnets come from; may be given several times [default: 10.0.0.0/8]
    #[arg(long = "address-pool", value_name = "CIDR")]
    address_pools: Vec<String>,
    /// The prefix length of a network's subnet [default: 24]
    #[arg(long, value_name = "LENGTH")]
    subnet_prefix_length: Option<u8>,
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
    let folder = Path::new(FOLDER);
    init.places.check(Part::Controller)?;
    let mut ports = init.places.ports(folder)?;
    ports.vxlan = init.vxlan_port.unwrap_or(ports.vxlan);
    check_unless(init.ignore_checks, Part::Controller, ports)?;
    let edited = init.places.write(folder)?;
    program::run("swarm-controller", &init.arguments())?;
    edited.into_iter().for_each(Edited::keep);
    output::talk("this host is the first controller of a new cluster");
    unit::start(Part::Controller)?;
    output::talk("let others in: `swarmctl cluster token` prints how");
    Ok(())
}

impl Init {
    /// What the controller's own `init` is told: it knows the defaults, and which values can be.
    fn arguments(&self) -> Vec<String> {
        let text = |number: u16| number.to_string();
        let flags = [
            ("--advertise", self.advertise.clone()),
            ("--vxlan-port", self.vxlan_port.map(text)),
            ("--vni-base", self.vni_base.clone()),
            ("--subnet-prefix-length", self.subnet_prefix_length.map(u16::from).map(text)),
        ];
        let pools = self.address_pools.iter().map(|pool| ("--address-pool", Some(pool.clone())));
        let given = flags.into_iter().chain(pools);
        let given = given.filter_map(|(flag, value)| Some(format!("{flag}={}", value?)));
        std::iter::once("init".to_owned()).chain(given).collect()
    }
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
