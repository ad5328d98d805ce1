//! Builds of images, carried between a person and an agent that pretends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use swarm_proto::wire::builds_server::Builds;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::agent::agent_identity;
use crate::asking::serving_builds;
use crate::host::{Host, cluster};

/// Counts the context's bytes; it fails when the Dockerfile says so. It says when its client is gone.
#[derive(Clone, Default)]
pub(crate) struct FakeBuilds {
    seen: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Builds for FakeBuilds {
    type BuildStream = ReceiverStream<Result<wire::BuildOutput, Status>>;

    async fn build(
        &self,
        request: Request<Streaming<wire::BuildInput>>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        let mut inputs = request.into_inner();
        let (sender, outputs) = mpsc::channel(4);
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            let mut bytes = 0;
            while let Ok(Some(message)) = inputs.message().await {
                match message.input.unwrap() {
                    Input::Start(start) => {
                        seen.lock().unwrap().push(format!("{start:?}"));
                        if start.dockerfile == "fails" {
                            let why = Status::failed_precondition("it failed\n\nhint: so it is");
                            sender.send(Err(why)).await.unwrap();
                            return;
                        }
                    }
                    Input::Context(part) => bytes += part.len() as u64,
                    Input::EndOfContext(_) => {
                        let done = wire::BuildDone { digest: "sha256:00".to_owned(), size: bytes };
                        let output = Some(Output::Done(done));
                        sender.send(Ok(wire::BuildOutput { output })).await.unwrap();
                    }
                }
            }
            seen.lock().unwrap().push("gone".to_owned());
        });
        Ok(Response::new(ReceiverStream::new(outputs)))
    }
}

type Outputs = Streaming<wire::BuildOutput>;

async fn begin(
    host: &Host,
    dockerfile: &str,
    node: &str,
) -> (mpsc::Sender<wire::BuildInput>, Outputs) {
    let (sender, inputs) = mpsc::channel(4);
    let mut control = host.control().await;
    let outputs = control.build(ReceiverStream::new(inputs)).await.unwrap().into_inner();
    let start = wire::BuildStart {
        dockerfile: dockerfile.to_owned(),
        names: vec!["app:1".to_owned()],
        node: node.to_owned(),
        build_args: [("A".to_owned(), "of the log".to_owned())].into(),
        secrets: vec![wire::BuildSecret { id: "key".to_owned(), data: b"sesame".to_vec() }],
        ..wire::BuildStart::default()
    };
    sender.send(wire::BuildInput { input: Some(Input::Start(start)) }).await.unwrap();
    (sender, outputs)
}

async fn next(outputs: &mut Outputs) -> Result<Output, Status> {
    let message = timeout(Duration::from_secs(20), outputs.message()).await.unwrap()?;
    Ok(message.unwrap().output.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_carried_to_a_node_that_takes_tasks() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let fake = FakeBuilds::default();
    let (_agent, _) = serving_builds(&hosts[0], &identity, Some(fake.clone())).await;
    let (sender, mut outputs) = begin(&hosts[0], "FROM x", "").await;
    let started = next(&mut outputs).await.unwrap();
    assert_eq!(started, Output::Started(wire::BuildStarted { node: "a1".to_owned() }));
    // More than all that may be on its way.
    for _ in 0..100 {
        let input = Some(Input::Context(vec![0; 64 << 10]));
        sender.send(wire::BuildInput { input }).await.unwrap();
    }
    sender.send(wire::BuildInput { input: Some(Input::EndOfContext(true)) }).await.unwrap();
    let Output::Done(done) = next(&mut outputs).await.unwrap() else { panic!("it is not done") };
    assert_eq!(done.size, 100 * (64 << 10));
    let start = fake.seen.lock().unwrap()[0].clone();
    assert!(
        start.contains("app:1") && start.contains("key") && !start.contains("115, 101"),
        "{start}"
    );
    let log = std::fs::read_to_string(hosts[0].dir.path().join("log")).unwrap();
    assert!(log.contains(r#"call="Build" object="app:1 on a1" outcome="done""#), "{log}");
    assert!(!log.contains("sesame") && !log.contains("of the log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_with_its_client_and_fails_as_the_agent_says() {
    let hosts = cluster(1).await;
    let identity = agent_identity(&hosts[0]).await;
    let fake = FakeBuilds::default();
    let (_agent, _) = serving_builds(&hosts[0], &identity, Some(fake.clone())).await;
    let (sender, mut outputs) = begin(&hosts[0], "FROM x", "a1").await;
    next(&mut outputs).await.unwrap();
    drop((sender, outputs));
    let gone = async {
        while fake.seen.lock().unwrap().last().is_none_or(|last| last != "gone") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();

    let (_sender, mut outputs) = begin(&hosts[0], "fails", "a1").await;
    next(&mut outputs).await.unwrap();
    let failed = next(&mut outputs).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::FailedPrecondition, "it failed\n\nhint: so it is")
    );

    let (_sender, mut outputs) = begin(&hosts[0], "FROM x", "nobody").await;
    let refused = next(&mut outputs).await.unwrap_err();
    assert!(refused.message().starts_with("there is no node `nobody`\n\nhint: "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_build_is_named() {
    let hosts = cluster(1).await;
    let (_sender, mut outputs) = begin(&hosts[0], "FROM x", "").await;
    let refused = next(&mut outputs).await.unwrap_err();
    assert!(refused.message().starts_with("no node is ready to build an image"), "{refused}");
    let identity = agent_identity(&hosts[0]).await;
    let (_agent, _) = serving_builds(&hosts[0], &identity, None).await;
    let (_sender, mut outputs) = begin(&hosts[0], "FROM x", "").await;
    let refused = next(&mut outputs).await.unwrap_err();
    assert!(refused.message().starts_with("the agent of node a1 is too old to build"), "{refused}");
}
