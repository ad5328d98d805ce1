//! How many tasks a second get their nodes: the cases of Kubernetes' `scheduler_perf`, with the same numbers of nodes, of
//! tasks before and of tasks measured, beside the averages under which its own tests fail.
//!
//! Three controllers with real syncs; a task counts once its node has been told of it. Nodes are simulated: sessions of
//! the real protocol, some hundreds over each connection, that say at once that what they are told runs. In
//! `scheduler_perf` there are none. `BENCH_CASES` names the cases to run, with commas, `BENCH_ROUNDS` how often (3).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

mod cases;

use std::time::Instant;

use swarm_tests::bench::agents::Agents;
use swarm_tests::bench::host::restored;
use swarm_tests::bench::members::{Members, eventually, folders};
use swarm_tests::bench::stacks::deploy;
use swarm_tests::bench::{Outcome, Published, nodes, report_published, rounds};

use cases::{CASES, Case};

/// The stack that all of it is in.
const NAME: &str = "many";

fn main() -> Outcome<()> {
    let rounds = rounds(3)?;
    let chosen = std::env::var("BENCH_CASES").ok();
    let is_chosen = |case: &&Case| {
        chosen.as_ref().is_none_or(|names| names.split(',').any(|name| name == case.name))
    };
    swarm_proto::transport::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new()?;
    let mut all = Vec::new();
    for case in CASES.iter().filter(is_chosen) {
        let rates = (0..rounds).map(|_| runtime.block_on(measure(case)));
        let mut rates: Vec<f64> = rates.collect::<Outcome<_>>()?;
        rates.sort_by(f64::total_cmp);
        all.push(Published {
            case: format!("{}: {} nodes, {} + {}", case.name, case.nodes, case.first, case.then),
            unit: "1/s",
            ours: rates[rates.len() / 2],
            floor: case.floor,
        });
    }
    report_published("schedule", "Kubernetes' floor", &all)
}

/// Tasks a second in one case.
async fn measure(case: &Case) -> Outcome<f64> {
    let [first, second, third] =
        restored(folders("schedule")?, "", |backup| nodes::fill(backup, case.nodes, 1)).await?;
    let mut members = Members::default();
    first.run(&mut members)?;
    eventually(async || first.leads().await).await?;
    for (host, voters) in [(&second, 2), (&third, 3)] {
        first.join(host)?;
        host.run(&mut members)?;
        eventually(async || first.has_voters(voters).await).await?;
    }
    first.leads().await?;
    let mut agents = Agents::start(&first, case.nodes).await?;
    deploy(&first, NAME, &case.stack(false)?).await?;
    agents.told(u64::from(case.first)).await?;
    let begun = Instant::now();
    deploy(&first, NAME, &case.stack(true)?).await?;
    agents.told(u64::from(case.first + case.then)).await?;
    let took = begun.elapsed();
    let rate = f64::from(case.then) / took.as_secs_f64();
    first.leads().await?;
    eprintln!(
        "  {}: {:.2} s, {rate:.0}/s; leader {:.0} MiB",
        case.name,
        took.as_secs_f64(),
        members.memory_of(0, "VmRSS")?
    );
    Ok(rate)
}
