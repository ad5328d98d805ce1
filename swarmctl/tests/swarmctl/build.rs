//! `swarmctl build` against a node that says what it was given.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use swarm_proto::build::PART;
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::fake::{Fake, Lines, Script};
use crate::objects::state;

/// Plays a node: it writes down what came. A Dockerfile with `fails` fails, one with `waits` is never done.
pub(crate) fn node(
    script: Arc<Script>,
    mut inputs: Streaming<wire::BuildInput>,
) -> Lines<wire::BuildOutput> {
    let (sender, outputs) = mpsc::channel(64);
    tokio::spawn(async move {
        let say = async |output| {
            let _ = sender.send(Ok(wire::BuildOutput { output: Some(output) })).await;
        };
        let mut context = Vec::new();
        let mut text = String::new();
        while let Ok(Some(message)) = inputs.message().await {
            match message.input.unwrap() {
                Input::Start(start) => {
                    text.clone_from(&start.dockerfile);
                    script.seen.lock().unwrap().push(format!("{start:?}"));
                    say(Output::Started(wire::BuildStarted { node: "n1".to_owned() })).await;
                }
                Input::Context(part) => {
                    assert!(part.len() <= PART);
                    context.extend(part);
                }
                Input::EndOfContext(_) => {
                    let mut archive = tar::Archive::new(context.as_slice());
                    let entries = archive.entries().unwrap();
                    let names =
                        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string());
                    script.seen.lock().unwrap().push(names.collect::<Vec<_>>().join(" "));
                    if text.contains("fails") {
                        let why = "step 1 (`RUN fails`) ended with 3\n\nhint: see what it wrote";
                        let _ = sender.send(Err(Status::failed_precondition(why))).await;
                        return;
                    }
                    let stage = "0".to_owned();
                    let text = "RUN true".to_owned();
                    say(Output::Begun(wire::BuildStepBegun { step: 1, stage, text })).await;
                    let line = b"\x1b[1mhello\x1b[0m".to_vec();
                    say(Output::Line(wire::BuildStepOutput { step: 1, is_error: false, line }))
                        .await;
                    if script.seen.lock().unwrap()[0].contains("waits") {
                        continue;
                    }
                    say(Output::Ended(wire::BuildStepEnded { step: 1, cached: false })).await;
                    let digest = format!("sha256:{}", "ab".repeat(32));
                    say(Output::Done(wire::BuildDone { digest, size: 42 })).await;
                }
            }
        }
        script.seen.lock().unwrap().push("gone".to_owned());
    });
    Box::pin(ReceiverStream::new(outputs))
}

