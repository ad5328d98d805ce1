//! Who may do what: every call by every role on a real controller, removed nodes, and what the log says of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use swarm_proto::object::TaskState;
use swarm_proto::transport::access::{ACCESS, Callers};
use swarm_proto::transport::{
    self, CONTROLLER_NAME, Credentials, Identity, JoinToken, PeerRole, Tls, connect_unix, join,
};
use swarm_proto::wire;
use swarm_proto::wire::CALLS;
use swarm_proto::wire::control_client::ControlClient;
use swarm_proto::wire::dispatcher_client::DispatcherClient;
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::agent::{Agent, agent_identity};
use crate::host::{Host, cluster, deploy, eventually, stack};

/// The columns of the matrix.
const ROLES: [Option<PeerRole>; 6] = [
    None,
    Some(PeerRole::Agent),
    Some(PeerRole::Controller),
    Some(PeerRole::Reader),
    Some(PeerRole::Admin),
    Some(PeerRole::Local),
];

/// A connection of each role, in the order of the columns.
async fn connections(host: &Host) -> Vec<Channel> {
    transport::install_crypto_provider();
    let identity = Identity::load(&host.dir.path().join("state")).unwrap().unwrap();
    let agent = agent_identity(host).await;
    let bundle = |role| {
        let text = host.expect(&["admin-bundle", "--name", "ada", "--role", role]);
        Tls::new(&Credentials::from_bundle(&text).unwrap()).unwrap()
    };
    let over_tls: [Arc<Tls>; 5] = [
        Tls::without_certificate(&identity.ca_pem).unwrap(),
        Tls::new(&agent.credentials()).unwrap(),
        Tls::new(&identity.credentials()).unwrap(),
        bundle("reader"),
        bundle("admin"),
    ];
    let mut channels = Vec::new();
    for tls in over_tls {
        channels.push(tls.connect(&host.address, CONTROLLER_NAME).await.unwrap());
    }
    channels.push(connect_unix(&host.socket()).await.unwrap());
    channels
}

/// Whether a call is let in; what it then answers to an empty request is of no matter.
async fn is_open(channel: &Channel, call: &str) -> bool {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = format!("/swarm.v1.{call}").parse().unwrap();
    let nothing = Request::new(tokio_stream::empty::<()>());
    let asked = client.streaming(nothing, path, ProstCodec::<(), ()>::default());
    match timeout(Duration::from_secs(8), asked).await {
        Ok(Err(status)) => {
            let refused = status.message().contains("may not make this call")
                || status.message().starts_with("this call needs a client certificate");
            if refused {
                let codes = [Code::PermissionDenied, Code::Unauthenticated];
                assert!(codes.contains(&status.code()), "{call}: {status}");
                assert!(status.message().contains("\n\nhint: "), "{call}: {status}");
            }
            !refused
        }
        Ok(Ok(_)) | Err(_) => true,
    }
}

fn open_by_table(call: &str, role: Option<PeerRole>) -> bool {
    let (_, callers) = ACCESS.iter().find(|(name, _)| *name == call).unwrap();
    match (callers, role) {
        (Callers::Anybody, _) => true,
        (Callers::Valid(roles) | Callers::EvenExpired(roles), Some(role)) => roles.contains(&role),
        (_, None) => false,
    }
}

