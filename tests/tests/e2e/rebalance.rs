//! A host that comes back gets its share of what runs, and no service has too few tasks meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, Task, eventually, meanwhile, throughout};

/// By the order of its updates, `web` may miss one of six, `safe` none of three.
const STACK: &str = r"
services:
  web:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {replicas: 6, update_config: {parallelism: 1, monitor: 1s}}
  safe:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {replicas: 3, update_config: {parallelism: 1, monitor: 1s, order: start-first}}
";
const FLOORS: [(&str, usize); 2] = [("r_web", 5), ("r_safe", 3)];
const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

/// What would be moved; `None` while a task is on its way, or something is in the way.
fn plan(lab: &Lab) -> Option<Vec<Value>> {
    let plan = lab.json(&["rebalance", "--plan"]);
    let is_calm = plan["hindrance"].is_null() && plan["under_way"].as_array()?.is_empty();
    plan["moves"].as_array().filter(|_| is_calm).cloned()
}

fn is_even(lab: &Lab) -> bool {
    FLOORS.into_iter().all(|(service, _)| {
        let running = lab.running(service);
        let on = |host: &str| running.iter().filter(|task| task.node == host).count();
        let share = running.len() / HOSTS.len();
        share > 0 && HOSTS.into_iter().all(|host| on(host) == share)
    })
}

/// Looks all the time while something is done that no service has fewer tasks than its update policy allows.
fn watched<T: Send>(lab: &Lab, work: impl FnOnce() -> T + Send) -> T {
    meanwhile(work, || {
        let running = lab.running("r_");
        for (service, floor) in FLOORS {
            let count = running.iter().filter(|task| task.name.starts_with(service)).count();
            assert!(count >= floor, "{count} of {service} run, {floor} must");
        }
    })
}

pub(crate) fn ids(tasks: &[Task]) -> BTreeSet<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

#[test]
fn a_host_that_comes_back_gets_its_share_and_no_service_has_too_few_tasks() {
    let lab = Lab::up("rebalance");
    lab.run(&["node", "drain", "n2", "--wait"]);
    lab.deploy("r", STACK);
    let first = lab.running("r_");
    assert_eq!(first.len(), 9);
    assert!(first.iter().all(|task| task.node != "n2"), "{first:#?}");
    lab.run(&["node", "activate", "n2"]);

    let moves = eventually(90, "all is settled", || plan(&lab));
    assert_eq!(moves.len(), 3, "two of six and one of three: {moves:#?}");
    assert!(moves.iter().all(|one| one["to"] == "n2" && one["from"] != "n2"), "{moves:#?}");
    throughout(Duration::from_secs(3), || {
        assert_eq!(
            ids(&lab.running("r_")),
            ids(&first),
            "neither a plan nor the cluster moves any"
        );
    });

    let begun = watched(&lab, || {
        let begun = lab.json(&["rebalance"]);
        eventually(90, "the rest is moved, too", || {
            let left = plan(&lab)?;
            if !left.is_empty() {
                lab.run(&["rebalance"]);
            }
            left.is_empty().then_some(())
        });
        begun
    });
    let begun = begun.as_array().unwrap();
    assert_eq!(begun.len(), 2, "one of each service at a time: {begun:#?}");
    let second = lab.running("r_");
    assert_eq!(second.len(), 9);
    assert!(is_even(&lab), "{second:#?}");
    assert_eq!(ids(&first).intersection(&ids(&second)).count(), 6, "three were moved: {second:#?}");
    let again = lab.try_run(&["rebalance"]);
    assert!(again.code == 0 && again.stdout.is_empty(), "{again:#?}");
    assert!(again.stderr.contains("nothing would be moved"), "{again:#?}");
    assert_eq!(ids(&lab.running("r_")), ids(&second));
}

#[test]
fn with_auto_a_host_that_comes_back_gets_its_share_by_itself() {
    let lab = Lab::up("rebalance-auto");
    lab.run(&["node", "drain", "n3", "--wait"]);
    lab.deploy("r", STACK);
    lab.run(&["cluster", "update", "--rebalance", "auto"]);
    let first = lab.running("r_");
    lab.run(&["node", "activate", "n3"]);
    watched(&lab, || eventually(90, "all is even", || is_even(&lab).then_some(())));
    // It has come to its end.
    eventually(20, "all is settled", || plan(&lab).filter(Vec::is_empty));
    let second = lab.running("r_");
    assert_eq!(ids(&first).intersection(&ids(&second)).count(), 6, "three were moved: {second:#?}");
    throughout(Duration::from_secs(5), || {
        assert_eq!(ids(&lab.running("r_")), ids(&second), "and nothing more moves");
    });
}
