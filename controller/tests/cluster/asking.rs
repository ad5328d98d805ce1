//! What controllers ask of agents: what an image's name stands for, logs, lists of images.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use swarm_proto::object::TaskState;
use swarm_proto::transport::{self, Identity, Tls, accept_tls};
use swarm_proto::wire;
use swarm_proto::wire::agent_server::{Agent as AgentRpc, AgentServer};
use swarm_proto::wire::builds_server::BuildsServer;
use swarm_proto::wire::image_index_client::ImageIndexClient;
use swarm_proto::wire::image_store_server::ImageStoreServer;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::agent::{Agent, agent_identity};
use crate::building::FakeBuilds;
use crate::host::{Host, cluster, deploy, eventually, stack};
use crate::registry::FakeStore;

/// Answers for one host; the registry is as the test says.
#[derive(Clone)]
pub(crate) struct FakeAgent {
    registry: Arc<Mutex<Result<String, Status>>>,
}

type Lines = std::pin::Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>>;

#[tonic::async_trait]
impl AgentRpc for FakeAgent {
    type LogsStream = Lines;

    async fn logs(
        &self,
        request: Request<wire::AgentLogsRequest>,
    ) -> Result<Response<Lines>, Status> {
        let lines = request.into_inner().tasks.into_iter().map(|task| {
            Ok(wire::LogLine {
                task_id: task,
                stream: String::from("stdout"),
                line: b"hello".to_vec(),
                time: 5,
                ..wire::LogLine::default()
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(lines.collect::<Vec<_>>()))))
    }

    async fn resolve_image(
        &self,
        _: Request<wire::ResolveImageRequest>,
    ) -> Result<Response<wire::ResolveImageResponse>, Status> {
        let digest = self.registry.lock().unwrap().clone()?;
        Ok(Response::new(wire::ResolveImageResponse { digest }))
    }

    async fn get_state(
        &self,
        _: Request<wire::GetStateRequest>,
    ) -> Result<Response<wire::StateView>, Status> {
        Ok(Response::new(wire::StateView::default()))
    }

    async fn inspect_host(
        &self,
        _: Request<wire::InspectHostRequest>,
    ) -> Result<Response<wire::HostInspection>, Status> {
        Ok(Response::new(wire::HostInspection { networks: vec![7], ..Default::default() }))
    }

    async fn become_controller(
        &self,
        request: Request<wire::BecomeControllerRequest>,
    ) -> Result<Response<wire::BecomeControllerResponse>, Status> {
        self.registry.lock().unwrap().clone()?;
        let wire::BecomeControllerRequest { token, controller } = request.into_inner();
        Ok(Response::new(wire::BecomeControllerResponse { done: vec![token, controller] }))
    }

    async fn stop_tasks(
        &self,
        _: Request<wire::StopTasksRequest>,
    ) -> Result<Response<wire::StopTasksResponse>, Status> {
        Ok(Response::new(wire::StopTasksResponse::default()))
    }

    type ExecStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<wire::ExecOutput, Status>> + Send>>;

    async fn exec(
        &self,
        _: Request<tonic::Streaming<wire::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::NodeImages>, Status> {
        let image =
            wire::Image { reference: String::from("redis:alpine"), ..wire::Image::default() };
        Ok(Response::new(wire::NodeImages { images: vec![image], ..wire::NodeImages::default() }))
    }
}

/// An agent whose services answer, in session with a controller.
async fn serving(host: &Host, identity: &Identity) -> (Agent, FakeAgent) {
    serving_builds(host, identity, None).await
}

/// An agent whose images can be asked for.
pub(crate) async fn serving_images(host: &Host, identity: &Identity, store: FakeStore) -> Agent {
    serving_all(host, identity, (None, Some(store))).await.0
}

/// An agent that may build as well.
pub(crate) async fn serving_builds(
    host: &Host,
    identity: &Identity,
    builds: Option<FakeBuilds>,
) -> (Agent, FakeAgent) {
    serving_all(host, identity, (builds, None)).await
}

async fn serving_all(
    host: &Host,
    identity: &Identity,
    (builds, store): (Option<FakeBuilds>, Option<FakeStore>),
) -> (Agent, FakeAgent) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = Tls::new(&identity.credentials()).unwrap();
    let fake = FakeAgent { registry: Arc::new(Mutex::new(Err(Status::unavailable("down")))) };
    let server = transport::server()
        .add_service(AgentServer::new(fake.clone()))
        .add_optional_service(builds.map(BuildsServer::new))
        .add_optional_service(store.map(ImageStoreServer::new));
    tokio::spawn(server.serve_with_incoming(accept_tls(listener, tls)));
    let mut agent = Agent::with_port(identity, &host.address, port).await;
    agent.welcomed().await;
    eventually("the node is ready", async || {
        agent.heartbeat().await;
        let nodes = host.state().await.nodes;
        let ready = nodes.iter().any(|node| node.status == wire::NodeStatus::Ready as i32);
        if ready { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
    (agent, fake)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_to_become_a_controller() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let (_agent, fake) = serving(&hosts[0], &identity).await;
    let mut control = hosts[0].control().await;
    let mut promote = async |node: &str| {
        let request = wire::PromoteNodeRequest { node: node.to_owned() };
        control.promote_node(request).await.map(|done| done.into_inner().done)
    };
    *fake.registry.lock().unwrap() = Ok(String::new());
    let token = hosts[0].expect(&["token", "controller"]);
    assert_eq!(promote("a1").await.unwrap(), [token.trim(), &hosts[0].address]);
    assert_eq!(promote("1").await.unwrap(), ["it runs a controller already"]);

    let unknown = promote("a9").await.unwrap_err();
    assert!(unknown.message().starts_with("there is no node `a9`\n\nhint: "), "{unknown}");
    *fake.registry.lock().unwrap() = Err(Status::failed_precondition("a1: no room"));
    assert_eq!(promote("a1").await.unwrap_err().message(), "a1: no room");
    *fake.registry.lock().unwrap() = Err(Status::unimplemented(""));
    let old = promote("a1").await.unwrap_err();
    assert!(old.message().contains("hint: upgrade its host, or run `swarmctl host join"), "{old}");
}

fn without_digest(mut stack: wire::StackSpec) -> wire::StackSpec {
    for service in stack.services.values_mut() {
        let image = service.container.as_mut().unwrap().image.as_mut().unwrap();
        image.digest = None;
    }
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_becomes_a_digest_once_per_deploy() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let (_agent, fake) = serving(&hosts[0], &identity).await;
    let mut control = hosts[0].control().await;
    let open = without_digest(stack("web", 1));

    let why = "image docker.io/library/sleep:1: the registry does not know it\n\nhint: check it";
    *fake.registry.lock().unwrap() = Err(Status::not_found(why));
    let refused = control.deploy(deploy("r1", open.clone())).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::NotFound, why));
    assert!(hosts[0].state().await.stacks.is_empty());

    let digest = format!("sha256:{}", "cd".repeat(32));
    *fake.registry.lock().unwrap() = Ok(digest.clone());
    let answer = control.deploy(deploy("r2", open.clone())).await.unwrap().into_inner();
    assert!(answer.changed && answer.warnings.is_empty(), "{answer:?}");
    let service = hosts[0].state().await.services.remove(0).spec.unwrap();
    assert_eq!(service.container.unwrap().image.unwrap().digest, Some(digest));

    *fake.registry.lock().unwrap() = Err(Status::unavailable("connection refused"));
    let answer = control.deploy(deploy("r3", open.clone())).await.unwrap().into_inner();
    assert!(!answer.changed);
    assert!(answer.warnings[0].ends_with("stays: connection refused"), "{answer:?}");

    // An agent that has not heard of this controller yet says nothing of the image.
    let why = "node 1 runs no controller of this cluster";
    *fake.registry.lock().unwrap() = Err(Status::permission_denied(why));
    let answer = control.deploy(deploy("r4", open)).await.unwrap().into_inner();
    assert!(answer.warnings[0].ends_with(why), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_node_gave_stands_for_what_it_gave_it_to() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let (agent, fake) = serving(&hosts[0], &identity).await;
    let control = hosts[0].control().await;
    let open = without_digest(stack("web", 1));
    let name = "docker.io/library/sleep:1";
    let deployed = async || {
        let service = hosts[0].state().await.services.remove(0).spec.unwrap();
        service.container.unwrap().image.unwrap().digest.unwrap()
    };
    let digest = |letters: &str| format!("sha256:{}", letters.repeat(32));

    // A name without a registry's host: the registry's own word does not count.
    *fake.registry.lock().unwrap() = Ok(digest("ab"));
    agent.holds(&digest("cd"), name, true).await;
    let request = AtomicU32::new(0);
    let asked_again = async || {
        let number = request.fetch_add(1, Ordering::Relaxed);
        let mut control = control.clone();
        control.deploy(deploy(&format!("r{number}"), open.clone())).await.unwrap();
        deployed().await
    };
    eventually("the leader hears of it", async || {
        let found = asked_again().await;
        if found == digest("cd") { Ok(()) } else { Err(found) }
    })
    .await;
    // What came from a registry is asked for there again; only when it is gone, a node's image counts.
    agent.holds(&digest("ef"), name, false).await;
    eventually("the leader hears of it", async || {
        let found = asked_again().await;
        if found == digest("ab") { Ok(()) } else { Err(found) }
    })
    .await;
    *fake.registry.lock().unwrap() = Err(Status::not_found("the registry does not know it"));
    let mut control = control.clone();
    let answer = control.deploy(deploy("last", open.clone())).await.unwrap().into_inner();
    assert_eq!(deployed().await, digest("ef"));
    let expected = "no registry gives docker.io/library/sleep:1, so the image is taken that a1 has under this name";
    assert!(answer.warnings[0].starts_with(expected), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_learns_who_else_holds_an_image() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let (agent, _fake) = serving(&hosts[0], &identity).await;
    let digest = format!("sha256:{}", "cd".repeat(32));
    agent.holds(&digest, "docker.io/library/web:1", true).await;
    let own = find_image(&hosts[0], &identity, &digest).await;
    assert!(own.holders.is_empty(), "nobody copies from itself: {own:?}");
    let other = agent_identity(&hosts[0]).await;
    eventually("the leader hears of it", async || {
        let found = find_image(&hosts[0], &other, &digest).await;
        let holders: Vec<&str> = found.holders.iter().map(|one| one.hostname.as_str()).collect();
        if holders == ["a1"] && found.local { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// What a node is told that looks for an image.
async fn find_image(host: &Host, identity: &Identity, digest: &str) -> wire::FindImageResponse {
    let tls = Tls::new(&identity.credentials()).unwrap();
    let channel = tls.connect(&host.address, transport::CONTROLLER_NAME).await.unwrap();
    let request = wire::FindImageRequest {
        request_id: transport::random_hex::<16>().unwrap(),
        reference: String::from("docker.io/library/web:1"),
        digest: digest.to_owned(),
        asker: 77,
    };
    ImageIndexClient::new(channel).find_image(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_is_to_fetch_and_those_that_ask_later_are_sent_to_it() {
    let hosts = cluster(1).await;
    let first = agent_identity(&hosts[0]).await;
    let (agent, _fake) = serving(&hosts[0], &first).await;
    let other = agent_identity(&hosts[0]).await;
    let digest = format!("sha256:{}", "cd".repeat(32));
    let names = |found: &wire::FindImageResponse| {
        found.holders.iter().map(|one| one.hostname.clone()).collect::<Vec<_>>()
    };
    // Whoever asks first goes to the registry, also when it asks again.
    for _ in 0..2 {
        let found = find_image(&hosts[0], &first, &digest).await;
        assert!(names(&found).is_empty() && found.digest.is_empty(), "{found:?}");
        let later = find_image(&hosts[0], &other, &digest).await;
        assert_eq!(names(&later), ["a1"], "{later:?}");
        assert!(later.digest.is_empty(), "nobody holds it yet: {later:?}");
    }
    let foreign = format!("sha256:{}", "ab".repeat(32));
    assert!(names(&find_image(&hosts[0], &other, &foreign).await).is_empty());
    // Once it holds the image it is named as one that does, and once.
    agent.holds(&digest, "docker.io/library/web:1", false).await;
    eventually("the leader hears of it", async || {
        let found = find_image(&hosts[0], &other, &digest).await;
        let holds = found.digest == digest && names(&found) == ["a1"];
        if holds { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_images_and_inspections_come_from_the_nodes() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let (mut agent, _fake) = serving(&hosts[0], &identity).await;
    let mut control = hosts[0].control().await;
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let task = loop {
        let tasks = agent.assigned().await.diff.unwrap_or_default().tasks;
        if let Some(task) = tasks.into_iter().next() {
            break task;
        }
    };
    agent.report(&task.id, TaskState::Running).await;

    let ask = |target: &str, follow| wire::LogsRequest {
        target: target.to_owned(),
        follow,
        tail: -1,
        since: 0,
    };
    for target in ["web_sleep", "web_sleep.1", task.id.as_str()] {
        let mut lines = control.logs(ask(target, false)).await.unwrap().into_inner();
        let line = lines.message().await.unwrap().unwrap();
        assert_eq!((line.task_name.as_str(), line.node.as_str()), ("web_sleep.1", "a1"));
        assert_eq!((line.stream.as_str(), line.line.as_slice()), ("stdout", b"hello".as_slice()));
        assert!(lines.message().await.unwrap().is_none(), "{target}");
    }
    let refused = control.logs(ask("nothing", false)).await.unwrap_err();
    assert_eq!(refused.message().lines().next(), Some("there is no service or task `nothing`"));

    // Who follows hears of tasks that come later.
    let mut lines = control.logs(ask("web_sleep", true)).await.unwrap().into_inner();
    assert_eq!(lines.message().await.unwrap().unwrap().task_name, "web_sleep.1");
    control.scale_service(crate::host::scale("r2", "web", 2)).await.unwrap();
    assert_eq!(lines.message().await.unwrap().unwrap().task_name, "web_sleep.2");

    let images = control.list_images(wire::ListImagesRequest {}).await.unwrap().into_inner();
    let of_agent = images.nodes.iter().find(|node| node.node == "a1").unwrap();
    assert_eq!(of_agent.images[0].reference, "redis:alpine");
    let of_controller = images.nodes.iter().find(|node| node.node != "a1").unwrap();
    assert!(of_controller.error.contains("has not reported yet"), "{of_controller:?}");

    let asked = control.inspect_hosts(wire::InspectHostsRequest {}).await.unwrap().into_inner();
    let of_agent = asked.hosts.iter().find(|host| host.hostname == "a1").unwrap();
    assert_eq!((of_agent.networks.as_slice(), of_agent.error.as_str()), ([7].as_slice(), ""));
    let of_controller = asked.hosts.iter().find(|host| host.hostname != "a1").unwrap();
    assert!(of_controller.error.contains("has not reported yet"), "{of_controller:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_name_the_node_that_does_not_answer() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    // Nothing listens at port 1.
    let mut agent = Agent::with_port(&identity, &hosts[0].address, 1).await;
    agent.welcomed().await;
    let mut control = hosts[0].control().await;
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    while agent.assigned().await.diff.unwrap_or_default().tasks.is_empty() {}
    let ask = wire::LogsRequest { target: String::from("web_sleep"), ..Default::default() };
    let mut lines = control.logs(ask).await.unwrap().into_inner();
    let notice = lines.message().await.unwrap().unwrap();
    assert_eq!(notice.stream, "notice");
    let text = String::from_utf8(notice.line).unwrap();
    assert!(text.starts_with("no logs from node a1: agent of node a1: cannot reach"), "{text}");
}
