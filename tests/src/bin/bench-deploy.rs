//! Deploys 60 replicas of `sleep` on an overlay over three hosts, here and on a Docker Swarm of Debian's docker.io,
//! in alternating rounds: the time from deploy to all running, and the memory it takes. `BENCH_ROUNDS` sets the
//! number of rounds (3).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use swarm_tests::bench::{
    Case, Figures, Outcome, folder, output, report, root, rounds, swarmctl, text,
};

const REPLICAS: u32 = 60;
const HOSTS: u32 = 3;
const LAB: &str = "bench";
const STACK: &str = r#"version: "3.8"
services:
  sleeper:
    image: busybox:latest
    command: sleep 100000
    networks: [net]
    deploy: {replicas: 60, endpoint_mode: dnsrr}
networks:
  net:
"#;
/// Brings the image to every host before anything is timed; a Docker Swarm host gets it by `docker import`.
const WARM: &str = r"services:
  warm:
    image: busybox:latest
    command: sleep 100000
    deploy: {mode: global}
";

const SECONDS: Case = Case { name: "deploy to all running", unit: "s" };
const IDLE: Case = Case { name: "memory per host, no container", unit: "MiB" };
const HOST: Case = Case { name: "memory per host, all daemons and shims", unit: "MiB" };
const CONTAINER: Case = Case { name: "memory per container, its shim", unit: "MiB" };

fn main() -> Outcome<()> {
    let rounds = rounds(3)?;
    let stack = folder()?.join("sleeper.yml");
    fs::write(&stack, STACK)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}: swarmctl");
        let figures = measure_ours(&stack);
        swarmctl(&["lab", "down", "--name", LAB])?;
        ours.push(figures?);
        eprintln!("round {round} of {rounds}: Docker Swarm");
        let figures = measure_docker_swarm(&stack);
        docker_swarm(&["down"])?;
        theirs.push(figures?);
    }
    report("deploy", &[SECONDS, IDLE, HOST, CONTAINER], &ours, Some(("Docker Swarm", &theirs)))
}

fn measure_ours(stack: &Path) -> Outcome<Figures> {
    let warm = folder()?.join("warm.yml");
    fs::write(&warm, WARM)?;
    swarmctl(&["lab", "up", "--name", LAB, "--fresh"])?;
    swarmctl(&["deploy", "-f", text(&warm), "--name", "warm"])?;
    swarmctl(&["stack", "rm", "warm"])?;
    let idle = lab_memory()?;
    let begun = Instant::now();
    swarmctl(&["deploy", "-f", text(stack), "--name", "bench", "--settle", "0s"])?;
    let seconds = begun.elapsed().as_secs_f64();
    let busy = lab_memory()?;
    if busy.containers != REPLICAS {
        return Err(format!("{} shims hold {REPLICAS} containers", busy.containers).into());
    }
    Ok(Figures::from([
        (SECONDS.name, seconds),
        (IDLE.name, mebibytes(idle.daemons + idle.shims) / f64::from(HOSTS)),
        (HOST.name, mebibytes(busy.daemons + busy.shims) / f64::from(HOSTS)),
        (CONTAINER.name, mebibytes(busy.shims) / f64::from(REPLICAS)),
    ]))
}

fn measure_docker_swarm(stack: &Path) -> Outcome<Figures> {
    docker_swarm(&["up"])?;
    let idle = docker_swarm_memory()?;
    let seconds = docker_swarm(&["deploy", text(stack), &REPLICAS.to_string()])?;
    let busy = docker_swarm_memory()?;
    let kibibytes = |memory: &BTreeMap<String, f64>, key: &str| {
        memory.get(key).copied().ok_or_else(|| format!("docker-swarm.sh said no `{key}`"))
    };
    Ok(Figures::from([
        (SECONDS.name, seconds.trim().parse()?),
        (IDLE.name, kibibytes(&idle, "host")? / 1024.0),
        (HOST.name, kibibytes(&busy, "host")? / 1024.0),
        (CONTAINER.name, kibibytes(&busy, "container")? / 1024.0),
    ]))
}

fn docker_swarm_memory() -> Outcome<BTreeMap<String, f64>> {
    let mut memory = BTreeMap::new();
    for line in docker_swarm(&["memory"])?.lines() {
        let (key, number) = line.split_once(' ').ok_or_else(|| format!("unexpected: {line}"))?;
        memory.insert(key.to_owned(), number.parse()?);
    }
    Ok(memory)
}

fn docker_swarm(arguments: &[&str]) -> Outcome<String> {
    output(Command::new(root().join("tests/benches/docker-swarm.sh")).args(arguments))
}

/// Memory of the lab's programs in KiB: proportional set sizes, so that shared pages count once.
struct LabMemory {
    daemons: u32,
    shims: u32,
    containers: u32,
}

/// Counts controllers, agents and shims. The lab's own first process of a host stands for the host's init system and
/// is not counted, as systemd is not counted for Docker.
fn lab_memory() -> Outcome<LabMemory> {
    let hosts = pid_namespaces()?;
    let mut memory = LabMemory { daemons: 0, shims: 0, containers: 0 };
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let Ok(namespace) = fs::read_link(folder.join("ns/pid")) else { continue };
        let Ok(command) = fs::read_to_string(folder.join("cmdline")) else { continue };
        if !hosts.contains(&namespace) {
            continue;
        }
        let mut words = command.split('\0');
        let program = words.next().unwrap_or_default();
        if program.ends_with("swarm-controller") || program.ends_with("swarm-agent") {
            memory.daemons += proportional_set_size(&folder)?;
        } else if words.next() == Some("shim") {
            memory.shims += proportional_set_size(&folder)?;
            memory.containers += 1;
        }
    }
    Ok(memory)
}

fn pid_namespaces() -> Outcome<Vec<PathBuf>> {
    let labs: Value = serde_json::from_str(&swarmctl(&["lab", "ls", "-o", "json"])?)?;
    let labs = labs.as_array().ok_or("`lab ls` printed no list")?;
    let lab = labs.iter().find(|lab| lab["name"] == LAB).ok_or("the lab is gone")?;
    let hosts = lab["hosts"].as_array().ok_or("the lab has no hosts")?;
    let pids = hosts.iter().filter_map(|host| host["pid"].as_i64());
    Ok(pids.map(|pid| fs::read_link(format!("/proc/{pid}/ns/pid"))).collect::<Result<_, _>>()?)
}

fn proportional_set_size(folder: &Path) -> Outcome<u32> {
    let rollup = fs::read_to_string(folder.join("smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn mebibytes(kibibytes: u32) -> f64 {
    f64::from(kibibytes) / 1024.0
}
