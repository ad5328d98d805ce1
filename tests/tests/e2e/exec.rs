//! Programs in containers from a workstation, without a quorum, and after a restore.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, eventually};

const ONE: &[&str] = &["--hosts", "1", "--controllers", "1"];

const SLEEPER: &str = r"
services:
  sleeper:
    image: busybox
    command: sleep 100000
    environment:
      COLOUR: blue
";

/// Reads a terminal until it has shown this.
fn shows(terminal: &mut File, wanted: &str) {
    let mut shown = String::new();
    while !shown.contains(wanted) {
        let mut buffer = [0; 256];
        let got = terminal.read(&mut buffer).unwrap_or(0);
        assert!(got > 0, "the terminal ended after {shown:?}");
        shown.push_str(&String::from_utf8_lossy(&buffer[..got]));
    }
}

#[test]
fn a_program_runs_in_a_container_as_asked() {
    let lab = Lab::with("exec", ONE);
    lab.deploy("x", SLEEPER);
    let script = "echo $COLOUR; id -u; echo oops >&2; exit 7";
    let said = lab.try_run(&["exec", "x_sleeper", "sh", "-c", script]);
    assert_eq!((said.code, said.stdout.as_str()), (7, "blue\n0\n"), "{said:#?}");
    assert_eq!(said.stderr, "note: in x_sleeper.1 on n1\noops\n");
    let said = lab.try_run(&[
        "exec",
        "-u",
        "1:1",
        "-w",
        "/tmp",
        "-e",
        "COLOUR=red",
        "x_sleeper.1",
        "sh",
        "-c",
        "pwd; id -u; echo $COLOUR",
    ]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "/tmp\n1\nred\n"), "{said:#?}");
    let said = lab.try_run(&["exec", "x_sleeper", "nothing"]);
    assert_eq!(said.code, 127, "{said:#?}");
    assert!(said.stderr.contains("exec `nothing`: no such file or directory"), "{said:#?}");
    let said = lab.try_run(&["exec", "x_sleeeper", "true"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("there is no service or task `x_sleeeper`"), "{said:#?}");
    // Much input, through and back.
    let mut child = lab
        .command(&["exec", "-i", "x_sleeper.1", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let given = vec![b'x'; 3_000_000];
    let writing = std::thread::spawn(move || input.write_all(&given).map(|()| given.len()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout.len(), writing.join().unwrap().unwrap());
    assert!(output.status.success());
}

#[test]
fn a_terminal_works_and_a_killed_client_leaves_nothing() {
    let lab = Lab::with("exec-tty", ONE);
    lab.deploy("x", SLEEPER);
    let before = lab.contained("n1");
    let size = Winsize { ws_row: 31, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let slave = || -> OwnedFd { terminal.slave.as_fd().try_clone_to_owned().unwrap() };
    let script = "stty size; until stty size | grep 50; do sleep 0.05; done; \
                  read line; echo got $line; cat";
    let mut child = lab
        .command(&["exec", "-it", "x_sleeper", "sh", "-c", script])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut master = File::from(terminal.master);
    shows(&mut master, "31 77");
    let larger = rustix::termios::Winsize { ws_row: 50, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal.slave, larger).unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGWINCH).unwrap();
    shows(&mut master, "50 99");
    master.write_all(b"word\r").unwrap();
    shows(&mut master, "got word");
    master.write_all(b"\x03").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(lab.contained("n1"), before);

    // Deaf to everything that can be said politely.
    let script = "trap '' HUP INT TERM; echo up; while :; do sleep 1000; done";
    let mut child = lab
        .command(&["exec", "x_sleeper.1", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert!(lab.contained("n1").len() > before.len());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(15, "nothing of the program is left", || {
        (lab.contained("n1") == before).then_some(())
    });
}

#[test]
fn without_a_quorum_one_still_looks_and_acts_in_containers() {
    let lab = Lab::up("noquorum");
    lab.deploy("x", SLEEPER);
    let host = lab.running("x_sleeper")[0].node.clone();
    for other in ["n1", "n2", "n3"].iter().filter(|other| **other != host) {
        lab.lab("kill", &[other, "--only", "controller"]);
    }
    for command in [
        &["ps"][..],
        &["node", "ls"],
        &["stack", "ls"],
        &["service", "ls"],
        &["volume", "ls"],
        &["events"],
    ] {
        let said = lab.try_run(command);
        assert_eq!(said.code, 0, "{command:?}: {said:#?}");
        let words = format!("no leader: shown as {host} knew it at ");
        assert!(said.stderr.starts_with(&words), "{command:?}: {said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    let said = lab.try_run(&["logs", "x_sleeper"]);
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(said.stderr.contains("no leader: these are the tasks that"), "{said:#?}");
    let said = lab.try_run(&["exec", "x_sleeper", "echo", "still here"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "still here\n"), "{said:#?}");
    let said = lab.try_run(&["service", "scale", "x_sleeper=2", "--detach"]);
    assert_eq!(said.code, 1, "a write must be refused: {said:#?}");
    // With no controller at all, a host answers for itself.
    lab.lab("kill", &[&host, "--only", "controller"]);
    let local =
        |arguments: &[&str]| lab.try_exec(&host, &[&["swarmctl", "--local"], arguments].concat());
    let said = local(&["ps", "-o", "name"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "x_sleeper.1\n"), "{said:#?}");
    let said = local(&["exec", "x_sleeper", "sh", "-c", "echo $COLOUR >/proc/1/fd/1; exit 9"]);
    assert_eq!(said.code, 9, "{said:#?}");
    eventually(10, "its log says it", || {
        let said = local(&["logs", "x_sleeper", "--raw"]);
        assert_eq!(said.code, 0, "{said:#?}");
        (said.stdout == "blue\n").then_some(())
    });
    let said = local(&["node", "ls"]);
    assert_eq!(said.code, 2, "{said:#?}");
}

#[test]
fn a_lost_cluster_is_restored_and_its_containers_go_on() {
    let lab = Lab::up("restore");
    lab.deploy("x", &SLEEPER.replace("    command", "    deploy: {replicas: 3}\n    command"));
    let tasks = lab.running("x_sleeper");
    let hosts = ["n1", "n2", "n3"];
    let before = hosts.map(|host| lab.contained(host));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let said = lab.try_run(&["cluster", "backup", file.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:#?}");
    for host in hosts {
        lab.lab("kill", &[host, "--only", "controller"]);
        lab.exec(host, &["rm", "-rf", "/var/lib/swarm/controller"]);
    }
    let disk = format!("/var/lib/swarm-lab/{}/n1/lib", lab.name());
    std::fs::copy(&file, format!("{disk}/backup")).unwrap();
    let command =
        ["swarm-controller", "restore", "/var/lib/swarm/backup", "--advertise", "10.77.0.1"];
    let said = lab.try_exec("n1", &command);
    assert_eq!(said.code, 1, "a sealed backup was restored without its key: {said:#?}");
    std::fs::copy(folder.path().join("backup.key"), format!("{disk}/key")).unwrap();
    let said = lab.try_exec("n1", &[&command[..], &["--key-file", "/var/lib/swarm/key"]].concat());
    assert_eq!(said.code, 0, "{said:#?}");
    lab.lab("start", &["n1"]);
    let back = eventually(60, "all agents are back", || {
        let nodes = lab.try_run(&["node", "ls", "-o", "json"]);
        let nodes: serde_json::Value = serde_json::from_str(&nodes.stdout).ok()?;
        let ready = nodes.as_array()?.iter().filter(|node| node["status"] == "ready").count();
        (ready == 3).then(|| lab.running("x_sleeper")).filter(|tasks| tasks.len() == 3)
    });
    assert_eq!(back, tasks);
    assert_eq!(hosts.map(|host| lab.contained(host)), before, "not one container was touched");
    lab.run(&["service", "scale", "x_sleeper=4"]);
}
