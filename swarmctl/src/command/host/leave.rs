//! `host leave`: the tasks move away, the node is removed, and the host forgets the cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Role, TaskState};
use swarm_proto::transport::{Departure, Identity};
use swarm_proto::wire;
use swarm_proto::wire::join_client::JoinClient;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::command::{Call, duration};
use crate::connect::{self, Client, Cluster, request_id};
use crate::failure::Failure;
use crate::host::unit;
use crate::local::{self, Local};
use crate::output;
use crate::state::State;

/// Between two looks at the tasks.
const LOOK: Duration = Duration::from_millis(500);

/// How long the other controllers may take to go on without this host's.
const PARTING: Duration = Duration::from_secs(30);

/// Between two looks at the controllers.
const PARTING_LOOK: Duration = Duration::from_millis(50);

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
    match identity.role {
        Role::Agent => leave_as_agent(leave, &identity).await?,
        Role::Controller => leave_as_controller(leave, &identity, call).await?,
    }
    output::talk(&format!("node {} is removed from the cluster", identity.node_id));
    stop_tasks(leave.timeout).await?;
    unit::stop()?;
    forget(&leave.state_dir)?;
    output::talk("this host belongs to no cluster any more; its volumes and images are kept");
    Ok(())
}

/// Has this host's agent stop what still runs: nobody would later. Where no agent runs, nothing can be asked.
async fn stop_tasks(timeout: Duration) -> Result<(), Failure> {
    let Ok(mut local) = Local::at(Path::new(local::SOCKET)).await else {
        output::warn("no agent runs on this host: tasks that it left go on until they end");
        return Ok(());
    };
    let end = Instant::now() + timeout;
    loop {
        let stopped = local.client.stop_tasks(wire::StopTasksRequest {}).await;
        match stopped.map_err(|status| connect::refusal(&status))?.into_inner().left {
            0 => return Ok(()),
            left if Instant::now() >= end => {
                let hint = "see them with `swarmctl --local ps`, and run this again";
                let what = format!("{left} tasks or networks of this host are still there");
                return Err(Failure::not_converged(what).hint(hint));
            }
            _ => {}
        }
    }
}

/// A host without a controller asks the others in its own name, which may do no more than that.
async fn leave_as_agent(leave: &Leave, identity: &Identity) -> Result<(), Failure> {
    let cluster = Cluster::of_host(identity)?;
    let request = wire::LeaveClusterRequest { request_id: request_id()?, force: leave.force };
    let end = Instant::now() + leave.timeout;
    loop {
        match cluster
            .call_service(async |channel| ask_to_leave(channel, request.clone()).await)
            .await
        {
            Ok(answer) if answer.removed => return Ok(()),
            Ok(answer) if Instant::now() >= end => return Err(still_run(answer.tasks)),
            Ok(_) => sleep(LOOK).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// Asks to leave; that this host is no member any more is as good as a yes. Somebody else removed it, or the answer that
/// said so was lost.
async fn ask_to_leave(
    channel: Channel,
    request: wire::LeaveClusterRequest,
) -> Result<Response<wire::LeaveClusterResponse>, Status> {
    match JoinClient::new(channel).leave_cluster(request).await {
        Err(status) if Departure::told(&status) == Some(Departure::Removed) => {
            Ok(Response::new(wire::LeaveClusterResponse { removed: true, tasks: 0 }))
        }
        answer => answer,
    }
}

fn still_run(tasks: impl std::fmt::Display) -> Failure {
    let hint = "the host stays drained; try again, or leave with --force: they are lost";
    Failure::not_converged(format!("{tasks} tasks still run on this host")).hint(hint)
}

async fn leave_as_controller(
    leave: &Leave,
    identity: &Identity,
    call: &Call,
) -> Result<(), Failure> {
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
    }
    if let Some(raft_id) = identity.raft_id {
        part(raft_id, call).await?;
    }
    Ok(())
}

/// Waits until the group goes on without this host's controller. Stopped before, it could be missing: until its removal
/// is agreed on, it counts for a majority.
async fn part(raft_id: RaftId, call: &Call) -> Result<(), Failure> {
    let end = Instant::now() + PARTING;
    let request = wire::GetClusterStatusRequest { stale: true, own: false };
    let ask = async |mut client: Client| client.get_cluster_status(request).await;
    // No answer: this host's controller has stopped by itself, or is turned away.
    while let Ok(status) = call.cluster.call(ask).await {
        if !status.members.iter().any(|member| member.raft_id == raft_id.0) {
            break;
        }
        if Instant::now() >= end {
            let hint = "see `swarmctl cluster status`: a majority of the other controllers must be \
                        reachable; then run this again";
            let what = "the other controllers still count on this host's controller";
            return Err(Failure::not_converged(what).hint(hint));
        }
        sleep(PARTING_LOOK).await;
    }
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
            return Err(still_run(left));
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
