//! `image`: what the nodes have pulled.

use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use super::{Call, now};
use crate::failure::Failure;
use crate::output;
use crate::view::{self, ImageView};

/// What to do with images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Lists images and the nodes that hold them
    Ls,
}

pub(crate) async fn run(command: ImageCommand, call: &Call) -> Result<(), Failure> {
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
