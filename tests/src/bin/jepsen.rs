//! Registers on real controllers of a lab, under every kind of fault, for so many minutes: `jepsen MINUTES [--stale]`.
//! Prints one line; fails, and keeps the history in `target/jepsen`, when it is not linearizable or too little happened.
//! With `--stale`, reads are answered from each controller's own state, and the run fails unless that is noticed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says how it went")]

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use swarm_tests::bench::{Outcome, programs, root};
use swarm_tests::jepsen::{Fault, Hosts, Load, Nemesis, Report, run};
use swarm_tests::linearizability::{Answer, Operation, Request, Verdict};
use swarm_tests::random::Random;

const LAB: &str = "jepsen";
const HOSTS: u8 = 5;
/// What must have happened in each minute for a run to prove anything: 50,000 operations and 30 changes of leader in 30.
const OPERATIONS: f64 = 1_667.0;
const LEADER_CHANGES: f64 = 1.0;

fn main() -> Outcome<()> {
    let mut minutes = 30.0;
    let mut stale = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--stale" => stale = true,
            number => minutes = number.parse::<f64>()?,
        }
    }
    let folder = root().join("target/jepsen");
    fs::create_dir_all(&folder)?;
    let hosts = Hosts::of(&programs()?, &folder.join("settings"), LAB, HOSTS);
    let count = HOSTS.to_string();
    hosts.lab("up", &["--fresh", "--hosts", &count, "--controllers", &count])?;
    let seed = u64::from(std::process::id());
    let load = Load { clients: 4, registers: 8, rest: Duration::from_millis(60), stale, seed };
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let report = run(&hosts, &load, |nemesis| torment(nemesis, seed, end));
    hosts.lab("down", &[])?;
    let report = report?;
    println!("jepsen: {report}");
    if stale {
        return match report.verdict {
            Verdict::Violation(_) => Ok(()),
            _ => Err("stale reads were not noticed".into()),
        };
    }
    let complaint = report.complaint(floor(OPERATIONS * minutes), floor(LEADER_CHANGES * minutes));
    let Some(complaint) = complaint else { return Ok(()) };
    let path = folder.join(format!("history-{seed}.json"));
    fs::write(&path, text(&report)?)?;
    Err(format!("{complaint}\nthe history is in {}", path.display()).into())
}

/// One fault after the other, of all kinds in turn, until the time is over.
fn torment(nemesis: &mut Nemesis<'_>, seed: u64, end: Instant) -> Outcome<()> {
    let mut random = Random::new(seed);
    for fault in Fault::ALL.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        std::thread::sleep(Duration::from_millis(random.between(500, 2_500)));
        let lasting = Duration::from_millis(random.between(500, 4_000));
        eprintln!("{fault} for {} ms", lasting.as_millis());
        nemesis.inflict(*fault, &mut random, lasting)?;
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
fn floor(number: f64) -> usize {
    number.max(0.0) as usize
}

/// The history as JSON: moments are nanoseconds since the run's begin.
fn text(report: &Report) -> Outcome<String> {
    let operation = |made: &Operation<Request, Answer>| {
        json!({
            "client": made.client, "key": made.key, "request": format!("{:?}", made.request),
            "answer": made.answer.as_ref().map(|answer| format!("{answer:?}")),
            "called": made.called, "returned": made.returned,
        })
    };
    let operations: Vec<_> = report.history.iter().map(operation).collect();
    Ok(serde_json::to_string_pretty(&operations)?)
}
