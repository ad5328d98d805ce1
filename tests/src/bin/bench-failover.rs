//! Kills the leading controller again and again, and a whole host once a round: how long until the next write is
//! accepted, and until the lost tasks run elsewhere. `BENCH_ROUNDS` sets the number of rounds (10).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_tests::bench::{Case, Figures, Outcome, folder, report, rounds, swarmctl, text};

const LAB: &str = "bench";
const STACK: &str = r"services:
  sleeper:
    image: busybox:latest
    command: sleep 100000
    deploy: {replicas: 6}
";
const WRITE: Case = Case { name: "leader killed to next accepted scale", unit: "s" };
const MOVE: Case = Case { name: "host killed to its tasks running elsewhere", unit: "s" };

fn main() -> Outcome<()> {
    let rounds = rounds(10)?;
    let stack = folder()?.join("failover.yml");
    fs::write(&stack, STACK)?;
    swarmctl(&["lab", "up", "--name", LAB, "--fresh"])?;
    let figures = swarmctl(&["deploy", "-f", text(&stack), "--name", "bench"])
        .and_then(|_| (1..=rounds).map(measure).collect::<Outcome<Vec<Figures>>>());
    swarmctl(&["lab", "down", "--name", LAB])?;
    report("failover", &[WRITE, MOVE], &figures?, None)
}

fn measure(round: usize) -> Outcome<Figures> {
    eprintln!("round {round}");
    let leader = leader()?;
    let replicas = if round.is_multiple_of(2) { 6 } else { 7 };
    swarmctl(&["lab", "kill", "--name", LAB, &leader, "--only", "controller"])?;
    let begun = Instant::now();
    swarmctl(&["service", "scale", "--detach", &format!("bench_sleeper={replicas}")])?;
    let write = begun.elapsed().as_secs_f64();
    swarmctl(&["lab", "start", "--name", LAB, &leader])?;
    wait(
        "all controllers and tasks are back",
        || Ok(voters()? == 3 && running(None)? == replicas),
    )?;

    let lost = followers()?.pop().ok_or("no follower")?;
    swarmctl(&["lab", "kill", "--name", LAB, &lost])?;
    let begun = Instant::now();
    wait("the tasks run elsewhere", || Ok(running(Some(&lost))? == replicas))?;
    let moved = begun.elapsed().as_secs_f64();
    swarmctl(&["lab", "start", "--name", LAB, &lost])?;
    wait("the host is back", || Ok(ready()? == 3 && running(None)? == replicas))?;
    Ok(Figures::from([(WRITE.name, write), (MOVE.name, moved)]))
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

/// Running tasks that are not on `lost`.
fn running(lost: Option<&str>) -> Outcome<usize> {
    let counts = |task: &&Value| {
        task["state"] == "running" && task["desired"] == "running" && task["node"].as_str() != lost
    };
    Ok(list(&["ps"])?.iter().filter(counts).count())
}

fn ready() -> Outcome<usize> {
    Ok(list(&["node", "ls"])?.iter().filter(|node| node["status"] == "ready").count())
}

fn voters() -> Outcome<usize> {
    let labs = list(&["lab", "ls"])?;
    let lab = labs.iter().find(|lab| lab["name"] == LAB).ok_or("the lab is gone")?;
    let runs = |host: &&Value| {
        let programs = host["programs"].as_array();
        programs.is_some_and(|all| {
            all.iter().any(|one| one["name"] == "controller" && one["pid"].is_i64())
        })
    };
    Ok(lab["hosts"].as_array().ok_or("no hosts")?.iter().filter(runs).count())
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

fn followers() -> Outcome<Vec<String>> {
    let leader = leader()?;
    let nodes = list(&["node", "ls"])?;
    let names = nodes.iter().filter_map(|node| node["hostname"].as_str());
    Ok(names.filter(|name| *name != leader).map(str::to_owned).collect())
}
