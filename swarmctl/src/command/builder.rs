//! `builder`: what builds leave on nodes to be quicker the next time.

use std::time::Duration;

use swarm_proto::wire;
use swarm_proto::wire::images_client::ImagesClient;

use super::{Call, duration, image};
use crate::failure::Failure;
use crate::output;

/// What to do with what builds leave.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BuilderCommand {
    /// Removes what builds made of their steps, and caches of `RUN --mount=type=cache`, from all nodes
    ///
    /// What a build uses now stays, and so does what is a part of an image. By itself it goes once no build has used it for
    /// `build_cache_age` of the node's `agent.toml`.
    Prune {
        /// Only what no build has used for so long
        #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
        older_than: Duration,
        /// Only on this node
        #[arg(long)]
        node: Option<String>,
    },
}

pub(crate) async fn run(command: BuilderCommand, call: &Call) -> Result<(), Failure> {
    let BuilderCommand::Prune { older_than, node } = command;
    let request = wire::PruneBuildsRequest {
        node: node.unwrap_or_default(),
        unused_for: u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX),
    };
    let ask = async |channel| ImagesClient::new(channel).prune_builds(request.clone()).await;
    let answer = call.cluster.call_patiently(ask).await?;
    image::tell(&answer.nodes);
    if answer.nodes.iter().all(|node| node.caches == 0 && node.error.is_empty()) {
        output::talk("there is nothing to remove");
    }
    Ok(())
}
