//! The README's main job once everything is built: from `lab down` to the prompt. `BENCH_ROUNDS` sets the number of
//! rounds (5).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

use std::process::Command;
use std::time::Instant;

use swarm_tests::bench::{Case, Figures, Outcome, folder, output, report, root, rounds};

const DEMO: Case = Case { name: "demo, from nothing running to the prompt", unit: "s" };

fn main() -> Outcome<()> {
    let mut figures = Vec::new();
    let count = rounds(5)?;
    for round in 1..=count {
        eprintln!("round {round} of {count}");
        // There is nothing to take down before the first round, or the rest of somebody's own demo.
        let down = recipe("demo-down");
        if round > 1 {
            down?;
        }
        let begun = Instant::now();
        recipe("demo")?;
        figures.push(Figures::from([(DEMO.name, begun.elapsed().as_secs_f64())]));
    }
    recipe("demo-down")?;
    report("demo", &[DEMO], &figures, None)
}

fn recipe(name: &str) -> Outcome<()> {
    let mut command = Command::new(root().join("run"));
    command.arg(name).current_dir(root()).env("XDG_CONFIG_HOME", folder()?.join("settings"));
    output(&mut command).map(drop)
}
