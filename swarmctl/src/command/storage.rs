//! `volume`, `network`, `image`: what tasks use.

use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use super::{Call, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, ImageView, NetworkView, VolumeView};

/// What to do with volumes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum VolumeCommand {
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

/// What to do with networks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NetworkCommand {
    /// Lists networks
    Ls,
    /// Shows everything about networks
    Inspect {
        /// Full names
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

/// What to do with images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Lists images and the nodes that hold them
    Ls,
}

pub(crate) async fn volume(command: VolumeCommand, call: &Call) -> Result<(), Failure> {
    match command {
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

pub(crate) async fn network(command: NetworkCommand, call: &Call) -> Result<(), Failure> {
    let state = State::get(&call.cluster, call.stale).await?;
    match command {
        NetworkCommand::Ls => {
            let mut views: Vec<NetworkView> =
                state.networks.values().map(|network| NetworkView::of(&state, network)).collect();
            views.sort_by(|a, b| a.name.cmp(&b.name));
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        NetworkCommand::Inspect { networks } => {
            for name in networks {
                let known = state.networks.values().map(|network| network.name.as_str());
                let found = state.networks.values().find(|network| network.name == name);
                let network = found.ok_or_else(|| unknown("network", &name, known))?;
                output::data(&view::whole(&NetworkView::of(&state, network), call.format)?);
            }
        }
    }
    Ok(())
}

pub(crate) async fn image(command: ImageCommand, call: &Call) -> Result<(), Failure> {
    let ImageCommand::Ls = command;
    let request = wire::ListImagesRequest {};
    let answer = call.cluster.call(async |mut client| client.list_images(request).await).await?;
    for node in answer.nodes.iter().filter(|node| !node.error.is_empty()) {
        output::warn(&format!("the images of node `{}` are unknown: {}", node.node, node.error));
    }
    let views = ImageView::of_nodes(answer.nodes);
    output::data(&view::list(&views, call.format, now(Timestamp::default()))?);
    Ok(())
}
