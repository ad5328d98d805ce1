//! `cluster status`: how the controllers are.

use swarm_proto::id::Timestamp;
use swarm_proto::wire;

use crate::command::{Call, now};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, ClusterView};

pub(crate) async fn run(call: &Call) -> Result<(), Failure> {
    let request = wire::GetClusterStatusRequest { stale: call.stale, own: false };
    let ask = async |mut client: crate::connect::Client| client.get_cluster_status(request).await;
    let answer = call.cluster.call(ask).await?;
    let now = now(Timestamp(answer.clock));
    let view = ClusterView::of(answer);
    if view.stale {
        output::talk("note: no quorum confirmed this; it is what one controller sees");
    }
    let text = match call.format {
        Format::Json => view::json(&view)?,
        Format::Yaml => view::yaml(&view)?,
        Format::Name => view::list(&view.members, Format::Name, now)?,
        Format::Table | Format::Wide => view.words(call.format == Format::Wide, now),
    };
    output::data(&text);
    Ok(())
}
