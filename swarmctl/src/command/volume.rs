//! `volume`: those of stacks, and those that belong to none.

use swarm_proto::wire;

use super::network::{check_driver, refuse};
use super::{Call, label, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, VolumeView};

/// What to do with volumes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum VolumeCommand {
    /// Makes a volume that belongs to no stack, for stacks that call it `external`
    Create(Box<Create>),
    /// Lists volumes and the nodes that hold them
    Ls,
    /// Removes volumes with their content, on every node
    Rm {
        /// Full names
        #[arg(required = true)]
        volumes: Vec<String>,
        /// Also forget copies on nodes that are down
        #[arg(short, long)]
        force: bool,
    },
    /// Shows everything about volumes
    Inspect {
        /// Full names
        #[arg(required = true)]
        volumes: Vec<String>,
    },
}

/// What a volume shall be like.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Always `local`: a volume lies on the host that first used it
    #[arg(short, long, default_value = "local")]
    driver: String,
    #[command(flatten)]
    refused: Refused,
}

/// What `docker volume create` takes beside, and what is answered with a reason.
#[derive(Debug, clap::Args)]
struct Refused {
    #[arg(short, long, hide = true)]
    opt: Vec<String>,
    #[arg(long, hide = true)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    sharing: Option<String>,
    #[arg(long = "type", hide = true)]
    kind: Option<String>,
    #[arg(long, hide = true)]
    group: Option<String>,
    #[arg(long, hide = true)]
    required_bytes: Option<String>,
    #[arg(long, hide = true)]
    limit_bytes: Option<String>,
    #[arg(long, hide = true)]
    availability: Option<String>,
    #[arg(long, hide = true)]
    topology_required: Vec<String>,
    #[arg(long, hide = true)]
    topology_preferred: Vec<String>,
    #[arg(long, hide = true)]
    secret: Vec<String>,
}

impl Refused {
    fn check(&self) -> Result<(), Failure> {
        const CLUSTER: &str = "volumes that move between hosts are not supported yet";
        let options = [
            ("--opt", !self.opt.is_empty(), "options of drivers are not supported yet"),
            ("--scope", self.scope.is_some(), CLUSTER),
            ("--sharing", self.sharing.is_some(), CLUSTER),
            ("--type", self.kind.is_some(), CLUSTER),
            ("--group", self.group.is_some(), CLUSTER),
            ("--required-bytes", self.required_bytes.is_some(), CLUSTER),
            ("--limit-bytes", self.limit_bytes.is_some(), CLUSTER),
            ("--availability", self.availability.is_some(), CLUSTER),
            ("--topology-required", !self.topology_required.is_empty(), CLUSTER),
            ("--topology-preferred", !self.topology_preferred.is_empty(), CLUSTER),
            ("--secret", !self.secret.is_empty(), CLUSTER),
        ];
        refuse(&options)
    }
}

pub(crate) async fn run(command: VolumeCommand, call: &Call) -> Result<(), Failure> {
    match command {
        VolumeCommand::Create(volume) => create(*volume, call).await?,
        VolumeCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let mut views: Vec<VolumeView> =
                state.volumes.values().map(|volume| VolumeView::of(&state, volume)).collect();
            views.sort_by(|a, b| a.name.cmp(&b.name));
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        VolumeCommand::Rm { volumes, force } => {
            for volume in volumes {
                let request_id = request_id()?;
                let request =
                    wire::RemoveVolumeRequest { request_id, volume: volume.clone(), force };
                call.cluster
                    .call(async |mut client| client.remove_volume(request.clone()).await)
                    .await?;
                output::talk(&format!("volume `{volume}` is removed"));
            }
        }
        VolumeCommand::Inspect { volumes } => {
            let state = State::get(&call.cluster, call.stale).await?;
            for name in volumes {
                let known = state.volumes.values().map(|volume| volume.name.as_str());
                let found = state.volumes.values().find(|volume| volume.name == name);
                let volume = found.ok_or_else(|| unknown("volume", &name, known))?;
                output::data(&view::whole(&VolumeView::of(&state, volume), call.format)?);
            }
        }
    }
    Ok(())
}

async fn create(volume: Create, call: &Call) -> Result<(), Failure> {
    volume.refused.check()?;
    check_driver(&volume.driver, "local", "a volume lies on the host that first used it")?;
    let (request_id, name) = (request_id()?, volume.name.clone());
    let labels = volume.label.into_iter().collect();
    let request = wire::CreateVolumeRequest { request_id, name: volume.name, labels };
    call.cluster.call(async |mut client| client.create_volume(request.clone()).await).await?;
    output::talk(&format!("volume `{name}` is created"));
    Ok(())
}