/// A folder `app` beside the socket.
async fn with_app(dockerfile: &str) -> Fake {
    let fake = Fake::start(state()).await;
    let app = fake.folder.path().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(app.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(app.join("main.txt"), "x".repeat(200_000)).unwrap();
    std::fs::write(app.join("left.log"), "x").unwrap();
    std::fs::write(app.join(".dockerignore"), "*.log\nkey\n").unwrap();
    std::fs::write(app.join("key"), "sesame").unwrap();
    fake
}

#[tokio::test]
async fn a_folder_becomes_an_image_on_a_node() {
    let fake =
        with_app("FROM busybox\nARG A\nCOPY . /x\nRUN --mount=type=secret,id=key,required true\n")
            .await;
    let said = fake.run(&[
        "build",
        "-t",
        "registry.example/app:1",
        "--build-arg",
        "A=b",
        "--secret",
        "id=key,src=app/key",
        "--node",
        "n1",
        "app",
    ]);
    let said = said.await.transcript();
    let digest = "ab".repeat(32);
    assert!(said.starts_with(&format!("sha256:{digest}\n---\n")), "{said}");
    assert!(said.ends_with("---\nexit code 0\n"), "{said}");
    for line in ["building on n1", "#1 [0] RUN true", "#1 [1mhello[0m", "#1 done"] {
        assert!(said.lines().any(|said| said == line), "no `{line}` in {said}");
    }
    let seen = fake.script.seen.lock().unwrap().clone();
    for part in ["registry.example/app:1", "\"A\": \"b\"", "id: \"key\"", "node: \"n1\""] {
        assert!(seen[0].contains(part), "no `{part}` in {}", seen[0]);
    }
    assert!(!seen[0].contains("115, 101, 115"), "the secret shows: {}", seen[0]);
    assert_eq!(seen[1], ".dockerignore Dockerfile main.txt");
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_sent() {
    let fake = with_app("FROM busybox\nRUNN true\nCOPY --from=later / /\nRUN --mount=type=secret,id=key,required x\n").await;
    let said = fake.run(&["build", "app"]).await.transcript();
    for part in ["line 2: ", "do you mean `RUN`?", "---\nexit code 1\n"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let missing = with_app("FROM busybox\nRUN --mount=type=secret,id=key,required x\n").await;
    let said = missing.run(&["build", "app"]).await.transcript();
    assert!(said.contains("needs the secret `key`"), "{said}");
    let said = missing.run(&["build", "--target", "x", "app"]).await.transcript();
    assert!(said.contains("has no stage `x`"), "{said}");
    let said = missing.run(&["build", "nowhere"]).await.transcript();
    assert!(said.contains("cannot open the context `nowhere`"), "{said}");
    for arguments in [
        ["build", "-t", "UPPER", "app"].as_slice(),
        &["build", "--secret", "key", "app"],
        &["build", "--secret", "id=key,src=app/key", "--secret", "id=key,src=app/key", "app"],
        &["build", "https://example.org/x.git"],
        &["build", "app/Dockerfile"],
    ] {
        assert_eq!(fake.run(arguments).await.code, Some(2), "{arguments:?}");
    }
    assert!(fake.script.seen.lock().unwrap().is_empty());
    assert!(missing.script.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_check_needs_no_cluster() {
    let fake = with_app("FROM busybox AS tools\nFROM tools\nCOPY . /x\nRUN echo $UNSET\n").await;
    let said = crate::program::swarmctl(
        fake.folder.path(),
        &["build", "--check", "--build-arg", "B=1", "app"],
    );
    let said = { said }.output().await.unwrap();
    let words = crate::program::Said::of(said, fake.folder.path()).transcript();
    for part in ["`app/Dockerfile` can be built", "stage 1 from stage tools", "`B`", "exit code 0"]
    {
        assert!(words.contains(part), "no `{part}` in {words}");
    }
}

#[tokio::test]
async fn a_build_that_fails_says_why() {
    let fake = with_app("FROM busybox\nRUN fails\n").await;
    let said = fake.run(&["build", "app"]).await.transcript();
    for part in ["(`RUN fails`) ended with 3", "see what it wrote", "exit code 1"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[tokio::test]
async fn an_interrupt_gives_the_build_up() {
    let fake = with_app("FROM busybox\nRUN waits\n").await;
    let mut child = fake.command(&["build", "app"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = child.stderr.take().unwrap();
    let mut said = String::new();
    while !said.contains("hello") {
        let mut bytes = [0; 256];
        let length = talk.read(&mut bytes).await.unwrap();
        assert!(length > 0, "it ended early: {said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
    assert!(!child.wait().await.unwrap().success());
    let gone = async {
        while fake.script.seen.lock().unwrap().last().unwrap() != "gone" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn a_deploy_builds_what_no_node_has_before_it_sends_anything_else() {
    let fake = with_app("FROM busybox\nRUN true\n").await;
    let file = fake.folder.path().join("stack.yml");
    let text = "services: {web: {build: app}, tool: {build: {dockerfile_inline: FROM scratch}}}";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let said = fake.run(&["deploy", "-f", file, "--name", "shop", "--detach"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.talk.contains("building the image of service `web`"), "{said:?}");
    let seen = fake.script.seen.lock().unwrap().clone();
    let at = |word: &str| seen.iter().position(|line| line.contains(word));
    let deployed = at("deploy").unwrap_or_else(|| panic!("nothing was deployed: {seen:#?}"));
    for name in ["docker.io/library/shop_web:latest", "docker.io/library/shop_tool:latest"] {
        assert!(at(name).is_some_and(|built| built < deployed), "{name}: {seen:#?}");
    }

    // Whatever is wrong with one Dockerfile is said before the other is built, and nothing is deployed.
    std::fs::write(fake.folder.path().join("app/Dockerfile"), "FROM busybox\nRNU true\n").unwrap();
    fake.script.seen.lock().unwrap().clear();
    let said = fake.run(&["deploy", "-f", file, "--name", "shop", "--detach"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.talk.contains("do you mean `RUN`?"), "{said:?}");
    // A plan builds nothing.
    std::fs::write(fake.folder.path().join("app/Dockerfile"), "FROM busybox\n").unwrap();
    let said = fake.run(&["plan", "-f", file, "--name", "shop"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.talk.contains("is not built yet"), "{said:?}");
    let seen = fake.script.seen.lock().unwrap();
    assert!(!seen.iter().any(|line| line.starts_with("deploy")), "{seen:#?}");
}
