//! A backup of a lab, played by another one: the same nodes, stacks and tasks, on agents that simulate.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::lab::{Lab, Task, eventually};

const STACK: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    deploy: {replicas: 5}
  store:
    image: busybox
    command: sleep 1000
    volumes: [data:/data]
volumes:
  data:
";

/// The nodes' names and roles, in order.
fn nodes(lab: &Lab) -> BTreeSet<(String, String, String)> {
    let nodes = lab.json(&["node", "ls"]);
    let word = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let facts = |node: &Value| (word(node, "hostname"), word(node, "role"), word(node, "status"));
    nodes.as_array().unwrap().iter().map(facts).collect()
}

/// Every task that runs: identity, name and node.
fn placed(tasks: &[Task]) -> BTreeSet<(String, String, String)> {
    let facts = |task: &Task| (task.id.clone(), task.name.clone(), task.node.clone());
    tasks.iter().map(facts).collect()
}

#[test]
fn a_backup_is_played_on_simulated_agents() {
    let real = Lab::up("origin");
    real.deploy("site", STACK);
    let before = (nodes(&real), placed(&real.running("site")));
    assert_eq!(before.1.len(), 6);
    let file = real.settings().join("backup");
    let file = file.to_str().unwrap();
    real.run(&["cluster", "backup", file]);
    let stacks = real.run(&["stack", "ls", "-o", "name"]);
    let kept = tempfile::tempdir().unwrap();
    let [copy, key] = ["backup", "elsewhere"].map(|name| kept.path().join(name));
    fs::copy(file, &copy).unwrap();
    fs::copy(format!("{file}.key"), &key).unwrap();
    drop(real);

    let [copy, key] = [&copy, &key].map(|path| path.to_str().unwrap());
    let lab = Lab::with("play", &["--from-backup", copy, "--key-file", key]);
    assert_eq!(lab.run(&["stack", "ls", "-o", "name"]), stacks);
    assert_eq!(nodes(&lab), before.0);
    eventually(20, "the tasks of the backup go on, and no others", || {
        (placed(&lab.running("site")) == before.1).then_some(())
    });
    assert!(lab.contained("n1").is_empty(), "nothing runs in containers");

    // What an operator rehearses: the same file again, more tasks, a drain, a lost host.
    let again = lab.deploy("site", STACK);
    assert!(!again.stdout.contains("updated"), "{again:#?}");
    lab.run(&["service", "scale", "site_web=9", "--timeout", "60s"]);
    assert_eq!(lab.running("site_web").len(), 9);
    lab.run(&["node", "drain", "n2"]);
    eventually(60, "the drained node's tasks move", || {
        let running = lab.running("site_web");
        (running.len() == 9 && running.iter().all(|task| task.node != "n2")).then_some(())
    });
    lab.lab("kill", &["n3"]);
    eventually(60, "a lost host's tasks run elsewhere", || {
        let running = lab.running("site_web");
        (running.len() == 9 && running.iter().all(|task| task.node == "n1")).then_some(())
    });
    lab.lab("start", &["n3"]);
    lab.up_again(&[]);
}

#[test]
fn a_played_lab_refuses_what_makes_no_sense() {
    let lab = Lab::with("refuse", &["--hosts", "1"]);
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("backup");
    let path = file.to_str().unwrap();
    lab.run(&["cluster", "backup", path]);
    let up = |name: &str, more: &[&str]| {
        let said =
            lab.try_run(&[&["lab", "up", "--name", name, "--from-backup", path], more].concat());
        assert_eq!(said.code, 1, "{said:#?}");
        said.stderr
    };
    let there = up(lab.name(), &[]);
    assert!(there.contains("there is a lab `t-refuse` already"), "{there}");
    let few = up("t-refused", &["--hosts", "2"]);
    assert!(few.contains("2 hosts cannot play 1 nodes"), "{few}");
    let key = format!("{path}.key");
    let aside = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let sealed = up("t-refused", &[]);
    assert!(sealed.contains("the key of a backup (--key-file) cannot be read from"), "{sealed}");
    fs::write(&key, aside).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let damaged = up("t-refused", &["--fresh"]);
    assert!(damaged.contains("cannot be played: it is damaged"), "{damaged}");
    assert!(!std::path::Path::new("/var/lib/swarm-lab/t-refused").exists(), "nothing half done");
}
