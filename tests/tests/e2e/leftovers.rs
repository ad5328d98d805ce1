//! What was made is unmade: by `stack rm`, by `lab down`, and over the rests of a killed lab. (`lab down` is checked at
//! the end of every test.)

use std::collections::BTreeSet;

use crate::lab::{Lab, eventually};
use crate::snapshot;

/// What a host holds that a stack could have made.
pub(crate) fn look(lab: &Lab, host: &str) -> Vec<String> {
    let script = "\
        for link in /sys/class/net/*; do echo link ${link##*/}; done; \
        cut -d' ' -f5 /proc/self/mountinfo | sort | sed 's/^/mount /'; \
        ls /run/swarm/netns 2>/dev/null | sed 's/^/namespace /'; \
        ls /run/swarm/agent/containers /var/lib/swarm/agent/containers 2>/dev/null | grep -v : | sed 's/^/container /'; \
        nft list ruleset | grep -E 'dnat|snat|masquerade|10\\.' | sed 's/^/rule /'; \
        ip route | sed 's/^/route /'; true";
    let mut found: Vec<String> =
        lab.exec(host, &["sh", "-c", script]).lines().map(str::to_owned).collect();
    found.retain(|line| line.trim_end().contains(' '));
    let cgroups = snapshot::cgroups(&format!("swarm-lab/{}/{host}", lab.name()));
    found.extend(cgroups.iter().map(|path| format!("cgroup {}", path.display())));
    let first = lab.first_process(host).unwrap();
    let names: BTreeSet<String> =
        snapshot::processes_of(first).into_iter().map(|process| process.name).collect();
    found.extend(names.into_iter().map(|name| format!("process {name}")));
    found
}

/// A host soon holds what it held before, and nothing else.
pub(crate) fn becomes_as_before(lab: &Lab, host: &str, before: &[String]) {
    let mut now = Vec::new();
    let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(20, "the host is as before", || {
            now = look(lab, host);
            (now == *before).then_some(())
        });
    }));
    if clean.is_err() {
        let extra: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
        let missing: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
        panic!("{host} has {extra:#?} and lacks {missing:#?}");
    }
}

#[test]
fn a_removed_stack_leaves_nothing_on_its_hosts() {
    let lab = Lab::up("left");
    let hosts = ["n1", "n2", "n3"];
    let before: Vec<Vec<String>> = hosts.iter().map(|host| look(&lab, host)).collect();
    for _ in 0..2 {
        lab.deploy_counter();
        let during = look(&lab, "n1");
        assert!(during.iter().any(|line| line.starts_with("namespace net-")), "{during:#?}");
        lab.run(&["stack", "rm", "counter"]);
        for (host, before) in hosts.iter().zip(&before) {
            becomes_as_before(&lab, host, before);
        }
    }
}

#[test]
fn a_lab_comes_up_over_the_rests_of_a_killed_one() {
    let lab = Lab::up("rests");
    lab.deploy_counter();
    // Killed in the middle: one host whole, another one's first process with everything else going on.
    lab.lab("kill", &["n3"]);
    let first = lab.first_process("n2").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let switch = lab.exec("switch", &["sh", "-c", "echo on"]);
    assert_eq!(switch, "on\n");
    lab.up_again(&[]);
    eventually(40, "the stack runs again", || (lab.running("counter_").len() == 4).then_some(()));
    // And from nothing, over everything that runs.
    lab.up_again(&["--fresh"]);
    assert!(lab.tasks().is_empty());
    lab.deploy_counter();
}

#[test]
fn a_failed_start_leaves_nothing() {
    let lab = Lab::with("failed", &["--hosts", "1", "--controllers", "1"]);
    let before = look(&lab, "n1");
    let said = lab.try_run(&["version"]);
    assert_eq!(said.code, 0);
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    std::fs::write(
        file.path(),
        "services:\n  wrong:\n    image: busybox\n    command: /no/such\n    ports: [\"7001:80\"]\n    volumes: [\"/no/such/folder:/x\"]\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    lab.try_run(&["deploy", "-f", path, "--name", "w", "--timeout", "4s"]);
    lab.run(&["stack", "rm", "w"]);
    let mut now = Vec::new();
    eventually(20, "the host is as before", || {
        now = look(&lab, "n1");
        (now == before).then_some(())
    });
}
