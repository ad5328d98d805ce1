//! Builds as a controller asks for them, and tasks that run what came of it.

use std::fs;
use std::path::Path;

use futures_util::StreamExt as _;
use swarm_proto::assignment::AssignmentDiff;
use swarm_proto::object::TaskState;
use swarm_proto::transport::AGENT_NAME;
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use swarm_proto::wire::builds_client::BuildsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::builder::archive;
use crate::host::{ADDRESS, Host, PORT, eventually, on_a_host};

async fn begin(
    host: &Host,
    dockerfile: &str,
) -> (mpsc::Sender<wire::BuildInput>, Streaming<wire::BuildOutput>) {
    let greeted = |seen: &crate::controller::Seen| (!seen.hellos.is_empty()).then_some(());
    host.controller.until("a hello", greeted).await;
    let channel = host.controller.tls.connect(&format!("{ADDRESS}:{PORT}"), AGENT_NAME).await;
    let (sender, inputs) = mpsc::channel(8);
    let start = wire::BuildStart {
        dockerfile: dockerfile.to_owned(),
        file: "Dockerfile".to_owned(),
        names: vec!["made:1".to_owned()],
        ..wire::BuildStart::default()
    };
    say(&sender, Input::Start(start)).await;
    let outputs = BuildsClient::new(channel.unwrap()).build(ReceiverStream::new(inputs)).await;
    (sender, outputs.unwrap().into_inner())
}

async fn say(to: &mpsc::Sender<wire::BuildInput>, input: Input) {
    let _ = to.send(wire::BuildInput { input: Some(input) }).await;
}

async fn send_context(to: &mpsc::Sender<wire::BuildInput>, files: &[(&str, &str)]) {
    for part in archive(files).chunks(700) {
        say(to, Input::Context(part.to_vec())).await;
    }
    say(to, Input::EndOfContext(true)).await;
}

/// What a build tells until its end, or its failure.
async fn told(outputs: &mut Streaming<wire::BuildOutput>) -> Result<(Vec<String>, String), Status> {
    let mut lines = Vec::new();
    while let Some(message) = outputs.next().await {
        match message?.output.unwrap() {
            Output::Line(line) => lines.push(String::from_utf8(line.line).unwrap()),
            Output::Done(done) => return Ok((lines, done.digest)),
            _ => {}
        }
    }
    panic!("a build ended without a word");
}

fn left(host: &Host) -> usize {
    let agent = host.folder.path().join("state/agent/build/work");
    let parent = format!("{}-build", host.cgroup_parent);
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let groups = roots.filter(|root| root.join(&parent).exists()).count();
    groups + fs::read_dir(Path::new(&agent)).map_or(0, Iterator::count)
}

#[test]
fn what_a_controller_has_built_runs_on_this_node() {
    on_a_host(async |host| {
        let text = "FROM busybox:1\nCOPY word /word\nRUN cat /word && echo built > /made\nCMD [\"cat\", \"/made\"]\n";
        let (input, mut outputs) = begin(&host, text).await;
        send_context(&input, &[("word", "spoken")]).await;
        let (lines, digest) = told(&mut outputs).await.unwrap();
        assert_eq!(lines, ["spoken"]);
        let mut task = host.task("1.1.1", "");
        task.container.image.reference = "docker.io/library/made:1".into();
        task.container.image.digest = Some(digest.parse().unwrap());
        task.container.command =
            Some(["sh", "-c", "cat /made; sleep 1000"].map(Into::into).to_vec());
        let tasks = vec![task.clone()];
        host.controller.assign(AssignmentDiff { tasks, ..AssignmentDiff::default() }).await;
        host.controller.comes_to(task.id, TaskState::Running).await;
        eventually("its output", || {
            let log = host.containers().join("1.1.1/1/container.log");
            fs::read_to_string(log).is_ok_and(|log| log.contains("built"))
        })
        .await;
        let gone = AssignmentDiff { removed_tasks: vec![task.id], ..AssignmentDiff::default() };
        host.controller.assign(gone).await;
        host.controller.is_gone(task.id).await;
        assert_eq!((host.rests(), left(&host)), (Vec::new(), 0));
    });
}

#[test]
fn a_client_that_goes_away_takes_its_build_with_it() {
    on_a_host(async |mut host| {
        // Amid its files.
        let (input, outputs) = begin(&host, "FROM busybox:1\nCOPY a /a\n").await;
        say(&input, Input::Context(archive(&[("a", "A")])[..100].to_vec())).await;
        drop(input);
        let mut outputs = outputs;
        let failure = told(&mut outputs).await.unwrap_err();
        assert!(failure.message().contains("ended early"), "{failure}");
        eventually("an unfinished context to go", || left(&host) == 0).await;
        // Amid a program.
        let text = "FROM busybox:1\nRUN --mount=type=bind,from=busybox:1,target=/b,rw echo begun; sleep 1000\n";
        let (input, mut outputs) = begin(&host, text).await;
        send_context(&input, &[]).await;
        wait_for_line(&mut outputs, "begun").await;
        assert!(left(&host) > 0);
        drop((input, outputs));
        eventually("a build that nobody wants to go", || left(&host) == 0).await;
        // With the agent.
        let (input, mut outputs) = begin(&host, text).await;
        send_context(&input, &[]).await;
        wait_for_line(&mut outputs, "begun").await;
        host.kill_agent();
        assert!(left(&host) > 0);
        host.start_agent();
        let mounted = || {
            let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            mounts.lines().filter(|line| line.contains("/build/work/")).count()
        };
        // Its cgroups go after its files.
        let is_gone = || left(&host) == 0 && mounted() == 0;
        eventually("a build of an earlier agent to go", is_gone).await;
        assert_eq!(host.rests(), [""; 0]);
    });
}

async fn wait_for_line(outputs: &mut Streaming<wire::BuildOutput>, wanted: &str) {
    loop {
        let message = outputs.next().await.unwrap().unwrap();
        if let Some(Output::Line(line)) = message.output
            && line.line == wanted.as_bytes()
        {
            return;
        }
    }
}
