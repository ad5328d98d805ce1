//! `network`: those of stacks, and those that belong to none.

use std::net::Ipv4Addr;

use swarm_proto::wire;

use super::{Call, label, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, NetworkView};

/// What to do with networks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NetworkCommand {
    /// Makes a network that belongs to no stack, for stacks that call it `external`
    Create(Box<Create>),
    /// Lists networks, those of stacks too
    Ls,
    /// Shows everything about networks
    Inspect {
        /// Full names
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// Removes networks that belong to no stack and that nothing uses
    Rm {
        /// Names
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

/// What a network shall be like.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// Its subnet, such as `10.5.0.0/24`; by default a free one
    #[arg(long, value_parser = subnet)]
    subnet: Option<(Ipv4Addr, u8)>,
    /// No way out for its containers
    #[arg(long)]
    internal: bool,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Always `overlay`: a network reaches over all hosts
    #[arg(short, long, default_value = "overlay")]
    driver: String,
    /// Has no effect: only services join networks
    #[arg(long)]
    attachable: bool,
    #[command(flatten)]
    refused: Refused,
}

/// What `docker network create` takes beside, and what is answered with a reason.
#[derive(Debug, clap::Args)]
struct Refused {
    #[arg(long, hide = true)]
    gateway: Vec<String>,
    #[arg(long, hide = true)]
    ip_range: Vec<String>,
    #[arg(long, hide = true)]
    aux_address: Vec<String>,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    ipam_opt: Vec<String>,
    #[arg(long, hide = true)]
    ipv6: bool,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(short, long, hide = true)]
    opt: Vec<String>,
}

impl Refused {
    fn check(&self) -> Result<(), Failure> {
        const ADDRESSES: &str = "the controllers hand out all addresses of a network";
        const LATER: &str = "it is not supported yet";
        let ipam_driver = self.ipam_driver.as_ref().is_some_and(|driver| driver != "default");
        let scope = self.scope.as_ref().is_some_and(|scope| scope != "swarm");
        let options = [
            ("--gateway", !self.gateway.is_empty(), ADDRESSES),
            ("--ip-range", !self.ip_range.is_empty(), ADDRESSES),
            ("--aux-address", !self.aux_address.is_empty(), ADDRESSES),
            ("--ipam-driver", ipam_driver, ADDRESSES),
            ("--ipam-opt", !self.ipam_opt.is_empty(), ADDRESSES),
            ("--ipv6", self.ipv6, LATER),
            ("--ingress", self.ingress, "published ports need no network of their own"),
            ("--scope", scope, "a network reaches over all hosts"),
            ("--config-only", self.config_only, "a network reaches over all hosts"),
            ("--config-from", self.config_from.is_some(), "a network reaches over all hosts"),
            ("--opt", !self.opt.is_empty(), LATER),
        ];
        refuse(&options)
    }
}

/// Refuses the first option that was given, with its reason.
pub(super) fn refuse(options: &[(&str, bool, &str)]) -> Result<(), Failure> {
    let given = options.iter().find(|(_, given, _)| *given);
    given.map_or(Ok(()), |(option, _, why)| {
        let message = format!("`{option}` cannot be honoured: {why}");
        Err(Failure::refused(message).hint("leave it out"))
    })
}

/// That the driver is the only one that there is.
pub(super) fn check_driver(driver: &str, only: &str, why: &str) -> Result<(), Failure> {
    if driver == only {
        return Ok(());
    }
    let message = format!("driver `{driver}` cannot be honoured: {why}");
    Err(Failure::refused(message).hint(format!("leave `--driver` out: it is `{only}`")))
}

/// An address and a prefix length.
fn subnet(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let read = || {
        let (address, length) = text.split_once('/')?;
        Some((address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?))
    };
    let (address, length) = read().ok_or("write a subnet of IPv4 as `10.5.0.0/24`")?;
    if !(8..=29).contains(&length) {
        return Err("the prefix length is 8 to 29".to_owned());
    }
    let first = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - length)));
    if first == address { Ok((address, length)) } else { Err(format!("it begins with `{first}`")) }
}

pub(crate) async fn run(command: NetworkCommand, call: &Call) -> Result<(), Failure> {
    match command {
        NetworkCommand::Create(network) => create(*network, call).await?,
        NetworkCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let mut views: Vec<NetworkView> =
                state.networks.values().map(|network| NetworkView::of(&state, network)).collect();
            views.sort_by(|a, b| a.name.cmp(&b.name));
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        NetworkCommand::Inspect { networks } => {
            let state = State::get(&call.cluster, call.stale).await?;
            for name in networks {
                let known = state.networks.values().map(|network| network.name.as_str());
                let found = state.networks.values().find(|network| network.name == name);
                let network = found.ok_or_else(|| unknown("network", &name, known))?;
                output::data(&view::whole(&NetworkView::of(&state, network), call.format)?);
            }
        }
        NetworkCommand::Rm { networks } => {
            for network in networks {
                let request_id = request_id()?;
                let request = wire::RemoveNetworkRequest { request_id, network: network.clone() };
                call.cluster
                    .call(async |mut client| client.remove_network(request.clone()).await)
                    .await?;
                output::talk(&format!("network `{network}` is removed"));
            }
        }
    }
    Ok(())
}

async fn create(network: Create, call: &Call) -> Result<(), Failure> {
    network.refused.check()?;
    check_driver(&network.driver, "overlay", "a network reaches over all hosts")?;
    if network.attachable {
        output::warn("`--attachable` has no effect: only services join networks");
    }
    let name = network.name.clone();
    let request = wire::CreateNetworkRequest {
        request_id: request_id()?,
        name: network.name,
        subnet: network.subnet.map(swarm_proto::convert::prefix),
        internal: network.internal,
        labels: network.label.into_iter().collect(),
    };
    call.cluster.call(async |mut client| client.create_network(request.clone()).await).await?;
    output::talk(&format!("network `{name}` is created"));
    Ok(())
}
