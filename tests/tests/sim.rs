//! Simulates whole clusters in one thread: several controllers' cores, a network that loses, delays and parts, disks
//! that forget what was not synced, machines that crash, agents that pretend to run tasks, and clients that retry.
//! A seed decides everything, so a failing seed fails again.
//!
//! `SWARM_SIM_SEEDS=200` (or `SWARM_SEEDS`) runs that many seeds, `SWARM_SIM_SEED=17` only this one.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

#[path = "sim/agent.rs"]
mod agent;
#[path = "sim/check.rs"]
mod check;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/fault.rs"]
mod fault;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/world.rs"]
mod world;

use world::{Outcome, World};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    world.run_with_faults();
    world.heal_and_settle();
    world.finish()
}

#[test]
#[expect(clippy::print_stdout, reason = "the last line says what was run")]
fn clusters_survive_faults() {
    let only = number("SWARM_SIM_SEED");
    let seeds = match only {
        Some(seed) => vec![seed],
        None => (1..=number("SWARM_SIM_SEEDS").or(number("SWARM_SEEDS")).unwrap_or(20)).collect(),
    };
    let mut total = Outcome::default();
    for seed in &seeds {
        let outcome = run(*seed);
        assert!(outcome.commits > 0 && outcome.acknowledged > 0, "seed {seed} did nothing");
        total.add(&outcome);
    }
    println!(
        "{} seeds, {} commits, {} acknowledged commands, {} faults, {} elections",
        seeds.len(),
        total.commits,
        total.acknowledged,
        total.faults,
        total.elections
    );
}

/// The same seed gives the same run: without this a failing seed would teach nothing.
#[test]
fn a_seed_decides_everything() {
    let (first, second) = (run(3), run(3));
    assert_eq!(first, second);
}
