//! What a container may use.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use swarm_runtime::cgroup::{Cgroup, DeviceRule, Layout};
use swarm_runtime::{CgroupSpec, Limits};

use crate::support::{Fixture, eventually};

#[test]
fn memory_is_limited_and_the_kill_is_told() {
    let mut fixture =
        Fixture::script("x=$(head -c 100000000 /dev/zero | tail -c 100000000); echo survived");
    fixture.options.cgroup.limits.memory_bytes = Some(16 << 20);
    let (record, said) = fixture.run();
    assert!(record.oom_killed, "{record:?} {said}");
    let (record, _) = Fixture::new(&["true"]).run();
    assert!(!record.oom_killed);
}

#[test]
fn a_memory_limit_that_nothing_fits_into_is_a_clear_error() {
    let mut fixture = Fixture::new(&["true"]);
    fixture.options.cgroup.limits.memory_bytes = Some(128 << 10);
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.ends_with("the memory limit is too low even to set the container up"), "{error}");
}

#[test]
fn processes_are_limited() {
    let mut fixture = Fixture::script("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait");
    fixture.options.cgroup.limits.pids = Some(4);
    let (record, said) = fixture.run();
    assert!(said.contains("can't fork"), "{record:?} {said}");
}

#[test]
fn processor_time_is_limited() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    fixture.options.cgroup.limits.nano_cpus = Some(250_000_000);
    fixture.options.cgroup.limits.cpu_shares = Some(512);
    let container = fixture.start();
    let read = |names: [&str; 2]| {
        let cgroup = container.cgroup();
        cgroup
            .hierarchies()
            .iter()
            .flat_map(|hierarchy| names.map(|name| hierarchy.path.join(name)))
            .find_map(|path| fs::read_to_string(path).ok())
            .unwrap()
    };
    assert!(
        ["25000\n", "25000 100000\n"].contains(&read(["cpu.cfs_quota_us", "cpu.max"]).as_str())
    );
    assert!(["512\n", "20\n"].contains(&read(["cpu.shares", "cpu.weight"]).as_str()));
}

#[test]
fn what_is_used_is_counted() {
    let mut fixture = Fixture::script("while true; do :; done");
    let container = fixture.start();
    let used = || container.cgroup().usage().unwrap();
    let first = used().cpu_time.unwrap();
    eventually("processor time is counted", || {
        used().cpu_time.unwrap() > first + Duration::from_millis(20)
    });
    let memory = used().memory.unwrap();
    assert!((4_096..64 << 20).contains(&memory), "{memory}");
}

#[test]
fn only_listed_devices_can_be_opened() {
    let mut fixture = Fixture::script(
        "exec 2>&1; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem && echo open; \
         mknod /tmp/zero c 1 5; head -c 1 /tmp/zero | wc -c; head -c 1 /dev/fuse; ls /dev",
    );
    fixture.config["linux"]["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}]);
    fixture.config["linux"]["resources"] = json!({"devices":
        [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]});
    let said = fixture.output();
    assert!(said.contains("/tmp/mem: Operation not permitted\n1\n"), "{said}");
    assert!(!said.contains("/dev/fuse: Operation not permitted"), "{said}");
    for name in [
        "console", "fd", "full", "fuse", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ] {
        let expected = name != "console";
        assert_eq!(said.lines().any(|line| line == name), expected, "{name}: {said}");
    }
}

#[test]
fn rlimits_are_set_and_one_too_high_is_a_clear_error() {
    let mut fixture = Fixture::script("ulimit -n; ulimit -c");
    fixture.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]);
    assert_eq!(fixture.output(), "100\n0\n");

    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let may_raise = u64::from_str_radix(effective, 16).unwrap() & 1 << 24 != 0;
    let mut fixture = Fixture::script("ulimit -n");
    fixture.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 1_000_000, "hard": 1_000_000}]);
    let container = fixture.create();
    match container.start() {
        Ok(()) => assert!(may_raise),
        Err(error) => {
            let error = error.to_string();
            assert!(!may_raise);
            assert!(
                error.contains("rlimit `nofile`: 1000000 is above this host's own hard limit of "),
                "{error}"
            );
        }
    }
}

#[test]
fn a_container_can_be_frozen() {
    let mut fixture = Fixture::script("while true; do echo tick; sleep 0.01; done");
    let container = fixture.start();
    eventually("ticks", || fixture.said().contains("tick"));
    container.cgroup().freeze(true).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = fixture.said().len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(fixture.said().len(), before);
    container.cgroup().freeze(false).unwrap();
    eventually("more ticks", || fixture.said().len() > before);
    container.cgroup().freeze(true).unwrap();
    container.delete().unwrap();
}

#[test]
fn the_unified_hierarchy_guards_devices_by_a_program() {
    let mut roots = Layout::detect().unwrap().roots().to_vec();
    roots.retain(|root| root.unified);
    let root = roots.first_mut().expect("this host has a unified hierarchy");
    root.guards_devices = true;
    root.controllers.clear();
    let spec = CgroupSpec {
        parent: crate::support::parent(),
        name: "devices".into(),
        limits: Limits::default(),
    };
    let layout = Layout::from_roots(roots);
    let mut rules = DeviceRule::defaults().to_vec();
    let zero = |rule: &DeviceRule| (rule.major, rule.minor) == (Some(1), Some(5));
    rules.retain(|rule| !zero(rule));
    let cgroup = Cgroup::create(&layout, &spec, &rules).unwrap();
    let procs = cgroup.hierarchies()[0].path.join("cgroup.procs");
    let script = format!(
        "echo $$ > {}; head -c 1 /dev/urandom | wc -c; head -c 1 /dev/zero",
        procs.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    cgroup.delete(Duration::from_secs(5)).unwrap();
    swarm_runtime::cgroup::remove_parent(&crate::support::parent()).unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
    assert!(refused.contains("Operation not permitted"), "{refused}");
}
