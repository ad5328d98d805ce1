//! The other commands, and what is said when they cannot be done.

use expect_test::expect;
use swarm_proto::wire;

use crate::fake::Fake;
use crate::objects::{NOW, state};
use crate::program::{Said, swarmctl};

async fn alone(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = swarmctl(folder.path(), arguments).output().await.unwrap();
    Said::of(output, folder.path()).transcript()
}

#[tokio::test]
async fn without_a_controller() {
    expect![[r#"
        ---
        error: no controller can be reached: cannot reach the socket `/nowhere.sock`: it does not exist

        hint: run swarmctl on a controller's host, name one with `--host ADDRESS --identity FILE`, or start a lab with `swarmctl lab up`
        ---
        exit code 1
    "#]].assert_eq(&alone(&["--host", "unix:///nowhere.sock", "ps"]).await);
    expect![[r#"
        ---
        error: no controller can be reached:
          cannot reach the socket `/a`: it does not exist
          cannot reach the socket `/b`: it does not exist

        hint: run swarmctl on a controller's host, name one with `--host ADDRESS --identity FILE`, or start a lab with `swarmctl lab up`
        ---
        exit code 1
    "#]].assert_eq(&alone(&["--host", "unix:///a,unix:///b", "node", "ls"]).await);
    expect![[r#"
        {
          "client": "0.1.0",
          "server": null
        }
        ---
        error: no controller can be reached: cannot reach the socket `/nowhere.sock`: it does not exist

        hint: run swarmctl on a controller's host, name one with `--host ADDRESS --identity FILE`, or start a lab with `swarmctl lab up`
        ---
        exit code 1
    "#]]
        .assert_eq(&alone(&["--host", "unix:///nowhere.sock", "version", "-o", "json"]).await);
}

#[tokio::test]
async fn without_an_identity() {
    expect![[r#"
        ---
        error: controller `127.0.0.1:1` wants a client certificate, and there is none

        hint: run `swarm-controller admin-bundle` on a controller's host, copy its output here, and give it with `--identity FILE`
        ---
        exit code 1
    "#]].assert_eq(&alone(&["--host", "127.0.0.1:1", "ps"]).await);
    expect![[r#"
        ---
        error: cannot read the identity `none.pem`: No such file or directory (os error 2)

        hint: make a new one with `swarm-controller admin-bundle` on a controller's host
        ---
        exit code 1
    "#]]
    .assert_eq(&alone(&["--host", "127.0.0.1:1", "--identity", "none.pem", "ps"]).await);
}

#[tokio::test]
async fn wrong_usage() {
    expect![[r#"
        ---
        error: `a:b:c` is not the address of a controller

        hint: write `unix:///PATH`, `ADDRESS` or `ADDRESS:PORT`
        ---
        exit code 2
    "#]]
    .assert_eq(&alone(&["--host", "a:b:c", "ps"]).await);
    expect![[r#"
        ---
        error: context `home` does not exist

        hint: there is no context yet; `swarmctl lab up` makes one, or use `--host`
        ---
        exit code 2
    "#]]
    .assert_eq(&alone(&["--context", "home", "ps"]).await);
    expect![[r#"
        ---
        error: `My Stack` cannot be a stack's name

        hint: use lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit
        ---
        exit code 2
    "#]]
    .assert_eq(&alone(&["deploy", "-f", "x", "--name", "My Stack"]).await);
    expect![[r#"
        ---
        error: invalid value 'web' for '<SERVICES>...': write `<stack>_<service>=<replicas>`, such as `shop_web=3`

        For more information, try '--help'.
        ---
        exit code 2
    "#]].assert_eq(&alone(&["service", "scale", "web"]).await);
    expect![[r#"
        ---
        error: `/here` has no compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml, nor has a folder above it

        hint: name the stack file with `-f FILE`
        ---
        exit code 1
    "#]].assert_eq(&alone(&["deploy"]).await);
}

#[tokio::test]
async fn contexts_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        let output = swarmctl(folder.path(), arguments).output().await.unwrap();
        Said::of(output, folder.path())
    };
    assert_eq!(
        run(&["context", "set", "home", "10.0.0.1", "--identity", "a.pem"]).await.code,
        Some(0)
    );
    assert_eq!(run(&["context", "use", "home"]).await.code, Some(0));
    expect![[r#"
        [
          {
            "name": "home",
            "current": true,
            "hosts": [
              "10.0.0.1"
            ],
            "identity": "/here/a.pem"
          }
        ]
    "#]]
    .assert_eq(&run(&["context", "ls", "-o", "json"]).await.data);
    expect![[r#"
        ---
        error: cannot read the identity `/here/a.pem`: No such file or directory (os error 2)

        hint: make a new one with `swarm-controller admin-bundle` on a controller's host
        ---
        exit code 1
    "#]]
    .assert_eq(&run(&["ps"]).await.transcript());
    assert_eq!(run(&["context", "rm", "home"]).await.code, Some(0));
    assert_eq!(run(&["context", "ls", "-o", "name"]).await.data, "");
    std::fs::write(folder.path().join(".config/swarm/contexts.toml"), "curent = 1\n").unwrap();
    expect![[r#"
        ---
        error: `/here/.config/swarm/contexts.toml` is not valid: TOML parse error at line 1, column 1
          |
        1 | curent = 1
          | ^^^^^^
        unknown field `curent`, expected `current` or `contexts`

        hint: correct the file, or remove it and make the contexts anew
        ---
        exit code 1
    "#]].assert_eq(&run(&["ps"]).await.transcript());
}

#[tokio::test]
async fn names_that_do_not_exist() {
    let fake = Fake::start(state()).await;
    expect![[r#"
        ---
        error: no stack, service, task or node is called `conter`

        hint: did you mean `counter`?
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["ps", "conter"]).await.transcript());
    expect![[r#"
        ---
        error: stack `zzz` does not exist

        hint: see `swarmctl stack ls`
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["stack", "ps", "zzz"]).await.transcript());
    expect![[r#"
        ---
        error: service `counter_wbe` does not exist

        hint: did you mean `counter_web`?
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["service", "ps", "counter_wbe"]).await.transcript());
    expect![[r#"
        ---
        error: node `n9` does not exist

        hint: did you mean `n1`?
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["node", "inspect", "n9"]).await.transcript());
    expect![[r#"
        ---
        error: volume `x` does not exist

        hint: see `swarmctl volume ls`
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["volume", "inspect", "x"]).await.transcript());
}

#[tokio::test]
async fn tasks_of_a_target() {
    let fake = Fake::start(state()).await;
    let names = async |target: &str| fake.run(&["ps", "-o", "name", target]).await.data;
    assert_eq!(names("counter_redis").await, "counter_redis.1\n");
    assert_eq!(names("n1").await, "counter_redis.1\ncounter_web.1\n");
    assert_eq!(names("counter_web.2").await, "counter_web.2\n");
    assert_eq!(names("1.2.1").await, "counter_web.2\n");
    assert_eq!(names("counter").await.lines().count(), 4);
}

#[tokio::test]
async fn a_service_is_created_as_a_stack_of_its_name() {
    let fake = Fake::start(state()).await;
    let create = ["service", "create", "-d", "--name", "one", "-e", "A=1", "busybox", "sleep", "1"];
    let said = fake.run(&create).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(fake.script.seen.lock().unwrap()[0].starts_with("deploy one "));
    let taken = fake.run(&["service", "create", "--name", "counter", "busybox"]).await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.talk.contains("stack `counter` exists already"), "{taken:?}");
}

#[tokio::test]
async fn writes_say_what_they_did() {
    let commands: [&[&str]; 10] = [
        &["node", "drain", "n1", "n2"],
        &["node", "activate", "n1"],
        &["node", "pause", "n1"],
        &["node", "lost", "n3"],
        &["node", "lost", "--all"],
        &["node", "label", "n1", "zone=b", "old-"],
        &["node", "rm", "--force", "n3"],
        &["volume", "rm", "counter_data"],
        &["service", "scale", "--detach", "counter_web=5", "counter_redis=1"],
        &["stack", "rm", "--detach", "counter"],
    ];
    let transcript = transcript(&commands).await;
    expect![[r#"
        node `n1` is being drained
        node `n2` is being drained
        node `n1` takes tasks
        node `n1` takes no new tasks
        node `n3` is given up: its tasks are replaced
        node `n3` is given up: its tasks are replaced
        node `n1` is labelled
        node `n3` is removed
        volume `counter_data` is removed
        service `counter_web` scaled from 1 to 5
        service `counter_redis` has 1 replicas already
        stack `counter` is being removed
        ---
        update node n1 Drain [] []
        update node n2 Drain [] []
        update node n1 Active [] []
        update node n1 Pause [] []
        lost node n3
        lost node n3
        update node n1 Unspecified ["zone=b"] ["old"]
        remove node n3 true
        remove volume counter_data false
        scale counter_web 5
        scale counter_redis 1
        remove stack counter"#]]
    .assert_eq(&transcript);
}

/// What commands say, and what is asked of the controllers for them.
async fn transcript(commands: &[&[&str]]) -> String {
    let fake = Fake::start(state()).await;
    let mut transcript = String::new();
    for command in commands {
        let said = fake.run(command).await;
        assert_eq!((said.code, said.data.as_str()), (Some(0), ""), "{said:?}");
        transcript.push_str(&said.talk);
    }
    transcript.push_str("---\n");
    transcript.push_str(&fake.script.seen.lock().unwrap().join("\n"));
    transcript
}

#[tokio::test]
async fn writes_of_services_say_what_they_did() {
    let commands: [&[&str]; 12] = [
        &["job", "run", "--detach", "counter_web"],
        &["job", "stop", "counter_web"],
        &["job", "stop", "counter_web", "--run", "3"],
        &["run", "--detach", "counter_web", "sh", "-c", "exit 3"],
        &["service", "update", "-d", "counter_web", "--image", "web:2", "--update-delay", "2s"],
        &["service", "update", "-d", "counter_web", "--force"],
        &["service", "update", "-d", "counter_web", "--rollback"],
        &["service", "rollback", "-d", "counter_web"],
        &["service", "pause", "counter_web"],
        &["service", "resume", "-d", "counter_web"],
        &["promote", "-d", "counter_web"],
        &["service", "rm", "counter_web"],
    ];
    expect![[r#"
        run 7 of `counter_web` begun
        job `counter_web` stopped
        run 3 of `counter_web` stopped
        run 8 of `counter_web` begun
        service updated
        service updated
        service rolled back
        service rolled back
        the update of service `counter_web` is paused
        the update of service `counter_web` goes on
        the update of service `counter_web` goes on
        service `counter_web` is being removed
        ---
        run job counter_web
        stop runs counter_web None
        stop runs counter_web Some(3)
        run one-off counter_web ["sh", "-c", "exit 3"]
        update service counter_web ["image", "update-delay"] force false
        update service counter_web [] force true
        roll back service counter_web
        roll back service counter_web
        pause service counter_web
        resume service counter_web
        promote service counter_web
        remove service counter_web"#]]
    .assert_eq(&transcript(&commands).await);
}

#[tokio::test]
async fn lines_of_containers() {
    let fake = Fake::start(state()).await;
    let line = |task: u32, stream: &str, line: &str| wire::LogLine {
        task_id: format!("1.{task}.1"),
        task_name: format!("counter_web.{task}"),
        node: "n1".to_owned(),
        time: NOW.0 * 1_000_000 + u64::from(task),
        stream: stream.to_owned(),
        line: line.as_bytes().to_vec(),
    };
    let lines = [
        line(1, "stdout", "hello"),
        line(2, "stderr", "oh\n"),
        line(0, "notice", "node n3 is down"),
    ];
    fake.script.logs.lock().unwrap().extend(lines);
    expect![[r#"
        counter_web.1@n1 | hello
        counter_web.2@n1 | oh
        ---
        note: node n3 is down
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["logs", "counter_web"]).await.transcript());
    expect![[r#"
        2023-11-14T22:13:20.000000001Z hello
        2023-11-14T22:13:20.000000002Z oh
    "#]]
    .assert_eq(&fake.run(&["logs", "-t", "--raw", "-n", "5", "counter_web"]).await.data);
    expect![[r#"
        {"task":"counter_web.1","task_id":"1.1.1","node":"n1","time":"2023-11-14T22:13:20.000000001Z","stream":"stdout","line":"hello"}
        {"task":"counter_web.2","task_id":"1.2.1","node":"n1","time":"2023-11-14T22:13:20.000000002Z","stream":"stderr","line":"oh\n"}
    "#]].assert_eq(&fake.run(&["logs", "-o", "json", "counter_web"]).await.data);
    expect![[r#"
        ---
        error: invalid value 'many' for '--tail <TAIL>': write a number of lines, or `all`

        For more information, try '--help'.
        ---
        exit code 2
    "#]]
    .assert_eq(&fake.run(&["logs", "--tail", "many", "counter_web"]).await.transcript());
    assert_eq!(fake.script.seen.lock().unwrap()[1], "logs counter_web 5 0");
}

#[tokio::test]
async fn versions_images_and_stale_answers() {
    let fake = Fake::start(state()).await;
    expect![[r#"
        swarmctl     0.1.0
        controller   0.1.0 on n1, the leader is 10.9.0.2:2377
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["version"]).await.transcript());
    expect![[r#"
        IMAGE   DIGEST   SIZE   CREATED   NODES
        ---
        warning: the images of node `n3` are unknown: it is down
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["image", "ls"]).await.transcript());
    expect![[r#"
        counter
        ---
        shown as n1 knew it at 2023-11-14T22:13:20.000Z, and may be behind
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["--stale", "stack", "ls", "-o", "name"]).await.transcript());
}
