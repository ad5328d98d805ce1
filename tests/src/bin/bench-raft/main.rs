//! Writes and linearizable reads on three controllers, beside three members of Debian's etcd on the same disk: both with
//! real syncs, mutual TLS and values of 256 bytes, the leader addressed over eight connections. `BENCH_ROUNDS` sets
//! the number of alternating rounds (3), `BENCH_SECONDS` how long each load lasts (5).
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program that says how far it is")]

mod controllers;
mod disk;
mod etcd;
mod load;

use std::time::Duration;

use swarm_tests::bench::{Case, Figures, Outcome, report, rounds};

use load::{Load, Target};

const IDLE: Case = Case { name: "resident memory of an idle member", unit: "MiB" };
const SINGLE: [Case; 2] = [
    Case { name: "write by one client, p50", unit: "ms" },
    Case { name: "write by one client, p99", unit: "ms" },
];
const MANY: [Case; 2] = [
    Case { name: "writes by 64 clients", unit: "1/s" },
    Case { name: "writes by 64 clients, p99", unit: "ms" },
];
const CROWD: [Case; 2] = [
    Case { name: "writes by 1,000 clients", unit: "1/s" },
    Case { name: "writes by 1,000 clients, p99", unit: "ms" },
];
const PACED: [Case; 2] = [
    Case { name: "writes when 10,000 a second begin", unit: "1/s" },
    Case { name: "writes when 10,000 a second begin, p99", unit: "ms" },
];
const READS: [Case; 3] = [
    Case { name: "linearizable read by one client, p50", unit: "ms" },
    Case { name: "linearizable reads by 64 clients", unit: "1/s" },
    Case { name: "linearizable reads by 64 clients, p99", unit: "ms" },
];
const LOADED: Case = Case { name: "resident memory of a member afterwards", unit: "MiB" };
const SYNCS: [Case; 2] = [
    Case { name: "syncs of the leader's log", unit: "count" },
    Case { name: "mean sync of the leader's log", unit: "ms" },
];

fn main() -> Outcome<()> {
    let rounds = rounds(3)?;
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let lasting = Duration::from_secs(seconds.unwrap_or(5));
    swarm_proto::transport::install_crypto_provider();
    let etcd = etcd::program()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        disk::probe()?;
        ours.push(runtime.block_on(async {
            let controllers = controllers::start().await?;
            measure(&controllers, lasting).await
        })?);
        theirs.push(runtime.block_on(async {
            let members = etcd::start(&etcd).await?;
            measure(&members, lasting).await
        })?);
    }
    let mut cases = vec![IDLE];
    cases.extend([SINGLE, MANY, CROWD, PACED].concat());
    cases.extend(READS);
    cases.push(LOADED);
    cases.extend(SYNCS);
    report("raft", &cases, &ours, Some(("etcd", &theirs)))
}

/// What a system of three members does under each load.
async fn measure(system: &impl System, lasting: Duration) -> Outcome<Figures> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut figures = Figures::from([(IDLE.name, system.memory()?)]);
    let target = system.target().await?;
    let before = system.syncs().await?;
    for (clients, cases) in [(1, SINGLE), (64, MANY), (1_000, CROWD)] {
        let measured = Load { clients, lasting, pace: None, reads: false }.run(&target).await?;
        println!("  {}: writes by {clients}: {measured}", system.name());
        let first = if clients == 1 { measured.millis(50) } else { measured.rate() };
        figures.insert(cases[0].name, first);
        figures.insert(cases[1].name, measured.millis(99));
    }
    let paced = Load { clients: 1_000, lasting, pace: Some(10_000), reads: false };
    let measured = paced.run(&target).await?;
    println!("  {}: writes, 10,000 a second begin: {measured}", system.name());
    figures.insert(PACED[0].name, measured.rate());
    figures.insert(PACED[1].name, measured.millis(99));
    let after = system.syncs().await?;
    let count = after.count - before.count;
    figures.insert(SYNCS[0].name, count);
    figures.insert(SYNCS[1].name, (after.millis - before.millis) / count);
    let one = Load { clients: 1, lasting, pace: None, reads: true }.run(&target).await?;
    let many = Load { clients: 64, lasting, pace: None, reads: true }.run(&target).await?;
    println!("  {}: reads by 64: {many}", system.name());
    figures.insert(READS[0].name, one.millis(50));
    figures.insert(READS[1].name, many.rate());
    figures.insert(READS[2].name, many.millis(99));
    figures.insert(LOADED.name, system.memory()?);
    Ok(figures)
}

/// Syncs so far.
struct Syncs {
    count: f64,
    /// How long they took in all.
    millis: f64,
}

/// Three members that run.
trait System {
    /// For the lines about it.
    fn name(&self) -> &'static str;

    /// Connections to its leader.
    async fn target(&self) -> Outcome<Target>;

    /// The resident memory of its largest member, MiB.
    fn memory(&self) -> Outcome<f64>;

    /// The leader's syncs of its log.
    async fn syncs(&self) -> Outcome<Syncs>;
}
