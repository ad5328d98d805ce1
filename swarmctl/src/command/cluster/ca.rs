//! `cluster ca rotate`: another certificate authority, while everything runs.

use swarm_proto::wire;

use crate::command::Call;
use crate::connect::{Client, request_id};
use crate::failure::Failure;
use crate::output;

/// What to do with the certificate authority.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Ca {
    /// Makes a new one; nodes get certificates of it by themselves, and the former one counts until all have
    Rotate {
        /// End a rotation that waits for nodes which are away: they must be joined anew
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(ca: Ca, call: &Call) -> Result<(), Failure> {
    let Ca::Rotate { force } = ca;
    let request = wire::RotateAuthorityRequest { request_id: request_id()?, force };
    let ask = async |mut client: Client| client.rotate_authority(request.clone()).await;
    let answer = call.cluster.call(ask).await?;
    output::data(&format!("{}\n", answer.root));
    output::talk(&match answer.rotation {
        None => "no node relies on the former certificate authority any more".to_owned(),
        Some(rotation) => {
            let waiting = rotation.waiting;
            let nodes = if waiting.len() == 1 { "node still relies" } else { "nodes still rely" };
            format!(
                "a new certificate authority signs; {} {nodes} on the former one: {}\n\
                 `swarmctl cluster status` shows when they have followed; \
                 join tokens and people's bundles are to be made anew",
                waiting.len(),
                waiting.join(", ")
            )
        }
    });
    Ok(())
}
