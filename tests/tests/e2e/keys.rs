//! Keys of stack files, each shown by what it does to a container rather than by how it is read.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarm_runtime::kernel::Namespace;

use crate::lab::{Lab, address, eventually};

const ONE: &[&str] = &["--hosts", "1", "--controllers", "1"];
const SYSLOG_PORT: u16 = 5514;

const STACK: &str = r#"
services:
  plain: {image: busybox, command: sleep 100000, scale: 2, platform: linux}
  names:
    image: busybox
    # Ends at once where nothing is open.
    command: cat
    stdin_open: true
    hostname: "h{{.Task.Slot}}-{{.Node.Hostname}}"
    domainname: example.org
    container_name: named.inside
    environment: {WHO: "{{.Task.Name}}", TIER: '{{index .Service.Labels "tier"}}'}
    extra_hosts: {db: [10.9.8.7, "fd00::7"]}
    dns: 10.77.0.1
    dns_search: [keys.test]
    dns_opt: ["timeout:3", "attempts:1"]
    group_add: ["4242"]
    annotations: {org.example.note: kept}
    volumes: [{type: tmpfs, target: "/slot-{{.Task.Slot}}", tmpfs: {mode: 0o711}}]
    deploy: {labels: {tier: front}}
  limits:
    image: busybox
    command: sleep 100000
    mem_limit: 64m
    memswap_limit: 96m
    mem_reservation: 32m
    mem_swappiness: 10
    oom_kill_disable: true
    pids_limit: 77
    cpu_shares: 512
    cpu_quota: 30000
    cpu_period: 60000
    cpuset: "0"
    oom_score_adj: 300
    shm_size: 1m
    ulimits: {nofile: {soft: 100, hard: 200}}
    sysctls: {net.core.somaxconn: 77}
    tmpfs: ["/t:size=1m,mode=0750,uid=5,gid=6,noexec"]
    read_only: true
    init: true
  cpus: {image: busybox, command: sleep 100000, cpus: 0.25}
  devices:
    image: busybox
    command: sleep 100000
    devices: ["/dev/fuse:/dev/f:rw"]
    device_cgroup_rules: ["c 10:237 rw"]
  host:
    image: busybox
    command: sleep 100000
    network_mode: host
    pid: host
    ipc: host
    uts: host
    cgroup: host
    userns_mode: host
  none: {image: busybox, command: sleep 100000, network_mode: none, ipc: none, tty: true}
  loose:
    image: busybox
    command: sleep 100000
    security_opt: ["no-new-privileges:false", seccomp=unconfined, systempaths=unconfined]
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
  filtered: {image: busybox, command: sleep 100000, security_opt: [seccomp=profile.json]}
  silent:
    image: busybox
    command: sh -c 'echo unheard; sleep 100000'
    logging: {driver: none}
  syslogged:
    image: busybox
    command: sh -c 'echo to syslog; sleep 100000'
    logging:
      driver: syslog
      options:
        syslog-address: udp://127.0.0.1:5514
        syslog-facility: local3
        syslog-format: rfc5424
        tag: "{{.Name}}"
  journaled:
    image: busybox
    command: sh -c 'echo to the journal >&2; sleep 100000'
    labels: {tier: front}
    logging: {driver: journald, options: {labels: tier}}
  turned:
    image: busybox
    command: sh -c 'seq 1 3000 | sed "s/^/a line that is long enough for some to go out of three files of 64 KiB each /"; sleep 100000'
    logging: {driver: local, options: {max-size: 64k, max-file: "3"}}
"#;

const PROFILE: &str = r#"{
  "defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
}"#;

/// Runs a script in the only container of a service, or the first.
#[track_caller]
fn inside(lab: &Lab, service: &str, script: &str) -> String {
    lab.inside(&format!("k_{service}.1"), script)
}

/// Whether a script in a container succeeds.
fn succeeds(lab: &Lab, service: &str, script: &str) -> bool {
    lab.try_run(&["exec", &format!("k_{service}.1"), "sh", "-c", script]).code == 0
}

/// Answers every question for an address with this one, from inside of a host.
fn answer_names(host: &Namespace, at: Ipv4Addr, answer: Ipv4Addr) {
    let socket = host.enter(|| UdpSocket::bind((at, 53))).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            // The question ends after its name, type and class; what follows is left out.
            let name = buffer[12..length].iter().position(|byte| *byte == 0).unwrap_or(0);
            let mut reply = buffer[..(12 + name + 5).min(length)].to_vec();
            let is_v4 = reply.ends_with(&[0, 1, 0, 1]);
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
            if is_v4 {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend(answer.octets());
            }
            let _ = socket.send_to(&reply, client);
        }
    });
}

/// A path as a host sees it, seen from here.
fn on_host(lab: &Lab, path: &str) -> PathBuf {
    let pid = lab.first_process("n1").unwrap();
    Path::new(&format!("/proc/{pid}/root")).join(path.trim_start_matches('/'))
}

