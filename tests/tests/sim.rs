//! Simulates whole clusters in one thread each: 1 to 7 controllers' cores, agents that pretend to run tasks, clients
//! that retry, an operator, and a network, disks and clocks that go wrong in every way they can. A seed decides
//! everything, so a failing seed fails again.
//!
//! `SWARM_SIM_SEEDS=200` runs the seeds from 1 to 200 (from `SWARM_SIM_FIRST` on where it is set), `SWARM_SIM_SEED=17`
//! only this one; with `SWARM_SIM_TELL=1` beside it says what happens when. With the feature `planted-faults`,
//! `SWARM_SIM_MUTANTS=1` looks instead how many seeds it takes to find each planted fault, and
//! `SWARM_SIM_MUTANT=NAME` runs seeds with this one.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]
#![expect(clippy::print_stdout, reason = "the last line says what was run")]

#[path = "sim/agent.rs"]
mod agent;
#[path = "sim/autoscale.rs"]
mod autoscale;
#[path = "sim/canary.rs"]
mod canary;
#[path = "sim/check.rs"]
mod check;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/clock.rs"]
mod clock;
#[path = "sim/disaster.rs"]
mod disaster;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/fault.rs"]
mod fault;
#[path = "sim/health.rs"]
mod health;
#[path = "sim/lease.rs"]
mod lease;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/moves.rs"]
mod moves;
#[path = "sim/mutant.rs"]
mod mutant;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/operator.rs"]
mod operator;
#[path = "sim/overlap.rs"]
mod overlap;
#[path = "sim/preemption.rs"]
mod preemption;
#[path = "sim/promise.rs"]
mod promise;
#[path = "sim/register.rs"]
mod register;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/session.rs"]
mod session;
#[path = "sim/stack.rs"]
mod stack;
#[path = "sim/switch.rs"]
mod switch;
#[path = "sim/tell.rs"]
mod tell;
#[path = "sim/traffic.rs"]
mod traffic;
#[path = "sim/violation.rs"]
mod violation;
#[path = "sim/world.rs"]
mod world;

use std::process::ExitCode;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn main() -> ExitCode {
    // Test runners ask what there is to run.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("clusters_survive_faults: test");
        }
        return ExitCode::SUCCESS;
    }
    run::keep_violations_quiet();
    let seeds = if let Some(seed) = number("SWARM_SIM_SEED") {
        seed..=seed
    } else {
        let first = number("SWARM_SIM_FIRST").unwrap_or(1);
        first..=first - 1 + number("SWARM_SIM_SEEDS").unwrap_or(20)
    };
    if number("SWARM_SIM_MUTANTS").is_some() {
        return run::mutants();
    }
    run::seeds(seeds, mutant::Mutant::chosen())
}
