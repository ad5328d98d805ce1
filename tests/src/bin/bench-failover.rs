//! How long until the next write is accepted after the leading controller was killed, frozen or cut off, or its disk was
//! filled, and until a lost host's tasks run elsewhere. `BENCH_ROUNDS` sets the number of kills (100); the other cases
//! take a quarter of it, and hosts are lost in a tenth. Each host's disk is a file system of its own in a file, so that it
//! can be filled; how long syncs take is printed above the figures.
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]
#![expect(clippy::print_stdout, reason = "the figures")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_tests::bench::{Outcome, folder, output, report_spread, rounds, swarmctl, text};

const LAB: &str = "bench";
const TASKS: usize = 6;
const SETTLE: Duration = Duration::from_millis(500);
const STACK: &str = r"services:
  sleeper:
    image: busybox:latest
    command: sleep 100000
    deploy: {replicas: 6}
";

/// What happens to the leader.
#[derive(Clone, Copy)]
enum Loss {
    Killed,
    Paused,
    CutOff,
    OutOfDisk,
}

impl Loss {
    fn case(self) -> &'static str {
        match self {
            Self::Killed => "leader killed to next accepted write",
            Self::Paused => "leader's host frozen to next accepted write",
            Self::CutOff => "leader's host cut off to next accepted write",
            Self::OutOfDisk => "leader's disk filled to next accepted write",
        }
    }

    fn inflict(self, host: &str) -> Outcome<()> {
        match self {
            Self::Killed => lab("kill", &[host, "--only", "controller"]),
            Self::Paused => lab("pause", &[host]),
            Self::CutOff => lab("cut", &[host]),
            Self::OutOfDisk => Disk::of(host).fill(),
        }
    }

    fn mend(self, host: &str) -> Outcome<()> {
        match self {
            Self::Killed => lab("start", &[host]),
            Self::Paused => lab("resume", &[host]),
            Self::CutOff => lab("heal", &[]),
            Self::OutOfDisk => Disk::of(host).make_room(),
        }
    }
}

fn main() -> Outcome<()> {
    let rounds = rounds(100)?;
    let stack = folder()?.join("failover.yml");
    fs::write(&stack, STACK)?;
    lab("up", &["--fresh"])?;
    let figures = Disk::give_all()
        .and_then(|()| swarmctl(&["deploy", "-f", text(&stack), "--name", "bench"]))
        .and_then(|_| measure_all(rounds));
    Disk::take_all()?;
    lab("down", &[])?;
    let (syncs, figures) = figures?;
    println!("syncs of the controllers' disks, half and 99 of 100 at most: {syncs}");
    report_spread("failover", "s", &figures)
}

/// A host's disk: a file system in a file, in place of the folder that the lab gave it.
struct Disk {
    host: String,
    folder: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// As much as a host's images and a few snapshots need.
    const SIZE: &str = "1G";

    fn of(host: &str) -> Self {
        let folder = PathBuf::from(format!("/var/lib/swarm-lab/{LAB}/{host}/lib"));
        Self { host: host.to_owned(), image: folder.with_extension("img"), folder }
    }

    fn all() -> [Self; 3] {
        ["n1", "n2", "n3"].map(Self::of)
    }

    /// Moves every host's files to a disk of its own, one host after the other.
    fn give_all() -> Outcome<()> {
        for disk in Self::all() {
            lab("kill", &[&disk.host])?;
            run("truncate", &["-s", Self::SIZE, text(&disk.image)])?;
            run("mkfs.ext4", &["-q", "-m", "0", "-d", text(&disk.folder), text(&disk.image)])?;
            run("mount", &["-o", "loop", text(&disk.image), text(&disk.folder)])?;
            lab("start", &[&disk.host])?;
            wait("the host is back on its disk", || Ok(whole()? && ready()? == 3))?;
        }
        Ok(())
    }

