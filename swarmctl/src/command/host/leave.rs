//! `host leave`: the tasks move away, the node is removed, and the host forgets the cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarm_proto::id::NodeId;
use swarm_proto::object::TaskState;
use swarm_proto::transport::Identity;
use swarm_proto::wire;
use tokio::time::{Instant, sleep};

use crate::command::{Call, duration};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::host::unit;
use crate::output;
use crate::state::State;

/// Between two looks at the tasks.
const LOOK: Duration = Duration::from_millis(500);

/// How to leave.
#[derive(Debug, clap::Args)]
pub(crate) struct Leave {
    /// Do not wait until the host's tasks run elsewhere: they are lost
    #[arg(short, long)]
    force: bool,
    /// How long the tasks may take to move away
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
    /// Where identity and log are kept
    #[arg(long, default_value = "/var/lib/swarm", value_name = "FOLDER")]
    state_dir: PathBuf,
}

pub(super) async fn run(leave: &Leave, call: &Call) -> Result<(), Failure> {
    let identity = Identity::load(&leave.state_dir)
        .map_err(|error| Failure::because("cannot read this host's identity", &error))?;
    let Some(identity) = identity else {
        return Err(Failure::refused("this host belongs to no cluster"));
    };
    let node = identity.node_id;
    let state = State::get(&call.cluster, false).await?;
    if state.cluster_id != identity.cluster_id {
        let hint = "run it on a controller's host, or choose a context of this host's cluster";
        return Err(
            Failure::refused("swarmctl speaks with another cluster than this host's").hint(hint)
        );
    }
    if state.nodes.contains_key(&node) {
        if !leave.force {
            drain(node, leave.timeout, call).await?;
        }
        let request = wire::RemoveNodeRequest {
            request_id: request_id()?,
            node: node.to_string(),
            force: true,
        };
        call.cluster.call(async |mut client| client.remove_node(request.clone()).await).await?;
        output::talk(&format!("node {node} is removed from the cluster"));
    }
    unit::stop()?;
    forget(&leave.state_dir)?;
    output::talk("this host belongs to no cluster any more; its volumes and images are kept");
    Ok(())
}

async fn drain(node: NodeId, timeout: Duration, call: &Call) -> Result<(), Failure> {
    let request = wire::UpdateNodeRequest {
        request_id: request_id()?,
        node: node.to_string(),
        availability: wire::Availability::Drain.into(),
        ..wire::UpdateNodeRequest::default()
    };
    call.cluster.call(async |mut client| client.update_node(request.clone()).await).await?;
    let end = Instant::now() + timeout;
    loop {
        let state = State::get(&call.cluster, false).await?;
        let alive = |task: &&swarm_proto::object::Task| {
            task.node == Some(node) && task.status.state <= TaskState::Running
        };
        let left = state.tasks.values().filter(alive).count();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            let hint = "the host stays drained; try again, or leave with --force: they are lost";
            return Err(
                Failure::not_converged(format!("{left} tasks still run on this host")).hint(hint)
            );
        }
        sleep(LOOK).await;
    }
}

/// Removes the identity first: without it nothing here starts again.
fn forget(state_dir: &Path) -> Result<(), Failure> {
    for path in [Identity::folder(state_dir), state_dir.join("controller")] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = format!("cannot remove {}: {error}", path.display());
                return Err(Failure::refused(what));
            }
            _ => {}
        }
    }
    Ok(())
}
