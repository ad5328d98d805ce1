//! The bytes of secrets and configs on their way to the cluster: in parts, each a request of its own, before what uses
//! them.

use std::collections::BTreeMap;

use swarm_proto::convert::{Fields, each};
use swarm_proto::spec::{ContentBytes, ContentId};
use swarm_proto::wire;

use crate::connect::{Cluster, request_id};
use crate::failure::Failure;
use crate::state::unreadable;

/// Sends what the cluster does not have yet. What it has is kept for a while, also when nothing uses it.
pub(crate) async fn send(
    cluster: &Cluster,
    contents: &BTreeMap<ContentId, ContentBytes>,
) -> Result<(), Failure> {
    if contents.is_empty() {
        return Ok(());
    }
    let request = wire::AnnounceContentsRequest {
        request_id: request_id()?,
        contents: each(contents.keys()),
    };
    let answer =
        cluster.call(async |mut client| client.announce_contents(request.clone()).await).await?;
    let missing = Fields("AnnounceContentsResponse").list("missing", answer.missing);
    let missing: Vec<ContentId> = missing.map_err(|error| unreadable(&error))?;
    for (id, bytes) in missing.iter().filter_map(|id| Some((id, contents.get(id)?))) {
        send_one(cluster, id, bytes).await?;
    }
    Ok(())
}

async fn send_one(cluster: &Cluster, id: &ContentId, bytes: &ContentBytes) -> Result<(), Failure> {
    for (part, data) in (0..).zip(bytes.parts()) {
        let request = wire::AddContentRequest {
            request_id: request_id()?,
            content: Some(id.into()),
            size: bytes.size(),
            part,
            data: data.reveal().to_vec(),
        };
        cluster.call(async |mut client| client.add_content(request.clone()).await).await?;
    }
    Ok(())
}
