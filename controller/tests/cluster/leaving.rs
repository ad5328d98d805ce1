//! A host with only an agent leaves in its own name.

use swarm_proto::object::TaskState;
use swarm_proto::transport::{CONTROLLER_NAME, Identity, Tls};
use swarm_proto::wire;
use swarm_proto::wire::join_client::JoinClient;
use tonic::{Code, Status};

use crate::agent::{Agent, agent_identity};
use crate::host::{Host, cluster, deploy, eventually, stack};

async fn leave(
    host: &Host,
    identity: &Identity,
    force: bool,
) -> Result<wire::LeaveClusterResponse, Status> {
    let tls = Tls::new(&identity.credentials()).unwrap();
    let channel = tls.connect(&host.address, CONTROLLER_NAME).await.unwrap();
    let request_id = format!("leave-{}", identity.node_id);
    let request = wire::LeaveClusterRequest { request_id, force };
    JoinClient::new(channel).leave_cluster(request).await.map(tonic::Response::into_inner)
}

async fn must_be_gone(host: &Host, identity: &Identity) {
    let id = identity.node_id;
    assert!(host.state().await.nodes.iter().all(|node| node.id != id.0));
    let refused = leave(host, identity, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let said = format!("node {id} was removed from the cluster\n");
    assert!(refused.message().starts_with(&said), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_drained_first_and_removed_when_its_tasks_are_over() {
    let hosts = cluster(1).await;
    let host = &hosts[0];
    let (leaving, other) = (agent_identity(host).await, agent_identity(host).await);
    let mut agent = Agent::connect(&leaving, &host.address).await;
    agent.welcomed().await;
    host.control().await.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let node = leaving.node_id.0;
    let task = eventually("its task is placed", async || {
        let tasks = host.state().await.tasks;
        let placed = tasks.iter().find(|task| task.node == Some(node));
        placed.map(|task| task.id.clone()).ok_or_else(|| format!("{tasks:?}"))
    })
    .await;
    agent.report(&task, TaskState::Running).await;

    let stays = wire::LeaveClusterResponse { removed: false, tasks: 1 };
    assert_eq!(leave(host, &leaving, false).await.unwrap(), stays);
    let nodes = host.state().await.nodes;
    let drained = nodes.iter().find(|known| known.id == node).unwrap();
    assert_eq!(drained.availability(), wire::Availability::Drain);
    assert_eq!(leave(host, &leaving, false).await.unwrap(), stays, "its task still runs");
    agent.report(&task, TaskState::Shutdown).await;
    eventually("it is removed", async || match leave(host, &leaving, false).await.unwrap() {
        wire::LeaveClusterResponse { removed: true, .. } => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    must_be_gone(host, &leaving).await;

    // By force at once.
    assert!(leave(host, &other, true).await.unwrap().removed);
    must_be_gone(host, &other).await;
}
