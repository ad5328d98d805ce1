//! A cluster that is restored from a backup, while controllers of the one before are still somewhere.

use std::collections::BTreeSet;

use crate::lab::{Lab, SLEEPER, eventually};

const BACKUP: &str = "/var/lib/swarm/backup";
const SOCKET: &str = "unix:///run/swarm/controller.sock";
/// Restores the backup on a host whose controller is lost with its log.
fn restore(lab: &Lab, host: &str) {
    lab.lab("kill", &[host, "--only", "controller"]);
    lab.exec(host, &["rm", "-r", "/var/lib/swarm/controller"]);
    let said = lab.exec(host, &["swarm-controller", "restore", BACKUP]);
    assert!(said.contains("only controller of cluster"), "{said}");
    lab.lab("start", &[host]);
}

/// Waits until a host's program has logged these words.
fn logs(lab: &Lab, host: &str, program: &str, words: &str) {
    let path = format!("/var/lib/swarm-lab/{}/{host}/log/{program}.log", lab.name());
    eventually(30, &format!("{program} on {host} says: {words}"), || {
        std::fs::read_to_string(&path).ok()?.contains(words).then_some(())
    });
}

/// Waits until so many hosts are in session with the controller that leads.
fn ready(lab: &Lab, hosts: &[&str]) {
    let hosts: BTreeSet<String> = hosts.iter().copied().map(str::to_owned).collect();
    eventually(60, &format!("{hosts:?} are ready"), || (lab.ready_hosts()? == hosts).then_some(()));
}

#[test]
fn controllers_from_before_a_restore_get_no_agents_and_no_votes() {
    let lab = Lab::up("restore");
    lab.deploy("s", SLEEPER);
    lab.exec("n1", &["swarmctl", "--host", SOCKET, "cluster", "backup", BACKUP]);
    let (first, second) = (lab.sleepers("n1"), lab.sleepers("n2"));
    assert_eq!((first.len(), second.len()), (1, 1));

    // Two controllers of the cluster as it was are off, one with its whole host.
    lab.lab("kill", &["n3"]);
    lab.lab("kill", &["n2", "--only", "controller"]);
    restore(&lab, "n1");
    ready(&lab, &["n1", "n2"]);
    assert_eq!(lab.sleepers("n1"), first, "what ran where it was restored runs on");
    assert_eq!(lab.sleepers("n2"), second, "what ran elsewhere runs on");

    // They come back while the restored one is away, and are a quorum of the cluster as it was.
    lab.lab("kill", &["n1", "--only", "controller"]);
    lab.lab("start", &["n2"]);
    lab.lab("start", &["n3"]);
    // An agent that is told of them, and has none that it may believe in reach, asks them too.
    eventually(30, "the host knows the old controllers", || {
        lab.exec("n2", &["cat", "/var/lib/swarm/identity/identity.json"])
            .contains("10.77.0.3")
            .then_some(())
    });
    lab.kill_program("n2", "agent");
    logs(&lab, "n2", "agent", "has nothing to say: it was restored");
    logs(&lab, "n2", "controller", "refused an agent that has heard of a later incarnation");
    assert_eq!(lab.sleepers("n2"), second);

    // They meet the restored one, and stop for good with a word to whoever looks.
    lab.lab("start", &["n1"]);
    for host in ["n2", "n3"] {
        logs(&lab, host, "controller", "was restored from a backup, or forced anew, as");
        logs(
            &lab,
            host,
            "controller",
            "hint: to make the host a controller again: swarm-controller",
        );
        eventually(10, "the old controller has ended", || {
            lab.program(host, "controller").is_none().then_some(())
        });
    }
    ready(&lab, &["n1", "n2", "n3"]);
    let status = lab.json(&["cluster", "status"]);
    assert_eq!(status["members"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(lab.sleepers("n1"), first);
    assert_eq!(lab.sleepers("n2"), second);

    // The way back that they told.
    let token = lab.exec("n1", &["swarmctl", "cluster", "token", "controller"]);
    let join = ["swarmctl", "host", "join", "10.77.0.1", "--as", "controller", "--token"];
    lab.exec("n2", &[&join[..], &[token.trim()]].concat());
    lab.lab("start", &["n2"]);
    let votes = |voters: u64| {
        eventually(30, &format!("{voters} vote"), || {
            let said = lab.try_run(&["cluster", "status", "-o", "json"]);
            let status: serde_json::Value = serde_json::from_str(&said.stdout).ok()?;
            (status["quorum"]["voters"] == voters).then_some(())
        });
    };
    votes(2);
    // Or with nobody at the host.
    let said = lab.try_run(&["node", "promote", "n3", "n1"]);
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(said.stderr.contains("n3: start it: swarm-controller run"), "{said:#?}");
    assert!(said.stderr.contains("n1: it runs a controller already"), "{said:#?}");
    lab.lab("start", &["n3"]);
    votes(3);
    assert_eq!(lab.sleepers("n2"), second);
}
