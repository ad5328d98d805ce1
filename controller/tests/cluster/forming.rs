//! How a cluster forms, and who is kept out.

use swarm_proto::transport::{
    self, CONTROLLER_NAME, Credentials, JoinToken, Tls, fetch_root, join,
};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use swarm_proto::wire::dispatcher_client::DispatcherClient;
use swarm_proto::wire::raft_client::RaftClient;
use tonic::Code;

use crate::host::{Host, cluster, deploy, leader, scale, stack};

#[tokio::test(flavor = "multi_thread")]
async fn three_controllers_accept_a_deploy_at_a_follower() {
    let hosts = cluster(3).await;
    let leader = leader(&hosts).await;
    let follower = (leader + 1) % 3;
    let mut control = hosts[follower].control().await;
    let request = deploy("r1", stack("web", 2));
    let answer = control.deploy(request.clone()).await.unwrap().into_inner();
    assert!(answer.changed);
    assert_eq!(answer.revision, 1);

    // The same request again is the same deploy; the same stack in a new request changes nothing.
    assert_eq!(control.deploy(request).await.unwrap().into_inner(), answer);
    let again = control.deploy(deploy("r2", stack("web", 2))).await.unwrap().into_inner();
    assert!(!again.changed, "{:?}", again.changes);

    // A linearizable read at the third controller sees the write at once.
    let third = &hosts[3 - leader - follower];
    let ask = wire::GetStateRequest { stale: false };
    let state = third.control().await.get_state(ask).await.unwrap().into_inner();
    assert_eq!(state.stacks.len(), 1);
    assert_eq!(state.services.len(), 1);
    assert_eq!(state.nodes.len(), 3);
    assert!(!format!("{state:?}").contains("hunter2"), "an environment's value is shown");
    assert!(format!("{state:?}").contains("PASSWORD"));

    let scaled = control.scale_service(scale("r3", "web", 5)).await.unwrap().into_inner();
    assert_eq!(scaled.previous, 2);
    let refused = control.scale_service(scale("r4", "nothing", 5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let refused = control.scale_service(scale("", "web", 5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_the_state_and_then_each_change() {
    let hosts = cluster(1).await;
    let mut control = hosts[0].control().await;
    control.deploy(deploy("r1", stack("first", 1))).await.unwrap();
    let ask = wire::WatchRequest { stale: false, stack: String::from("web"), snapshot: true };
    let mut events = control.watch(ask).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    let Some(wire::watch_event::Event::Snapshot(snapshot)) = first.event else {
        panic!("no snapshot first: {first:?}");
    };
    assert!(snapshot.stacks.is_empty(), "another stack is shown");
    control.deploy(deploy("r2", stack("web", 1))).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&"task") {
        let event = events.message().await.unwrap().unwrap();
        assert!(event.applied > snapshot.applied);
        seen.extend(match event.event.unwrap() {
            wire::watch_event::Event::Stack(stack) => {
                assert_eq!(stack.spec.unwrap().name, "web");
                Some("stack")
            }
            wire::watch_event::Event::Service(_) => Some("service"),
            wire::watch_event::Event::Task(_) => Some("task"),
            _ => None,
        });
    }
    assert!(seen.contains(&"stack") && seen.contains(&"service"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_certificate_opens_a_service() {
    let hosts = cluster(1).await;
    let address = &hosts[0].address;
    transport::install_crypto_provider();
    let token: JoinToken = hosts[0].expect(&["token", "agent"]).trim().parse().unwrap();
    let root = fetch_root(address, &token).await.unwrap();

    let nobody = Tls::without_certificate(&root).unwrap();
    let channel = nobody.connect(address, CONTROLLER_NAME).await.unwrap();
    let mut control = ControlClient::new(channel.clone());
    let refused = control.get_state(wire::GetStateRequest { stale: true }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let refused = control.deploy(deploy("r", stack("web", 1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let stream = tokio_stream::empty();
    let refused = DispatcherClient::new(channel.clone()).session(stream).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let forward = wire::ForwardRequest { method: String::from("Deploy"), request: Vec::new() };
    let refused = RaftClient::new(channel).forward(forward.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    let agent = join(address, &token, "a1", None).await.unwrap();
    let tls = Tls::new(&agent.credentials()).unwrap();
    let channel = tls.connect(address, CONTROLLER_NAME).await.unwrap();
    let mut control = ControlClient::new(channel.clone());
    let refused = control.get_state(wire::GetStateRequest { stale: true }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = RaftClient::new(channel.clone()).forward(forward).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = RaftClient::new(channel).messages(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    let bundle = hosts[0].expect(&["admin-bundle", "--name", "alice"]);
    let operator = Tls::new(&Credentials::from_bundle(&bundle).unwrap()).unwrap();
    let channel = operator.connect(address, CONTROLLER_NAME).await.unwrap();
    let mut control = ControlClient::new(channel);
    let state = control.get_state(wire::GetStateRequest { stale: false }).await.unwrap();
    assert_eq!(state.into_inner().nodes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_cluster_is_refused() {
    let ours = cluster(1).await;
    let theirs = cluster(1).await;
    transport::install_crypto_provider();
    let bundle = theirs[0].expect(&["admin-bundle"]);
    let stranger = Tls::new(&Credentials::from_bundle(&bundle).unwrap()).unwrap();
    let refused = stranger.connect(&ours[0].address, CONTROLLER_NAME).await.unwrap_err();
    assert!(refused.to_string().contains("of another cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_is_refused_with_a_clear_reason() {
    let hosts = cluster(1).await;
    let address = hosts[0].address.as_str();
    let token = hosts[0].expect(&["token", "controller"]).trim().to_owned();
    let agent_token = hosts[0].expect(&["token", "agent"]).trim().to_owned();
    let joining = Host::new();
    let join = |token: &str, address: &str| joining.refused(&["join", "--token", token, address]);

    let (start, secret) = token.rsplit_once('-').unwrap();
    let wrong = format!("{start}-{}", "0".repeat(secret.len()));
    let message = join(&wrong, address);
    assert!(
        message.contains("the join token is not valid\n\nhint: see the right one"),
        "{message}"
    );

    let digest = token.split('-').nth(2).unwrap();
    let message = join(&token.replace(digest, &"0".repeat(64)), address);
    assert!(message.contains("the token is of another cluster"), "{message}");
    assert!(message.contains("\n\nhint: the address or the token is of another"), "{message}");

    let message = join("SWTKN-1-x", address);
    assert!(message.starts_with("this is not a join token"), "{message}");
    let message = join(&agent_token, address);
    assert!(message.contains("this token lets agents in, not controllers"), "{message}");
    let message = join(&token, "127.0.0.1:1");
    assert!(message.contains("cannot reach `127.0.0.1:1`"), "{message}");
    assert!(message.contains("hint: see that a controller runs there"), "{message}");
    assert!(!joining.dir.path().join("state/identity/identity.json").exists());
    assert_eq!(hosts[0].state().await.nodes.len(), 1, "a refused join leaves no node");
    assert!(!message.contains(secret), "a message shows the token");

    let output = joining.output(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("this host belongs to no cluster yet"), "{message}");
    let message = hosts[0].refused(&["init"]);
    assert!(message.starts_with("this host already belongs to cluster"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_bundles_are_given_while_the_controller_is_stopped() {
    let host = Host::new();
    let printed = host.expect(&["init"]);
    assert!(printed.contains(&format!("{}\n", host.address)), "{printed}");
    let token = host.expect(&["token"]);
    assert!(printed.ends_with(&token), "{printed}");
    Credentials::from_bundle(&host.expect(&["admin-bundle"])).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_joins_again_is_another_node() {
    let hosts = cluster(1).await;
    transport::install_crypto_provider();
    let token: JoinToken = hosts[0].expect(&["token", "agent"]).trim().parse().unwrap();
    let first = join(&hosts[0].address, &token, "a1", None).await.unwrap();
    let second = join(&hosts[0].address, &token, "a1", None).await.unwrap();
    assert!(second.node_id > first.node_id);
    assert_eq!(hosts[0].state().await.nodes.len(), 3);
}
