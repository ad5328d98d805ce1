//! A host that is cut off stops what must not run twice before the cluster runs it elsewhere.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Task, eventually};

const DATABASE: &str = r"
services:
  db:
    image: busybox
    command: sleep 100000
    stop_grace_period: 3s
    x-swarm: {on_cut_off: stop}
";

fn database(lab: &Lab) -> Option<Task> {
    lab.running("d_db").into_iter().next()
}

/// Waits until the database runs on another host, and looks all the time that no two hosts run it.
fn moves(lab: &Lab, from: &Task) -> (Task, Duration) {
    let start = Instant::now();
    let mut stopped = None;
    let moved = eventually(60, "it runs elsewhere", || {
        let hosts = ["n1", "n2", "n3"].map(|host| lab.sleepers(host).len());
        assert!(hosts.iter().sum::<usize>() <= 1, "it runs twice: {hosts:?}");
        if hosts.iter().all(|count| *count == 0) {
            stopped.get_or_insert_with(|| start.elapsed());
        }
        database(lab).filter(|task| task.node != from.node && task.id != from.id)
    });
    (moved, stopped.expect("its host stopped it first"))
}

#[test]
fn a_cut_off_database_never_runs_twice() {
    let lab = Lab::up("cut-off");
    lab.deploy("d", DATABASE);
    let first = database(&lab).unwrap();
    lab.lab("cut", &[&first.node]);
    let (second, stopped) = moves(&lab, &first);
    assert!(stopped >= Duration::from_secs(2), "its lease had not run out: {stopped:?}");
    lab.lab("heal", &[]);
    eventually(30, "the host is ready again", || (lab.ready_hosts()?.len() == 3).then_some(()));
    eventually(20, "it runs once", || {
        let all: usize = ["n1", "n2", "n3"].iter().map(|host| lab.sleepers(host).len()).sum();
        (all == 1 && database(&lab)?.id == second.id).then_some(())
    });
}

#[test]
fn it_stops_without_its_agent_too() {
    let lab = Lab::up("cut-off-alone");
    lab.deploy("d", DATABASE);
    let first = database(&lab).unwrap();
    // The host starts its agent again; a stopped one stays as it is, and says nothing.
    let agent = lab.program(&first.node, "agent").unwrap();
    lab.exec(&first.node, &["sh", "-c", &format!("kill -STOP {agent}")]);
    let (second, _) = moves(&lab, &first);
    lab.exec(&first.node, &["sh", "-c", &format!("kill -CONT {agent}")]);
    eventually(30, "it runs once", || {
        let all: usize = ["n1", "n2", "n3"].iter().map(|host| lab.sleepers(host).len()).sum();
        (all == 1 && database(&lab)?.id == second.id).then_some(())
    });
}