    /// Unmounts what is mounted.
    fn take_all() -> Outcome<()> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        for disk in Self::all() {
            if mounts.contains(&format!(" {} ", text(&disk.folder))) {
                lab("kill", &[&disk.host])?;
                run("umount", &[text(&disk.folder)])?;
            }
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    fn fill(&self) -> Outcome<()> {
        let free = run("stat", &["-f", "-c", "%a %S", text(&self.folder)])?;
        let mut numbers = free.split_whitespace().map(str::parse::<u64>);
        let (Some(blocks), Some(size)) = (numbers.next(), numbers.next()) else {
            return Err(format!("stat said `{free}`").into());
        };
        // The file system needs some for itself; the rest is written until nothing fits.
        let bytes = (blocks? * size?).saturating_sub(4 << 20).to_string();
        run("fallocate", &["-l", &bytes, text(&self.filler())])?;
        let mut file = fs::File::options().append(true).open(self.filler())?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Outcome<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    output(Command::new(program).args(arguments))
}

/// Seconds that each round took, by case.
type Figures = Vec<(&'static str, Vec<f64>)>;

/// How long syncs take, and the figures.
fn measure_all(rounds: usize) -> Outcome<(String, Figures)> {
    let before = running(None)?;
    let mut figures = Vec::new();
    for (loss, rounds) in [
        (Loss::Killed, rounds),
        (Loss::Paused, rounds.div_ceil(4)),
        (Loss::CutOff, rounds.div_ceil(4)),
        (Loss::OutOfDisk, rounds.div_ceil(4)),
    ] {
        let took = (1..=rounds).map(|round| lose_leader(loss, round)).collect::<Outcome<_>>()?;
        figures.push((loss.case(), took));
    }
    if running(None)? != before {
        return Err("a task was replaced although only controllers changed".into());
    }
    let moved = (1..=rounds.div_ceil(10)).map(|_| lose_host()).collect::<Outcome<_>>()?;
    figures.push(("host killed to its tasks running elsewhere", moved));
    Ok((syncs()?, figures))
}

fn lose_leader(loss: Loss, round: usize) -> Outcome<f64> {
    let leader = leader()?;
    loss.inflict(&leader)?;
    let took = match loss {
        Loss::OutOfDisk => write_until_another_leads(&leader)?,
        Loss::Killed | Loss::Paused | Loss::CutOff => write(&format!("round={round}"))?,
    };
    loss.mend(&leader)?;
    eprintln!("{} ({leader}): {took:.3} s", loss.case());
    wait("all controllers and tasks are back", || {
        Ok(whole()? && ready()? == 3 && running(None)?.len() == TASKS)
    })?;
    // One loss at a time: the controllers also need a moment to find each other.
    std::thread::sleep(SETTLE);
    Ok(took)
}

/// Seconds until a write is accepted.
fn write(label: &str) -> Outcome<f64> {
    let begun = Instant::now();
    swarmctl(&["node", "label", "n1", label])?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The slowest write until the log's files of a full disk are used up and another host leads: they were made long enough
/// beforehand.
fn write_until_another_leads(full: &str) -> Outcome<f64> {
    const WRITES: usize = 2_000;
    let value = "0".repeat(64 << 10);
    let mut slowest: f64 = 0.0;
    for number in 0..WRITES {
        slowest = slowest.max(write(&format!("fill={value}{number}"))?);
        if number % 10 == 9 && leader()? != full {
            return Ok(slowest);
        }
    }
    Err(format!("{full} still leads after {WRITES} writes on its full disk").into())
}

fn lose_host() -> Outcome<f64> {
    let leader = leader()?;
    let lost = busiest(&leader)?;
    lab("kill", &[&lost])?;
    let begun = Instant::now();
    wait("the tasks run elsewhere", || Ok(running(Some(&lost))?.len() == TASKS))?;
    let took = begun.elapsed().as_secs_f64();
    lab("start", &[&lost])?;
    wait("the host is back", || Ok(ready()? == 3 && running(None)?.len() == TASKS))?;
    Ok(took)
}

/// The host with the most tasks, but for the leader's.
fn busiest(leader: &str) -> Outcome<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for task in list(&["ps"])? {
        let node = task["node"].as_str().unwrap_or_default();
        if task["state"] == "running" && node != leader {
            *counts.entry(node.to_owned()).or_default() += 1;
        }
    }
    let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
    Ok(busiest.ok_or("no follower has a task")?.0)
}

fn lab(verb: &str, arguments: &[&str]) -> Outcome<()> {
    swarmctl(&[&["lab", verb, "--name", LAB], arguments].concat()).map(|_| ())
}

fn wait(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let end = Instant::now() + Duration::from_mins(1);
    while !holds()? {
        if Instant::now() > end {
            return Err(format!("not within 60 s: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn list(arguments: &[&str]) -> Outcome<Vec<Value>> {
    let list: Value = serde_json::from_str(&swarmctl(&[arguments, &["-o", "json"]].concat())?)?;
    list.as_array().cloned().ok_or_else(|| "swarmctl printed no list".into())
}

/// Running tasks that are not on `lost`: their identities, and when they were started.
fn running(lost: Option<&str>) -> Outcome<BTreeSet<String>> {
    let counts = |task: &&Value| {
        task["state"] == "running" && task["desired"] == "running" && task["node"].as_str() != lost
    };
    let tasks = list(&["ps"])?;
    let running = tasks.iter().filter(counts);
    Ok(running
        .map(|task| format!("{} {} {}", task["id"], task["pid"], task["started_at"]))
        .collect())
}

fn ready() -> Outcome<usize> {
    Ok(list(&["node", "ls"])?.iter().filter(|node| node["status"] == "ready").count())
}

/// How long the controllers' syncs take.
fn syncs() -> Outcome<String> {
    let status: Value = serde_json::from_str(&swarmctl(&["cluster", "status", "-o", "json"])?)?;
    let milliseconds = |micros: &Value| micros.as_f64().unwrap_or(f64::NAN) / 1e3;
    let members = status["members"].as_array().ok_or("cluster status tells no members")?;
    let told = members.iter().map(|member| {
        let (half, most) = (&member["sync_p50_us"], &member["sync_p99_us"]);
        format!("{:.1}/{:.1} ms", milliseconds(half), milliseconds(most))
    });
    Ok(told.collect::<Vec<_>>().join(", "))
}

/// Whether every controller answers and has all of the log.
fn whole() -> Outcome<bool> {
    let status: Value = serde_json::from_str(&swarmctl(&["cluster", "status", "-o", "json"])?)?;
    let members = status["members"].as_array().ok_or("cluster status tells no members")?;
    let is_there = |member: &&Value| member["reachable"] == true && member["lag"] == 0;
    Ok(members.iter().filter(is_there).count() == 3)
}

fn leader() -> Outcome<String> {
    let mut found = None;
    wait("a controller leads", || {
        let nodes = list(&["node", "ls"])?;
        let leader = nodes.iter().find(|node| node["controller"]["member"] == "leader");
        found = leader.and_then(|node| node["hostname"].as_str()).map(str::to_owned);
        Ok(found.is_some())
    })?;
    found.ok_or_else(|| "no leader".into())
}
