//! A drained host is empty when `swarmctl` says so, and its services go on meanwhile.

use crate::lab::{Lab, eventually, meanwhile};

const WEB: &str = r"
services:
  web:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {replicas: 6, update_config: {parallelism: 1}}
  every:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {mode: global}
";

#[test]
fn a_drain_waits_until_nothing_is_left_and_never_takes_too_much() {
    let lab = Lab::up("drain");
    lab.deploy("w", WEB);
    let has = |host: &str| lab.running("w_").iter().filter(|task| task.node == host).count();
    assert_eq!(has("n2"), 3, "two of six, and one of its own");
    let drain = || lab.try_run(&["node", "drain", "n2", "--wait"]);
    let said = meanwhile(drain, || {
        let running = lab.running("w_web").len();
        assert!(running >= 5, "{running} of six run");
    });
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(said.stderr.contains("no task is left on `n2`"), "{said:#?}");
    assert_eq!(has("n2"), 0);
    eventually(20, "all run elsewhere", || (lab.running("w_web").len() == 6).then_some(()));

    // With one host left there is nowhere to go for the last but the one that is there; with none, nothing goes.
    lab.run(&["node", "drain", "n1", "--wait"]);
    let late = lab.try_run(&["node", "drain", "n3", "--wait", "--timeout", "3s"]);
    assert_eq!(late.code, 3, "{late:#?}");
    assert!(late.stderr.contains("still has tasks"), "{late:#?}");
    assert_eq!(lab.running("w_web").len(), 5, "no more than one was taken");
}