/// Without a certificate, agent, controller, reader, admin, root on the socket.
#[expect(clippy::too_many_lines, reason = "one line for each call")]
fn table() -> Expect {
    expect![[r"
        Agent/BecomeController       - - x - - -
        Agent/Exec                   - - x - - x
        Agent/GetState               - - - - - x
        Agent/InspectHost            - - x - - x
        Agent/ListImages             - - x - - -
        Agent/Logs                   - - x - - x
        Agent/ResolveImage           - - x - - -
        Agent/StopTasks              - - - - - x
        Builds/Build                 - - x - - -
        Control/AddContent           - - - - x x
        Control/AnnounceContents     - - - - x x
        Control/Backup               - - - - - x
        Control/Build                - - - - x x
        Control/CreateNamedContent   - - - - x x
        Control/CreateNetwork        - - - - x x
        Control/CreateVolume         - - - - x x
        Control/Deploy               - - - - x x
        Control/Exec                 - - - - x x
        Control/GetClusterStatus     - - x x x x
        Control/GetConfig            - - - - x x
        Control/GetJoinTokens        - - - - x x
        Control/GetState             - - - x x x
        Control/GetVersion           - - x x x x
        Control/InspectHosts         - - - x x x
        Control/ListImages           - - - x x x
        Control/ListScaling          - - - x x x
        Control/Logs                 - - - x x x
        Control/PauseService         - - - - x x
        Control/PlanDeploy           - - - - x x
        Control/PlanRebalance        - - - x x x
        Control/PromoteNode          - - - - x x
        Control/PromoteService       - - - - x x
        Control/Rebalance            - - - - x x
        Control/RemoveNamedContent   - - - - x x
        Control/RemoveNetwork        - - - - x x
        Control/RemoveNode           - - - - x x
        Control/RemoveService        - - - - x x
        Control/RemoveStack          - - - - x x
        Control/RemoveVolume         - - - - x x
        Control/RollBackService      - - - - x x
        Control/RotateAuthority      - - - - x x
        Control/RotateJoinTokens     - - - - x x
        Control/RunJob               - - - - x x
        Control/RunOneOff            - - - - x x
        Control/ScaleService         - - - - x x
        Control/SetLock              - - - - x x
        Control/StopRuns             - - - - x x
        Control/UpdateCluster        - - - - x x
        Control/UpdateNode           - - - - x x
        Control/UpdateService        - - - - x x
        Control/Watch                - - - x x x
        Dispatcher/Session           - x x - - -
        ImageIndex/CheckMember       - x x - - -
        ImageIndex/FindImage         - x x - - -
        ImageIndex/GetLogin          - x x - - -
        ImageStore/CheckLogin        - - x - - -
        ImageStore/Inspect           - - x - - -
        ImageStore/Load              - - x - - -
        ImageStore/Prune             - - x - - -
        ImageStore/PruneBuilds       - - x - - -
        ImageStore/Pull              - - x - - -
        ImageStore/Push              - - x - - -
        ImageStore/ReadBlob          - x x - - -
        ImageStore/Remove            - - x - - -
        ImageStore/Save              - - x - - -
        ImageStore/Tag               - - x - - -
        Images/Inspect               - - - x x x
        Images/ListLogins            - - - x x x
        Images/Load                  - - - - x x
        Images/LogIn                 - - - - x x
        Images/LogOut                - - - - x x
        Images/Prune                 - - - - x x
        Images/PruneBuilds           - - - - x x
        Images/Pull                  - - - - x x
        Images/Push                  - - - - x x
        Images/Remove                - - - - x x
        Images/Save                  - - - - x x
        Images/Tag                   - - - - x x
        Join/GetRootCertificate      x x x x x x
        Join/JoinCluster             x x x x x x
        Join/LeaveCluster            - x - - - -
        Join/RenewCertificate        - x x - - -
        Local/CreateClientBundle     - - - - - x
        Local/GetJoinTokens          - - - - - x
        Local/Unlock                 - - - - - x
        Raft/Forward                 - - x - - -
        Raft/Messages                - - x - - -
        Raft/RelaySession            - - x - - -
        Raft/Snapshot                - - x - - -
    "]]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_make_the_calls_of_the_table_and_no_other() {
    let hosts = cluster(1).await;
    let channels = connections(&hosts[0]).await;
    let mut matrix = String::new();
    for call in CALLS.iter().copied().collect::<BTreeSet<&str>>() {
        let mut row = String::new();
        for (channel, role) in channels.iter().zip(ROLES) {
            let open = is_open(channel, call).await;
            assert_eq!(open, open_by_table(call, role), "{call} by {role:?}");
            row.push_str(if open { " x" } else { " -" });
        }
        writeln!(matrix, "{call:28}{row}").unwrap();
    }
    table().assert_eq(&matrix);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_did_what_and_shows_no_secret() {
    let hosts = cluster(1).await;
    transport::install_crypto_provider();
    let bundle = |role| {
        let text = hosts[0].expect(&["admin-bundle", "--name", "ada", "--role", role]);
        Tls::new(&Credentials::from_bundle(&text).unwrap()).unwrap()
    };
    let channel = bundle("admin").connect(&hosts[0].address, CONTROLLER_NAME).await.unwrap();
    let mut admin = ControlClient::new(channel);
    admin.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let channel = bundle("reader").connect(&hosts[0].address, CONTROLLER_NAME).await.unwrap();
    let mut reader = ControlClient::new(channel);
    reader.deploy(deploy("r2", stack("web", 2))).await.expect_err("a reader changes nothing");
    let gone =
        wire::RemoveStackRequest { request_id: String::from("r3"), stack: String::from("none") };
    hosts[0].control().await.remove_stack(gone).await.expect_err("there is no such stack");
    let token = hosts[0].expect(&["token", "agent"]);

    let log = fs::read_to_string(hosts[0].dir.path().join("log")).unwrap();
    for line in [
        r#"audit who="root@socket" role="local" call="CreateClientBundle" object="admin ada" outcome="done""#,
        r#"audit who="ada" role="admin" call="Deploy" object="stack web" outcome="done""#,
        r#"audit who="root@socket" role="local" call="RemoveStack" object="stack none" outcome="there is no stack `none`""#,
        r#"audit who="root@socket" role="local" call="GetJoinTokens" object="join tokens" outcome="done""#,
    ] {
        assert!(log.contains(line), "the log lacks {line}");
    }
    let reads = log.matches("audit who=\"ada\" role=\"reader\"").count();
    assert_eq!(reads, 0, "the refused call never came to its service");
    for secret in ["hunter2", "PRIVATE KEY", token.trim().rsplit('-').next().unwrap()] {
        assert!(!log.contains(secret), "the log shows a secret");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_out_at_once() {
    let hosts = cluster(1).await;
    let removed = agent_identity(&hosts[0]).await;
    let stays = agent_identity(&hosts[0]).await;
    let mut agent = Agent::connect(&removed, &hosts[0].address).await;
    agent.welcomed().await;
    let mut other = Agent::connect(&stays, &hosts[0].address).await;
    other.welcomed().await;
    let idle = Tls::new(&removed.credentials()).unwrap();
    let idle = idle.connect(&hosts[0].address, CONTROLLER_NAME).await.unwrap();

    let request = wire::RemoveNodeRequest {
        request_id: String::from("r1"),
        node: removed.node_id.to_string(),
        force: true,
    };
    hosts[0].control().await.remove_node(request).await.unwrap();
    assert_eq!(agent.farewell().await, "this node was removed from the cluster");
    let expected = format!("node {} was removed from the cluster", removed.node_id);
    let mut client = DispatcherClient::new(idle);
    eventually("its calls are refused by name", async || {
        let status = client.clone().session(tokio_stream::empty()).await.unwrap_err();
        if status.message().starts_with(&expected) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let refused = client.session(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\n\nhint: to let this host in again"), "{refused}");
    let refused = transport::renew(removed).await.unwrap_err();
    assert!(refused.to_string().starts_with(&expected), "{refused}");

    // The other one's session goes on.
    other.heartbeat().await;
    assert!(other.assigned().await.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_and_says_only_what_its_own_node_is_about() {
    let hosts = cluster(1).await;
    transport::install_crypto_provider();
    let token: JoinToken = hosts[0].expect(&["token", "agent"]).trim().parse().unwrap();
    let mut agents = Vec::new();
    for name in ["a1", "a2"] {
        let identity = join(&hosts[0].address, &token, name, None).await.unwrap();
        let mut agent = Agent::connect(&identity, &hosts[0].address).await;
        agent.welcomed().await;
        agent.assigned().await;
        agents.push((identity.node_id.0, agent));
    }
    hosts[0].control().await.deploy(deploy("r1", stack("web", 6))).await.unwrap();
    let placed = eventually("both have tasks", async || {
        let tasks = hosts[0].state().await.tasks;
        let of = |node: u64| tasks.iter().filter(|task| task.node == Some(node)).count();
        let (first, second) = (of(agents[0].0), of(agents[1].0));
        if first + second == 6 && first * second > 0 {
            Ok(tasks)
        } else {
            Err(format!("{tasks:?}"))
        }
    })
    .await;
    for (node, agent) in &mut agents {
        let own = placed.iter().filter(|task| task.node == Some(*node));
        let own: BTreeSet<String> = own.map(|task| task.id.clone()).collect();
        let mut told = BTreeSet::new();
        while told.len() < own.len() {
            let tasks = agent.assigned().await.diff.unwrap_or_default().tasks;
            told.extend(tasks.into_iter().map(|task| task.id));
        }
        assert_eq!(told, own);
    }
    let (foreign, own) = {
        let of = |node: u64| placed.iter().find(|task| task.node == Some(node)).unwrap().id.clone();
        (of(agents[1].0), of(agents[0].0))
    };
    agents[0].1.report(&foreign, TaskState::Failed).await;
    agents[0].1.report(&own, TaskState::Running).await;
    let state_of = async |id: &str| {
        let tasks = hosts[0].state().await.tasks;
        let task = tasks.into_iter().find(|task| task.id == id).unwrap();
        task.status.unwrap().state()
    };
    eventually("its own report counts", async || match state_of(&own).await {
        wire::TaskState::Running => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_ne!(state_of(&foreign).await, wire::TaskState::Failed);
}
