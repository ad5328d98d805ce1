//! What hosts have beside processors and memory is given to tasks one by one, and never twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::{Lab, eventually};

/// What stands in a host's `agent.toml`. The file ends with a table, so it goes to the beginning.
const RESOURCES: &str = r#"generic_resources = ["gpu=one", "gpu=two"]
resource_devices = {"gpu=one" = ["/dev/fuse"], "gpu=two" = ["/dev/loop-control"]}"#;
const STACK: &str = r"
services:
  train:
    image: busybox
    command: sleep 100000
    deploy:
      replicas: 2
      restart_policy: {delay: 100ms}
      resources:
        reservations:
          generic_resources:
            - discrete_resource_spec: {kind: gpu, value: 1}
  plain: {image: busybox, command: sleep 100000}
";

/// Which resource each running task has.
fn given(lab: &Lab) -> BTreeMap<String, String> {
    let tasks = lab.running("g_train").into_iter();
    tasks
        .map(|task| (task.id.clone(), lab.inside(&task.name, "echo $DOCKER_RESOURCE_GPU")))
        .collect()
}

/// Why a task does not run yet.
fn waiting(lab: &Lab, name: &str) -> Option<String> {
    let task = lab.tasks().into_iter().find(|task| task.name == name && task.state == "pending")?;
    Some(task.message).filter(|why| !why.is_empty())
}

/// Writes what a host has beside processors and memory into its agent's settings.
pub(crate) fn equip(lab: &Lab, host: &str, resources: &str) {
    let write = format!(
        "printf '%s\\n' '{resources}' | cat - /etc/swarm/agent.toml >/tmp/new && cat /tmp/new >/etc/swarm/agent.toml"
    );
    lab.exec(host, &["sh", "-c", &write]);
    lab.kill_program(host, "agent");
    eventually(10, "its resources are known", || {
        let node = lab.json(&["node", "inspect", host]);
        node["generic_resources"].as_object().is_some_and(|all| !all.is_empty()).then_some(())
    });
}

#[test]
fn devices_go_to_one_task_each() {
    let lab = Lab::up("resources");
    equip(&lab, "n2", RESOURCES);
    lab.deploy("g", STACK);
    let all = given(&lab);
    let names: BTreeSet<&str> = all.values().map(String::as_str).collect();
    assert_eq!(names, ["one", "two"].into(), "{all:?}");
    for task in lab.running("g_train") {
        assert_eq!(task.node, "n2");
        let (own, other) = match all[&task.id].as_str() {
            "one" => ("/dev/fuse", "/dev/loop-control"),
            _ => ("/dev/loop-control", "/dev/fuse"),
        };
        lab.inside(&task.name, &format!("test -c {own} && : <>{own} && ! test -e {other}"));
    }
    assert_eq!(lab.inside("g_plain.1", "ls /dev | grep -c -e fuse -e loop-control || true"), "0");

    // The third waits for one, says so, and gets it once another lets go.
    lab.run(&["service", "scale", "g_train=3", "--detach"]);
    let why = eventually(10, "it waits", || waiting(&lab, "g_train.3"));
    assert!(why.contains("gpu"), "{why}");
    equip(&lab, "n3", RESOURCES);
    eventually(20, "it runs", || (lab.running("g_train").len() == 3).then_some(()));
    assert_eq!(lab.running("g_train.3")[0].node, "n3");
}
