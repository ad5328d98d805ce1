//! Six hosts, of which some vanish together, and some leave and join.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, Task, eventually, throughout};

const STACK: &str = r"
services:
  work:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {replicas: 12}
  every:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 100000 & wait'
    deploy: {mode: global}
";
const LOST: [&str; 3] = ["n4", "n5", "n6"];
/// Within this time tasks of hosts that vanished together must not be replaced; the cluster's own patience is 30 s.
const HELD: Duration = Duration::from_secs(12);

fn six(name: &str) -> Lab {
    let lab = Lab::with(name, &["--hosts", "6"]);
    lab.deploy("s", STACK);
    lab
}

/// The running tasks of hosts that stay.
fn staying(lab: &Lab) -> Vec<Task> {
    let mut tasks = lab.running("s_");
    tasks.retain(|task| !LOST.contains(&task.node.as_str()));
    tasks
}

/// Cuts the power of three hosts in the same moment, and waits until the cluster has noticed.
fn lose_three(lab: &Lab) {
    let firsts: Vec<i32> = LOST.iter().filter_map(|host| lab.first_process(host)).collect();
    assert_eq!(firsts.len(), LOST.len(), "all of them are on");
    for first in firsts {
        kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    }
    eventually(20, "three hosts are down", || (lab.ready_hosts()?.len() == 3).then_some(()));
}

#[test]
fn hosts_that_vanish_together_make_no_storm() {
    let lab = six("storm");
    let before = staying(&lab);
    assert_eq!(before.len(), 9, "two of twelve and one of its own on each host: {before:?}");
    lose_three(&lab);
    throughout(HELD, || {
        assert_eq!(staying(&lab), before, "nothing is moved onto the hosts that are left");
    });
    for host in LOST {
        lab.lab("start", &[host]);
    }
    eventually(30, "all run again", || (lab.running("s_").len() == 18).then_some(()));
    assert_eq!(staying(&lab), before, "the tasks of the others were not touched");

    // An operator who knows that they will not come back need not wait.
    lose_three(&lab);
    lab.run(&[&["node", "lost"], LOST.as_slice()].concat());
    eventually(10, "all that can moves", || {
        let tasks = staying(&lab);
        let work = tasks.iter().filter(|task| task.name.starts_with("s_work"));
        (work.count() == 12).then_some(())
    });
    let untouched: BTreeSet<Task> = before.into_iter().collect();
    assert!(untouched.is_subset(&staying(&lab).into_iter().collect()));
}

#[test]
fn a_global_service_comes_to_a_host_that_joins() {
    let lab = six("joins");
    let before = staying(&lab);
    let leave = ["env", "XDG_CONFIG_HOME=/nowhere", "swarmctl", "host", "leave"];
    let said = lab.try_exec("n6", &leave);
    assert_eq!(said.code, 0, "{said:#?}");
    let on_six = |lab: &Lab| -> Vec<String> {
        let tasks = lab.running("s_").into_iter().filter(|task| task.node == "n6");
        tasks.map(|task| task.name).collect()
    };
    assert!(on_six(&lab).is_empty());
    let token = lab.exec("n1", &["swarmctl", "cluster", "token", "agent"]);
    lab.exec("n6", &["swarm-agent", "join", "--token", token.trim(), "10.77.0.1:2377"]);
    lab.lab("kill", &["n6", "--only", "agent"]);
    lab.lab("start", &["n6"]);
    eventually(20, "the global service is there", || {
        matches!(&on_six(&lab)[..], [one] if one.starts_with("s_every.")).then_some(())
    });
    let untouched: BTreeSet<Task> = before.into_iter().collect();
    assert!(untouched.is_subset(&staying(&lab).into_iter().collect()));
}
