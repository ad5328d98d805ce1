//! `doctor` names what somebody changed on a host behind the cluster's back, until it is put right.

use serde_json::Value;

use crate::lab::{Lab, eventually};

/// What `doctor` finds: the exit code, and kind, object and problem of each difference.
fn doctor(lab: &Lab) -> (i32, Vec<String>) {
    let said = lab.try_run(&["doctor", "-o", "json"]);
    let view: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:#?}"));
    let found = view["differences"].as_array().unwrap().iter().map(|one| {
        let text = |field: &str| one[field].as_str().unwrap().to_owned();
        assert!(!text("hint").is_empty(), "{one}");
        format!("{}: {} {} {}", text("node"), text("kind"), text("object"), text("problem"))
    });
    (said.code, found.collect())
}

fn healthy(lab: &Lab) {
    eventually(40, "nothing differs", || {
        let (code, found) = doctor(lab);
        assert_eq!(code == 0, found.is_empty(), "{found:#?}");
        found.is_empty().then_some(())
    });
}

#[test]
fn what_was_changed_by_hand_is_named_until_it_is_put_right() {
    let lab = Lab::up("doctor");
    lab.deploy_counter();
    healthy(&lab);
    let task = lab.running("counter_web").into_iter().next().unwrap();
    let host = task.node.as_str();
    let spaces = lab.exec(host, &["ls", "/run/swarm/netns"]);
    let space = |prefix: &str| spaces.lines().find(|name| name.starts_with(prefix)).unwrap();
    let (network, of_task) = (space("net-"), space("task-"));
    let cgroup = lab.exec(
        host,
        &["sh", "-c", "d=$(find /sys/fs/cgroup -type d -path '*swarm-lab/*' -name '*.1.1.*' -path \"*/$(hostname)/*\" | head -n1); dirname $d"],
    );
    let cgroup = format!("{}/99.1.1.1", cgroup.trim());
    let script = format!(
        "set -e; cd /run/swarm/netns; touch net-999; unshare --net=/run/swarm/netns/net-999 true; \
         nsenter --net=$PWD/{network} ip link delete gw0; \
         nsenter --net=$PWD/{of_task} nft add rule ip swarm output counter; \
         mkdir {cgroup}"
    );
    lab.exec(host, &["sh", "-c", &script]);
    let (code, found) = doctor(&lab);
    assert_eq!(code, 1);
    for expected in [
        "namespace net-999 belongs to no network or task",
        "link gw0 of network counter_",
        "chain `output` holds",
        "99.1.1.1 belongs to no running container",
    ] {
        let named = found.iter().any(|line| line.starts_with(host) && line.contains(expected));
        assert!(named, "`{expected}` is not in {found:#?}");
    }
    // As the hints say.
    lab.exec(host, &["rmdir", &cgroup]);
    lab.kill_program(host, "agent");
    healthy(&lab);
    let other = if host == "n1" { "n2" } else { "n1" };
    lab.lab("kill", &[other]);
    eventually(20, "the lost host is named", || {
        let (_, found) = doctor(&lab);
        found.iter().any(|line| line.starts_with(&format!("{other}: host"))).then_some(())
    });
    lab.lab("start", &[other]);
    healthy(&lab);
}
