//! How long until the next write is accepted after the leading controller was killed, frozen or cut off, and until a
//! lost host's tasks run elsewhere. `BENCH_ROUNDS` sets the number of kills (100); the other cases take a quarter of
//! it, and hosts are lost in a tenth.
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_tests::bench::{Outcome, folder, report_spread, rounds, swarmctl, text};

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
}

impl Loss {
    fn case(self) -> &'static str {
        match self {
            Self::Killed => "leader killed to next accepted write",
            Self::Paused => "leader's host frozen to next accepted write",
            Self::CutOff => "leader's host cut off to next accepted write",
        }
    }

    fn inflict(self, host: &str) -> Outcome<()> {
        match self {
            Self::Killed => lab("kill", &[host, "--only", "controller"]),
            Self::Paused => lab("pause", &[host]),
            Self::CutOff => lab("cut", &[host]),
        }
    }

    fn mend(self, host: &str) -> Outcome<()> {
        match self {
            Self::Killed => lab("start", &[host]),
            Self::Paused => lab("resume", &[host]),
            Self::CutOff => lab("heal", &[]),
        }
    }
}

fn main() -> Outcome<()> {
    let rounds = rounds(100)?;
    let stack = folder()?.join("failover.yml");
    fs::write(&stack, STACK)?;
    lab("up", &["--fresh"])?;
    let figures = swarmctl(&["deploy", "-f", text(&stack), "--name", "bench"])
        .and_then(|_| measure_all(rounds));
    lab("down", &[])?;
    report_spread("failover", "s", &figures?)
}

fn measure_all(rounds: usize) -> Outcome<Vec<(&'static str, Vec<f64>)>> {
    let before = running(None)?;
    let mut figures = Vec::new();
    for (loss, rounds) in [
        (Loss::Killed, rounds),
        (Loss::Paused, rounds.div_ceil(4)),
        (Loss::CutOff, rounds.div_ceil(4)),
    ] {
        let took = (1..=rounds).map(|round| lose_leader(loss, round)).collect::<Outcome<_>>()?;
        figures.push((loss.case(), took));
    }
    if running(None)? != before {
        return Err("a task was replaced although only controllers changed".into());
    }
    let moved = (1..=rounds.div_ceil(10)).map(|_| lose_host()).collect::<Outcome<_>>()?;
    figures.push(("host killed to its tasks running elsewhere", moved));
    Ok(figures)
}

fn lose_leader(loss: Loss, round: usize) -> Outcome<f64> {
    let leader = leader()?;
    loss.inflict(&leader)?;
    let begun = Instant::now();
    swarmctl(&["node", "label", "n1", &format!("round={round}")])?;
    let took = begun.elapsed().as_secs_f64();
    loss.mend(&leader)?;
    eprintln!("{} ({leader}): {took:.3} s", loss.case());
    wait("all controllers and tasks are back", || {
        Ok(whole()? && ready()? == 3 && running(None)?.len() == TASKS)
    })?;
    // One loss at a time: the controllers also need a moment to find each other.
    std::thread::sleep(SETTLE);
    Ok(took)
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
