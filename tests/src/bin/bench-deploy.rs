//! Deploys 60 replicas of `sleep` on an overlay over three hosts, here and on a Docker Swarm of Debian's docker.io,
//! in alternating rounds: the time from deploy to all running, and the memory it takes. Prints a table and writes
//! `target/bench/deploy.json`. `BENCH_ROUNDS` sets the number of rounds (3).
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

const REPLICAS: usize = 60;
const HOSTS: usize = 3;
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

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What one round measured: case to number.
type Figures = BTreeMap<&'static str, f64>;

const SECONDS: &str = "deploy to all running";
const HOST: &str = "memory per host, all daemons and shims";
const IDLE: &str = "memory per host, no container";
const CONTAINER: &str = "memory per container, its shim";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let rounds = match std::env::var("BENCH_ROUNDS") {
        Ok(text) => text.parse()?,
        Err(_) => 3,
    };
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;
    let stack = folder.join("sleeper.yml");
    fs::write(&stack, STACK)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}: swarmctl");
        let figures = measure_ours(&folder);
        swarmctl(&["lab", "down", "--name", LAB])?;
        ours.push(figures?);
        eprintln!("round {round} of {rounds}: Docker Swarm");
        let figures = measure_docker_swarm(&stack);
        docker_swarm(&["down"])?;
        theirs.push(figures?);
    }
    let table = report(&ours, &theirs);
    fs::write(folder.join("deploy.json"), serde_json::to_string_pretty(&table)?)?;
    Ok(())
}

fn measure_ours(folder: &Path) -> Outcome<Figures> {
    let warm = folder.join("warm.yml");
    fs::write(&warm, WARM)?;
    swarmctl(&["lab", "up", "--name", LAB, "--fresh"])?;
    swarmctl(&["deploy", "-f", text(&warm), "--name", "warm"])?;
    swarmctl(&["stack", "rm", "warm"])?;
    let idle = lab_memory()?;
    let begun = Instant::now();
    swarmctl(&[
        "deploy",
        "-f",
        text(&folder.join("sleeper.yml")),
        "--name",
        "bench",
        "--settle",
        "0s",
    ])?;
    let seconds = begun.elapsed().as_secs_f64();
    let busy = lab_memory()?;
    if busy.containers != REPLICAS {
        return Err(format!("{} shims hold {REPLICAS} containers", busy.containers).into());
    }
    Ok(Figures::from([
        (SECONDS, seconds),
        (IDLE, mebibytes(idle.daemons + idle.shims) / per(HOSTS)),
        (HOST, mebibytes(busy.daemons + busy.shims) / per(HOSTS)),
        (CONTAINER, mebibytes(busy.shims) / per(REPLICAS)),
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
        (SECONDS, seconds.trim().parse()?),
        (IDLE, kibibytes(&idle, "host")? / 1024.0),
        (HOST, kibibytes(&busy, "host")? / 1024.0),
        (CONTAINER, kibibytes(&busy, "container")? / 1024.0),
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

/// Memory of the lab's programs in KiB: proportional set sizes, so that shared pages count once.
struct LabMemory {
    daemons: u64,
    shims: u64,
    containers: usize,
}

/// Counts controllers, agents and shims. The lab's own first process of a host stands for the host's init system and
/// is not counted, as systemd is not counted for Docker.
fn lab_memory() -> Outcome<LabMemory> {
    let labs: Value = serde_json::from_str(&swarmctl(&["lab", "ls", "-o", "json"])?)?;
    let labs = labs.as_array().ok_or("`lab ls` printed no list")?;
    let lab = labs.iter().find(|lab| lab["name"] == LAB).ok_or("the lab is gone")?;
    let hosts = lab["hosts"].as_array().ok_or("the lab has no hosts")?;
    let namespaces: Vec<PathBuf> = hosts
        .iter()
        .filter_map(|host| host["pid"].as_i64())
        .map(|pid| fs::read_link(format!("/proc/{pid}/ns/pid")))
        .collect::<Result<_, _>>()?;
    let mut memory = LabMemory { daemons: 0, shims: 0, containers: 0 };
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let Ok(namespace) = fs::read_link(folder.join("ns/pid")) else { continue };
        let Ok(command) = fs::read_to_string(folder.join("cmdline")) else { continue };
        if !namespaces.contains(&namespace) {
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

fn proportional_set_size(folder: &Path) -> Outcome<u64> {
    let rollup = fs::read_to_string(folder.join("smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn report(ours: &[Figures], theirs: &[Figures]) -> Value {
    println!(
        "{REPLICAS} replicas of sleep on an overlay over {HOSTS} hosts, medians of {} rounds",
        ours.len()
    );
    println!("{:<42} {:>5} {:>12} {:>14} {:>7}", "", "", "swarmctl", "Docker Swarm", "ratio");
    let mut rows = Vec::new();
    for (case, unit) in [(SECONDS, "s"), (IDLE, "MiB"), (HOST, "MiB"), (CONTAINER, "MiB")] {
        let (mine, peer) = (median(ours, case), median(theirs, case));
        println!("{case:<42} {unit:>5} {mine:>12.2} {peer:>14.2} {:>6.1}%", mine / peer * 100.0);
        rows.push(json!({
            "case": case, "unit": unit, "better": "lower", "ours": mine,
            "peers": {"Docker Swarm 20.10": peer},
        }));
    }
    Value::from(rows)
}

fn median(rounds: &[Figures], case: &str) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(|figures| figures[case]).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn swarmctl(arguments: &[&str]) -> Outcome<String> {
    let settings = root().join("target/bench/settings");
    let mut command = Command::new(root().join("target/release/swarmctl"));
    output(command.args(arguments).env("XDG_CONFIG_HOME", settings))
}

fn docker_swarm(arguments: &[&str]) -> Outcome<String> {
    output(Command::new(root().join("tests/benches/docker-swarm.sh")).args(arguments))
}

fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the project's folder has a plain name")
}

fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

fn per(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small count"))
}
