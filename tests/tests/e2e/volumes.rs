//! Volumes: filled at first use, kept, waited for, removed on request.

use std::time::Duration;

use crate::lab::{Lab, eventually};

#[test]
fn a_volume_is_filled_kept_and_removed_on_request() {
    let lab = Lab::with("volume", &["--hosts", "1", "--controllers", "1"]);
    let text = r#"
services:
  keep:
    image: counter-web:1
    command: sh -c 'ls /code >> /code/seen; sync; sleep 1000'
    volumes: ["data:/code"]
volumes:
  data:
"#;
    lab.deploy("v", text);
    let path = lab.exec("n1", &["sh", "-c", "ls -d /var/lib/swarm/agent/volumes/*/_data"]);
    let path = path.trim();
    let seen = || lab.exec("n1", &["cat", &format!("{path}/seen")]);
    // Filled from the image at first use.
    eventually(10, "the task has written", || seen().contains("app.py").then_some(()));
    lab.run(&["stack", "rm", "v"]);
    eventually(20, "the container is gone", || lab.contained("n1").is_empty().then_some(()));
    assert!(seen().contains("app.py"), "kept over the stack's removal");
    lab.deploy("v", text);
    eventually(10, "the next task found what the first one wrote", || {
        seen().lines().any(|line| line == "seen").then_some(())
    });
    lab.run(&["stack", "rm", "v"]);
    eventually(20, "the volume can be removed", || {
        std::thread::sleep(Duration::from_millis(100));
        (lab.try_run(&["volume", "rm", "v_data"]).code == 0).then_some(())
    });
    eventually(20, "its files are gone", || {
        (lab.try_exec("n1", &["test", "-e", path]).code != 0).then_some(())
    });
}

#[test]
fn a_kept_volume_that_hides_another_images_content_is_warned_of() {
    let lab = Lab::with("hidden", &["--hosts", "1", "--controllers", "1"]);
    let stack = |image: &str| {
        format!(
            "services:\n  app:\n    image: {image}\n    command: sleep 1000\n    \
             volumes: [\"data:/code\"]\nvolumes:\n  data:\n"
        )
    };
    let said = lab.deploy("h", &stack("counter-web:1"));
    assert!(!said.stderr.contains("hidden"), "{said:#?}");
    let said = lab.deploy("h", &stack("python:alpine"));
    let warning = "`/code` of python:alpine is hidden by volume data, filled from counter-web:1";
    assert!(said.stderr.contains(warning), "{said:#?}");
}

#[test]
fn one_replica_waits_for_its_lost_volume_unless_told_otherwise() {
    let lab = Lab::up("lost");
    let service = |name: &str, rest: &str| {
        format!(
            "  {name}:\n    image: busybox\n    command: sh -c 'echo start >> /data/lines; sync; \
             sleep 100000'\n    volumes: [\"{name}:/data\"]\n{rest}"
        )
    };
    let waits = service("waits", "");
    let moves = service("moves", "    x-swarm: {volume-node-lost: start-empty}\n");
    // Both begin on n2.
    for host in ["n1", "n3"] {
        lab.run(&["node", "drain", host]);
    }
    lab.deploy("l", &format!("services:\n{waits}{moves}volumes:\n  waits:\n  moves:\n"));
    let starts = || {
        let text = "cat /var/lib/swarm/agent/volumes/*waits*/_data/lines";
        lab.try_exec("n2", &["sh", "-c", text]).stdout.lines().count()
    };
    eventually(10, "the first start is written", || (starts() == 1).then_some(()));
    for host in ["n1", "n3"] {
        lab.run(&["node", "activate", host]);
    }
    lab.lab("kill", &["n2"]);
    eventually(40, "one starts elsewhere with an empty volume", || {
        let tasks = lab.running("l_moves");
        (tasks.len() == 1 && tasks[0].node != "n2").then_some(())
    });
    eventually(20, "the other says what it waits for", || {
        let tasks = lab.tasks();
        let reason = "without volume l_waits, which is on n2 (down)";
        tasks.iter().find(|task| task.name == "l_waits.1" && task.message.contains(reason))?;
        lab.running("l_waits").is_empty().then_some(())
    });
    lab.lab("start", &["n2"]);
    eventually(40, "it runs where its data is", || {
        let tasks = lab.running("l_waits");
        (tasks.len() == 1 && tasks[0].node == "n2" && starts() == 2).then_some(())
    });
}
