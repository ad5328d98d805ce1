//! A service of higher priority takes the place of others, says before whom, and gives it back.

use serde_json::Value;

use crate::lab::{Lab, Task, eventually};
use crate::rebalance::ids;
use crate::resources::equip;

/// Three of what `n2` alone has: `web` takes two, and `rock`, of the lowest priority, one that it never gives back.
const LOW: &str = r"
services:
  web:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {replicas: 2, resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: seat, value: 1}}]}}}
  rock:
    image: busybox
    command: sleep 100000
    deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: seat, value: 1}}]}}}
    x-swarm: {priority: -10, preemption: never}
";
const HIGH: &str = r"
services:
  db:
    image: busybox
    command: sleep 100000
    stop_grace_period: 1s
    deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: seat, value: 1}}]}}}
    x-swarm: {priority: 10}
";

/// Who would have to make place for a stack.
fn victims(plan: &Value) -> Vec<(&str, &str)> {
    let preempted = plan["preempted"].as_array().unwrap().iter();
    preempted
        .map(|one| (one["task"].as_str().unwrap(), one["for_task"].as_str().unwrap()))
        .collect()
}

#[test]
fn who_has_a_higher_priority_gets_a_place_and_who_made_it_gets_it_back() {
    let lab = Lab::up("priorities");
    equip(&lab, "n2", r#"generic_resources = ["seat=3"]"#);
    lab.deploy("low", LOW);
    let before = lab.running("low_");
    assert_eq!(before.len(), 3);

    let plan = lab.plan("high", HIGH);
    let told = victims(&plan);
    assert_eq!(told.len(), 1, "{plan}");
    assert!(told[0].0.starts_with("low_web.") && told[0].1 == "high_db.1", "{plan}");
    assert_eq!(ids(&lab.running("low_")), ids(&before), "a plan changes nothing");

    lab.deploy("high", HIGH);
    assert_eq!(lab.running("high_db.1")[0].node, "n2");
    let left = lab.running("low_");
    assert_eq!(left.len(), 2, "{left:#?}");
    assert!(ids(&left).is_subset(&ids(&before)), "nobody else was restarted: {left:#?}");
    let of_rock = |tasks: &[Task]| tasks.iter().any(|task| task.name == "low_rock.1");
    assert!(of_rock(&left), "{left:#?}");
    let why = lab.json(&["why", told[0].0]);
    let gone = why.as_array().unwrap().iter().find(|one| one["preempted_by"] == "high_db.1");
    let reason = gone.and_then(|one| one["reason"].as_str()).unwrap_or_default();
    assert!(reason.contains("made place on n2 for `high_db.1`"), "{why}");
    assert!(why[0]["reason"].as_str().unwrap().contains("seat"), "the next one waits: {why}");

    lab.run(&["stack", "rm", "high"]);
    let after = eventually(30, "the place is given back", || {
        Some(lab.running("low_")).filter(|tasks| tasks.len() == 3)
    });
    assert!(ids(&left).is_subset(&ids(&after)), "{after:#?}");
}