#[test]
fn keys_do_what_they_say() {
    let lab = Lab::with("keys", ONE);
    let pid = lab.first_process("n1").unwrap();
    let host = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap();
    let syslog = || UdpSocket::bind((Ipv4Addr::LOCALHOST, SYSLOG_PORT));
    let syslog = host.enter(syslog).unwrap().unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    fs::create_dir_all(on_host(&lab, "/run/systemd/journal")).unwrap();
    let journal = UnixDatagram::bind(on_host(&lab, "/run/systemd/journal/socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    answer_names(&host, address("n1"), Ipv4Addr::new(192, 0, 2, 55));
    fs::write(lab.settings().join("profile.json"), PROFILE).unwrap();
    lab.deploy("k", STACK);
    assert_eq!(lab.running("k_plain").len(), 2, "scale");
    names_are_as_asked(&lab);
    limits_hold(&lab);
    devices_are_given(&lab);
    namespaces_are_shared(&lab);
    security_is_as_asked(&lab);
    let mut buffer = [0; 4096];
    let length = syslog.recv(&mut buffer).unwrap();
    let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(line.starts_with("<158>1 ") && line.ends_with("to syslog"), "{line}");
    assert!(line.contains(" n1 k_syslogged.1 "), "{line}");
    let length = journal.recv(&mut buffer).unwrap();
    let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
    for field in ["MESSAGE=to the journal\n", "PRIORITY=3\n", "\nTIER=front\n"] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    logs_are_kept_within_bounds(&lab);
    services_wait_for_others(&lab);
}

fn names_are_as_asked(lab: &Lab) {
    assert_eq!(
        inside(lab, "names", "hostname; cat /proc/sys/kernel/domainname"),
        "h1-n1\nexample.org"
    );
    assert_eq!(inside(lab, "names", "echo $WHO $TIER"), "k_names.1 front");
    let hosts = inside(lab, "names", "cat /etc/hosts");
    for line in ["10.9.8.7\tdb", "fd00::7\tdb"] {
        assert!(hosts.contains(line), "{hosts}");
    }
    assert!(hosts.ends_with("h1-n1.example.org h1-n1"), "{hosts}");
    let resolver = inside(lab, "names", "cat /etc/resolv.conf");
    let wanted = "nameserver 127.0.0.11\nsearch keys.test\noptions ndots:0 timeout:3 attempts:1";
    assert_eq!(resolver, wanted);
    let found = inside(lab, "names", "nslookup -type=a outside.example");
    assert!(found.contains("192.0.2.55"), "{found}");
    let found = inside(lab, "plain", "nslookup -type=a named.inside");
    assert!(found.contains("Address: 10."), "{found}");
    assert!(inside(lab, "names", "grep Groups /proc/1/status").ends_with("4242"));
    assert_eq!(inside(lab, "names", "stat -c %a /slot-1"), "711");
    let noted =
        "grep -l '\"org.example.note\":\"kept\"' /var/lib/swarm/agent/containers/*/*/config.json";
    assert_eq!(lab.exec("n1", &["sh", "-c", noted]).lines().count(), 1);
}

fn limits_hold(lab: &Lab) {
    // Control groups of version 2, else of version 1.
    let group = |v2: &str, v1: &str| {
        inside(lab, "limits", &format!("cd /sys/fs/cgroup; cat {v2} 2>/dev/null || cat {v1}"))
    };
    let mebi = |number: u64| (number << 20).to_string();
    assert_eq!(group("memory.max", "memory/memory.limit_in_bytes"), mebi(64));
    assert_eq!(group("memory.low", "memory/memory.soft_limit_in_bytes"), mebi(32));
    let is_v2 = succeeds(lab, "limits", "test -e /sys/fs/cgroup/memory.max");
    if is_v2 {
        assert_eq!(group("cpu.max", "none"), "30000 60000");
    } else {
        assert_eq!(group("none", "cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us"), "30000\n60000");
        assert_eq!(group("none", "cpu/cpu.shares memory/memory.swappiness"), "512\n10");
        assert!(group("none", "memory/memory.oom_control").starts_with("oom_kill_disable 1"));
    }
    assert_eq!(group("pids.max", "pids/pids.max"), "77");
    let quota = "cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us";
    assert!(inside(lab, "cpus", quota).starts_with("25000"));
    assert_eq!(
        inside(lab, "limits", "grep Cpus_allowed_list /proc/1/status"),
        "Cpus_allowed_list:\t0"
    );
    assert_eq!(inside(lab, "limits", "cat /proc/1/oom_score_adj"), "300");
    let limits = inside(lab, "limits", "grep 'open files' /proc/1/limits");
    let words: Vec<&str> = limits.split_whitespace().collect();
    assert_eq!(words[3..5], ["100", "200"], "{limits}");
    assert_eq!(inside(lab, "limits", "cat /proc/sys/net/core/somaxconn"), "77");
    let blocks = |path: &str| {
        inside(lab, "limits", &format!("df -k {path} | tail -1 | tr -s ' ' | cut -d' ' -f2"))
    };
    assert_eq!((blocks("/dev/shm"), blocks("/t")), ("1024".to_owned(), "1024".to_owned()));
    assert_eq!(inside(lab, "limits", "stat -c '%a %u %g' /t"), "750 5 6");
    assert!(inside(lab, "limits", "grep ' /t ' /proc/mounts").contains("noexec"));
    assert!(!succeeds(lab, "limits", "touch /file"), "the root is read-only");
    assert_ne!(inside(lab, "limits", "cat /proc/1/comm"), inside(lab, "plain", "cat /proc/1/comm"));
}

fn devices_are_given(lab: &Lab) {
    assert!(succeeds(lab, "devices", "test -c /dev/f && : <>/dev/f"));
    let opened = "rm -f /d; mknod /d c 10 237 && : <>/d";
    assert!(succeeds(lab, "devices", opened));
    let refused = lab.try_run(&["exec", "k_plain.1", "sh", "-c", opened]);
    assert!(refused.stderr.contains("not permitted"), "{refused:#?}");
    assert!(!succeeds(lab, "plain", "test -e /dev/f"));
}

fn namespaces_are_shared(lab: &Lab) {
    for kind in ["net", "pid", "ipc", "uts", "cgroup"] {
        let read = format!("readlink /proc/self/ns/{kind}");
        let of_host = lab.exec("n1", &["sh", "-c", &read]).trim().to_owned();
        assert_eq!(inside(lab, "host", &read), of_host, "{kind}");
        assert_ne!(inside(lab, "plain", &read), of_host, "{kind}");
    }
    assert_eq!(inside(lab, "host", "hostname"), "n1");
    assert_eq!(inside(lab, "none", "ls /sys/class/net"), "lo");
    assert_eq!(inside(lab, "none", "cat /etc/resolv.conf"), "");
    assert!(!succeeds(lab, "none", "grep ' /dev/shm ' /proc/mounts"));
    assert!(inside(lab, "none", "readlink /proc/1/fd/0").starts_with("/dev/"), "tty");
    assert_ne!(inside(lab, "none", "readlink /proc/1/fd/0"), "/dev/null", "tty");
}

fn security_is_as_asked(lab: &Lab) {
    let status = |service, field: &str| {
        let line = inside(lab, service, &format!("grep '^{field}:' /proc/1/status"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(
        (status("loose", "NoNewPrivs"), status("plain", "NoNewPrivs")),
        ("0".into(), "1".into())
    );
    assert_eq!((status("loose", "Seccomp"), status("plain", "Seccomp")), ("0".into(), "2".into()));
    assert_eq!(status("loose", "CapEff"), format!("{:016x}", 1 << 10));
    let masked = "grep -c ' /proc/' /proc/mounts || true";
    assert_eq!(inside(lab, "loose", masked), "0");
    assert_ne!(inside(lab, "plain", masked), "0");
    assert!(!succeeds(lab, "filtered", "mkdir /made"), "the profile refuses it");
    assert!(succeeds(lab, "filtered", "touch /made") && succeeds(lab, "plain", "mkdir /made"));
}

fn logs_are_kept_within_bounds(lab: &Lab) {
    let said = lab.try_run(&["logs", "k_silent"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:#?}");
    assert!(lab.run(&["logs", "k_journaled"]).contains("to the journal"), "also kept here");
    let task = &lab.running("k_turned")[0].id;
    let files = format!("ls /var/lib/swarm/agent/containers/{task}/1/ | grep container.log");
    eventually(10, "the log is turned", || {
        (lab.run(&["logs", "k_turned"]).contains("3000")).then_some(())
    });
    let files = lab.exec("n1", &["sh", "-c", &files]);
    assert_eq!(files, "container.log\ncontainer.log.1\ncontainer.log.2\n");
    let lines = lab.run(&["logs", "k_turned"]).lines().count();
    assert!((900..1700).contains(&lines), "three files of 64 KiB: {lines} lines");
}

/// `depends_on`, and a platform that no host has.
fn services_wait_for_others(lab: &Lab) {
    let text = r"
services:
  late: {image: busybox, command: sleep 100000, depends_on: [early]}
  early:
    image: busybox
    command: sleep 100000
    deploy: {placement: {constraints: [node.labels.go == yes]}}
  elsewhere: {image: busybox, command: sleep 100000, platform: linux/s390x}
";
    let file = lab.settings().join("w.yml");
    fs::write(&file, text).unwrap();
    lab.run(&["deploy", "-f", file.to_str().unwrap(), "--name", "w", "--detach"]);
    let message = |prefix: &str| {
        let tasks = lab.tasks();
        tasks.into_iter().find(|task| task.name.starts_with(prefix)).map(|task| task.message)
    };
    eventually(10, "it waits", || {
        let late = message("w_late")?;
        let elsewhere = message("w_elsewhere")?;
        (late == "waits until `early` started" && elsewhere.contains("node.platform.arch==s390x"))
            .then_some(())
    });
    lab.run(&["node", "label", "n1", "go=yes"]);
    eventually(20, "both run", || (lab.running("w_").len() == 2).then_some(()));
    let started = |prefix: &str| lab.running(prefix)[0].started_at.clone();
    assert!(started("w_early") <= started("w_late"), "in their order");
}
