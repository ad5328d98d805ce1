//! Reads, checks and resolves a stack file of 5,000 lines and 250 services as a whole process: `swarmctl config` beside
//! `docker stack config`, whose client needs no engine, in alternating runs. A round is 20 runs of each;
//! `BENCH_ROUNDS` sets the number of rounds (5).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

mod file;
mod run;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use swarm_tests::bench::{Case, Figures, Outcome, folder, programs, report, rounds};

use run::Run;

/// Runs of each program in a round.
const RUNS: usize = 20;

const MEDIAN: Case = Case { name: "5,000 lines, whole process, median", unit: "ms" };
const LATE: Case = Case { name: "5,000 lines, whole process, p95", unit: "ms" };
const MEMORY: Case = Case { name: "5,000 lines, peak resident memory", unit: "MiB" };

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((program, arguments)) = arguments.split_first() {
        return run::tell(program, arguments);
    }
    let file = folder()?.join("manifest.yml");
    fs::write(&file, file::text()?)?;
    let count = rounds(5)?;
    let has_docker = has_docker(&file);
    if !has_docker {
        eprintln!(
            "no `docker` with `stack config` is installed (28 has it): only swarmctl is measured"
        );
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=count {
        eprintln!("round {round} of {count}");
        let (mut mine, mut docker) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            mine.push(Run::of(swarmctl(&file)?)?);
            if has_docker {
                docker.push(Run::of(docker_of(&file))?);
            }
        }
        ours.push(figures(&mine));
        theirs.push(figures(&docker));
    }
    let peer = has_docker.then_some(("docker stack config", theirs.as_slice()));
    report("manifest", &[MEDIAN, LATE, MEMORY], &ours, peer)
}

fn swarmctl(file: &Path) -> Outcome<Vec<String>> {
    let program = programs()?.join("swarmctl");
    Ok(words(&[&program.to_string_lossy(), "config", "-q", "-f", &file.to_string_lossy()]))
}

fn docker_of(file: &Path) -> Vec<String> {
    words(&["docker", "stack", "config", "-c", &file.to_string_lossy()])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether a client is installed that knows the command and takes the file.
fn has_docker(file: &Path) -> bool {
    let words = docker_of(file);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn figures(runs: &[Run]) -> Figures {
    let mut times: Vec<f64> = runs.iter().map(|run| run.milliseconds).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or(f64::NAN)
    };
    let memory = runs.iter().map(|run| run.mebibytes).fold(0.0, f64::max);
    Figures::from([(MEDIAN.name, at(50)), (LATE.name, at(95)), (MEMORY.name, memory)])
}
