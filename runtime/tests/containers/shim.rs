//! What outlives whom: the caller, the shim, the container.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use swarm_runtime::{Container, ContainerStatus};

use crate::support::{Fixture, eventually, lives};

fn first_pid(container: &Container) -> i32 {
    match container.status().unwrap() {
        ContainerStatus::Running { pid, .. } | ContainerStatus::Created { pid } => pid,
        ContainerStatus::Exited(record) => panic!("{record:?}"),
    }
}

fn shim(container: &Container) -> Pid {
    Pid::from_raw(container.shim_pid()).unwrap()
}

#[test]
fn a_container_is_found_again_by_its_folder() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let before = container.status().unwrap();
    let again = Container::open(&fixture.bundle()).unwrap();
    assert_eq!(again.status().unwrap(), before);
    let mut socket = again.exit_channel().unwrap().unwrap();
    again.kill(9, true).unwrap();
    let mut byte = [0];
    assert_eq!(socket.read(&mut byte).unwrap(), 1);
    assert_eq!(again.wait().unwrap().code, 137);
    assert!(again.exit_channel().unwrap().is_none());
}

#[test]
fn the_shim_belongs_to_nobody() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let status = fs::read_to_string(format!("/proc/{}/status", container.shim_pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    assert_ne!(parent.parse::<u32>().unwrap(), std::process::id());
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.shim_pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[3], container.shim_pid().to_string(), "it leads its own session");
    // A signal to the caller's group is not its end.
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        kill_process(shim(&container), signal).unwrap();
    }
    assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
}

#[test]
fn what_the_host_ends_when_it_shuts_down_counts_as_lost_with_it() {
    let mut fixture = Fixture::script("trap 'exit 0' TERM; echo ready; while :; do sleep 1; done");
    let container = fixture.start();
    eventually("the program is ready", || fixture.said().contains("ready"));
    kill_process(shim(&container), Signal::TERM).unwrap();
    kill_process(Pid::from_raw(first_pid(&container)).unwrap(), Signal::TERM).unwrap();
    let record = container.wait().unwrap();
    assert_eq!((record.code, record.signal), (137, Some(9)), "not 0: it did not end by itself");
    assert!(record.message.unwrap().contains("the host went down"));
}

#[test]
fn a_program_that_ignores_the_hosts_shutdown_is_killed() {
    let mut fixture = Fixture::script("trap '' TERM; echo ready; sleep 1000 & sleep 1000");
    let container = fixture.start();
    eventually("the program is ready", || fixture.said().contains("ready"));
    kill_process(shim(&container), Signal::TERM).unwrap();
    assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
    let begun = Instant::now();
    assert_eq!(container.wait().unwrap().signal, Some(9));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(40), "{took:?}");
    assert!(container.cgroup().processes().unwrap().is_empty());
}

#[test]
fn a_container_ends_with_its_shim() {
    for started in [true, false] {
        let mut fixture = Fixture::script("sleep 1000 & sleep 1000");
        fixture.options.user = Some("redis".into());
        let container = if started { fixture.start() } else { fixture.create() };
        let pid = first_pid(&container);
        assert!(lives(pid));
        kill_process(shim(&container), Signal::KILL).unwrap();
        eventually("the container's end", || !lives(pid));
        let ContainerStatus::Exited(record) = container.status().unwrap() else {
            panic!("not exited")
        };
        assert_eq!((record.code, record.signal), (137, Some(9)));
        assert!(record.message.unwrap().contains("its shim was killed"));
        container.delete().unwrap();
        assert!(!fixture.bundle().join("shim.sock").exists());
        assert!(!fixture.bundle().join("rootfs").exists());
    }
}

#[test]
fn passed_descriptors_are_kept_and_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    fixture.options.passed_fds = vec![("dns".into(), OwnedFd::from(listener))];
    let container = fixture.start();
    let client = TcpStream::connect(address).unwrap();
    let mut fds = container.take_fds().unwrap();
    assert_eq!(fds.len(), 1);
    let (name, fd) = fds.remove(0);
    assert_eq!(name, "dns");
    let (mut server, _) = TcpListener::from(fd).accept().unwrap();
    server.write_all(b"x").unwrap();
    let mut byte = [0];
    (&client).read_exact(&mut byte).unwrap();
    assert_eq!(container.take_fds().unwrap().len(), 1);
    container.kill(9, false).unwrap();
    container.wait().unwrap();
    eventually("the socket's end", || TcpStream::connect(address).is_err());
    assert!(container.take_fds().unwrap().is_empty());
}

#[test]
fn deleting_a_running_container_ends_it() {
    let mut fixture = Fixture::script("sleep 1000 & sleep 1000");
    let container = fixture.start();
    let pid = first_pid(&container);
    container.delete().unwrap();
    assert!(!lives(pid));
    let mut fixture = Fixture::new(&["true"]);
    let container = fixture.create();
    container.delete().unwrap();
    assert!(container.start().is_err());
}

#[test]
fn nonsense_on_the_control_socket_harms_nobody() {
    use std::os::unix::net::UnixStream;
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let path = fixture.bundle().join("shim.sock");
    let mut open = Vec::new();
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x05\0\0\0hello", b"\x01", b""] {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.write_all(bytes).unwrap();
        open.push(socket);
    }
    assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
    for socket in &mut open[..2] {
        assert_eq!(socket.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn a_shim_is_small() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    container.status().unwrap();
    let rollup =
        fs::read_to_string(format!("/proc/{}/smaps_rollup", container.shim_pid())).unwrap();
    let private: u64 = rollup
        .lines()
        .filter_map(|line| line.strip_prefix("Pss_Anon:"))
        .filter_map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .sum();
    assert!(private <= 400, "{private} KiB private\n{rollup}");
}

#[test]
fn the_program_tells_its_version_and_refuses_other_words() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_swarm-runtime")).args(arguments).output().unwrap()
    };
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("swarm-runtime 0."));
    let features: serde_json::Value = serde_json::from_slice(&run(&["features"]).stdout).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert_eq!(run(&["run"]).status.code(), Some(2));
}

#[test]
fn a_torn_record_is_no_container() {
    let mut fixture = Fixture::new(&["true"]);
    fs::write(fixture.bundle().join("container.json"), "").unwrap();
    fs::write(fixture.bundle().join("exit.json"), "{}").unwrap();
    assert!(Container::open(&fixture.bundle()).is_err());
    let container = fixture.start();
    assert_eq!(container.wait().unwrap().code, 0);
}

#[test]
fn two_shims_never_share_a_folder() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    // As if the record were not written yet when the caller's successor tries.
    let record = fixture.bundle().join("container.json");
    let aside = fixture.bundle().join("aside.json");
    fs::rename(&record, &aside).unwrap();
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.ends_with("another shim is at work in the container's folder"), "{error}");
    fs::rename(&aside, &record).unwrap();
    assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
}
