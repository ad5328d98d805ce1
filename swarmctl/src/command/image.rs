//! `image`: what the nodes hold, and archives in and out.

mod archive;
mod pull;
mod push;

use std::time::Duration;

use swarm_manifests::ImageReference;
use swarm_proto::id::Timestamp;
use swarm_proto::wire;
use swarm_proto::wire::images_client::ImagesClient;

use super::{Call, duration, now};
use crate::failure::Failure;
use crate::output;
use crate::view::{self, HistoryView, ImageDetailsView, ImageView};
use archive::{Import, Load, Save};
use pull::Pull;
use push::Push;

/// What to do with images.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ImageCommand {
    /// Lists images and the nodes that hold them
    Ls,
    Load(Load),
    Import(Import),
    Save(Save),
    Pull(Pull),
    Push(Push),
    /// Shows everything about images
    Inspect {
        /// Names, digests, or the first digits of one
        #[arg(required = true)]
        images: Vec<String>,
        /// As it is on this node; by default on the first that holds it
        #[arg(long)]
        node: Option<String>,
    },
    /// Shows how an image came about, the newest step first
    History {
        /// Its name, digest, or the first digits of that
        image: String,
        /// As it is on this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Gives an image one more name, on the nodes that hold it
    Tag {
        /// A name of it, its digest, or the first digits of that
        image: String,
        /// The new name; what had it before loses it
        name: String,
        /// Only on this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Removes names, and images with their last name, from the nodes that hold them
    ///
    /// What a task of a node or a stack's current revision needs stays.
    Rm {
        /// Names, digests, or the first digits of one
        #[arg(required = true)]
        images: Vec<String>,
        /// Only from this node
        #[arg(long)]
        node: Option<String>,
    },
    /// Removes images that nothing needs from all nodes
    ///
    /// What a task of a node or a stack's current revision needs stays, and so does what was loaded, built or tagged on
    /// a host, unless `--all` is given: no registry may have it.
    Prune {
        /// Only those that came to their node longer ago
        #[arg(long, default_value = "24h", value_parser = duration, value_name = "DURATION")]
        older_than: Duration,
        /// Also those that were loaded, built or tagged on a host
        #[arg(long)]
        all: bool,
        /// Only on this node
        #[arg(long)]
        node: Option<String>,
    },
}

pub(crate) async fn run(command: ImageCommand, call: &Call) -> Result<(), Failure> {
    match command {
        ImageCommand::Ls => list(call).await,
        ImageCommand::Load(load) => archive::load(load, call).await,
        ImageCommand::Import(import) => archive::import(import, call).await,
        ImageCommand::Save(save) => archive::save(save, call).await,
        ImageCommand::Pull(pull) => pull::pull(pull, call).await,
        ImageCommand::Push(push) => push::push(push, call).await,
        ImageCommand::Inspect { images, node } => {
            for image in images {
                let details = inspect(&image, node.as_deref(), call).await?;
                output::data(&view::whole(&ImageDetailsView::of(&details), call.format)?);
            }
            Ok(())
        }
        ImageCommand::History { image, node } => {
            let details = inspect(&image, node.as_deref(), call).await?;
            let steps = HistoryView::of_config(&details);
            let steps = steps.ok_or_else(|| {
                Failure::refused(format!("the configuration of image `{image}` cannot be read"))
            })?;
            output::data(&view::list(&steps, call.format, now(Timestamp::default()))?);
            Ok(())
        }
        ImageCommand::Tag { image, name, node } => tag(&image, name, node, call).await,
        ImageCommand::Rm { images, node } => remove(&images, node.as_deref(), call).await,
        ImageCommand::Prune { older_than, all, node } => {
            let request = wire::PruneImagesRequest {
                node: node.unwrap_or_default(),
                older_than: u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX),
                local: all,
                ..wire::PruneImagesRequest::default()
            };
            let ask = async |channel| ImagesClient::new(channel).prune(request.clone()).await;
            let answer = call.cluster.call_patiently(ask).await?;
            tell(&answer.nodes);
            Ok(())
        }
    }
}

async fn list(call: &Call) -> Result<(), Failure> {
    let request = wire::ListImagesRequest {};
    let answer = call.cluster.call(async |mut client| client.list_images(request).await).await?;
    for node in answer.nodes.iter().filter(|node| !node.error.is_empty()) {
        output::warn(&format!("the images of node `{}` are unknown: {}", node.node, node.error));
    }
    let views = ImageView::of_nodes(answer.nodes);
    output::data(&view::list(&views, call.format, now(Timestamp::default()))?);
    Ok(())
}

async fn inspect(
    image: &str,
    node: Option<&str>,
    call: &Call,
) -> Result<wire::ImageDetails, Failure> {
    let (node, image) = (node.unwrap_or_default().to_owned(), whole(image)?);
    let request = wire::InspectImageRequest { node, image };
    let ask = async |channel| ImagesClient::new(channel).inspect(request.clone()).await;
    call.cluster.call_service(ask).await
}

async fn tag(image: &str, name: String, node: Option<String>, call: &Call) -> Result<(), Failure> {
    let (node, image) = (node.unwrap_or_default(), whole(image)?);
    let request = wire::TagImageRequest { node, image, name };
    let ask = async |channel| ImagesClient::new(channel).tag(request.clone()).await;
    let answer = call.cluster.call_service(ask).await?;
    output::talk(&format!("{} is {}", answer.name, answer.digest));
    Ok(())
}

async fn remove(images: &[String], node: Option<&str>, call: &Call) -> Result<(), Failure> {
    let mut refused = None;
    for image in images {
        let node = node.unwrap_or_default().to_owned();
        let request = wire::RemoveImageRequest {
            node,
            image: whole(image)?,
            ..wire::RemoveImageRequest::default()
        };
        let ask = async |channel| ImagesClient::new(channel).remove(request.clone()).await;
        match call.cluster.call_patiently(ask).await {
            Ok(answer) => tell(&answer.nodes),
            Err(failure) if images.len() > 1 => {
                output::error(&failure.to_string());
                refused = Some(Failure::refused("some images were not removed"));
            }
            Err(failure) => return Err(failure),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Says what went on each node.
pub(super) fn tell(nodes: &[wire::RemovedImages]) {
    for node in nodes {
        if !node.error.is_empty() {
            output::warn(&format!("node {}: {}", node.node, node.error));
        }
        for name in &node.untagged {
            output::talk(&format!("node {}: {name} is no name of it any more", node.node));
        }
        for digest in &node.removed {
            output::talk(&format!("node {}: removed {digest}", node.node));
        }
        if node.caches > 0 {
            output::talk(&format!("node {}: {} caches of builds are gone", node.node, node.caches));
        }
        if !node.removed.is_empty() || node.caches > 0 {
            output::talk(&format!(
                "node {}: {} are free again",
                node.node,
                view::bytes(node.freed)
            ));
        }
    }
}

/// The whole name that is meant, or a digest as it is.
fn whole(image: &str) -> Result<String, Failure> {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    if digits.len() >= 12 && digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    {
        return Ok(image.to_owned());
    }
    let reference: ImageReference = image
        .parse()
        .map_err(|error| Failure::because(format!("`{image}` is no image's name"), &error))?;
    Ok(reference.to_string())
}
