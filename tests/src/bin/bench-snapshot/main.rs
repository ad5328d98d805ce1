//! How long a light stream of writes is held up while a snapshot of a state with 500,000 tasks is made, compacted
//! behind, and sent to controllers that join or lag. All of it runs on this machine: what the others use, the leader
//! lacks. `BENCH_TASKS` sets the number of tasks, `BENCH_ROUNDS` the number of rounds (1).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

mod files;
mod state;
mod stream;

use std::time::{Duration, Instant};

use swarm_tests::bench::host::{Host, restored};
use swarm_tests::bench::members::{Members, eventually, folders};
use swarm_tests::bench::{Case, Figures, Outcome, report, rounds};

use files::snapshot;
use stream::{Measured, Stream};

/// What is measured of the writes during one thing.
type Cases = [Case; 4];

macro_rules! cases {
    ($during:literal) => {
        [
            Case { name: concat!("write, ", $during, ", p50"), unit: "ms" },
            Case { name: concat!("write, ", $during, ", p99"), unit: "ms" },
            Case { name: concat!("write, ", $during, ", slowest"), unit: "ms" },
            Case { name: concat!("longest gap, ", $during), unit: "ms" },
        ]
    };
}

const QUIET: Cases = cases!("nothing else happens");
const MADE: Cases = cases!("a snapshot is made");
const JOINED: Cases = cases!("two controllers join");
const BEHIND: Cases = cases!("one that lags catches up");
const TIME: Case = Case { name: "making of a snapshot", unit: "s" };
const SIZE: Case = Case { name: "size of a snapshot", unit: "MiB" };
const CAUGHT: Case = Case { name: "one that lags, from its start to caught up", unit: "s" };
const MEMORY: [Case; 2] = [
    Case { name: "resident memory of the leader", unit: "MiB" },
    Case { name: "highest resident memory of the leader", unit: "MiB" },
];

/// Entries between two snapshots.
const ENTRIES: u64 = 2_000;
/// Entries that a controller keeps behind its snapshot, and so how far another one must lag to be sent it.
const TRAILING: u64 = 500;
/// How long the writes are watched while nothing happens, and after something happened.
const QUIET_FOR: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_millis(500);
/// Between two looks at a controller's threads.
const LOOK: Duration = Duration::from_millis(10);

fn main() -> Outcome<()> {
    let rounds = rounds(1)?;
    let tasks = std::env::var("BENCH_TASKS").ok().and_then(|text| text.parse().ok());
    swarm_proto::transport::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = (0..rounds).map(|_| runtime.block_on(measure(tasks.unwrap_or(500_000))));
    let figures: Vec<Figures> = figures.collect::<Outcome<_>>()?;
    let cases = [&QUIET[..], &MADE, &JOINED, &BEHIND, &[TIME, SIZE, CAUGHT], &MEMORY].concat();
    report("snapshot", &cases, &figures, None)
}

/// A leader with so many tasks: alone, then as the others join, then as one of them comes back that lags.
async fn measure(tasks: u32) -> Outcome<Figures> {
    let [first, second, third] = hosts(tasks).await?;
    let mut members = Members::default();
    first.run(&mut members)?;
    eventually(async || first.leads().await).await?;
    let mut figures = Figures::new();
    made(&first, &members, &mut figures).await?;

    let stream = Stream::start(&first).await?;
    let begun = Instant::now();
    for (host, voters) in [(&second, 2), (&third, 3)] {
        first.join(host)?;
        host.run(&mut members)?;
        eventually(async || first.has_voters(voters).await).await?;
    }
    let writes = stream.end().await?;
    note(&mut figures, JOINED, writes.within(begun, Instant::now())?);

    members.stop(2)?;
    let lost = first.applied().await?;
    write_until(&first, async || Ok(snapshot(&first)?.0 > lost + TRAILING)).await?;
    let stream = Stream::start(&first).await?;
    let begun = Instant::now();
    third.run(&mut members)?;
    let goal = first.applied().await?;
    eventually(
        async || if third.applied().await? >= goal { Ok(()) } else { Err("it lags".into()) },
    )
    .await?;
    figures.insert(CAUGHT.name, begun.elapsed().as_secs_f64());
    tokio::time::sleep(AFTER).await;
    let writes = stream.end().await?;
    note(&mut figures, BEHIND, writes.within(begun, Instant::now())?);
    first.leads().await?;
    figures.insert(MEMORY[0].name, members.memory_of(0, "VmRSS")?);
    figures.insert(MEMORY[1].name, members.memory_of(0, "VmHWM")?);
    Ok(figures)
}

/// A snapshot of a controller that is alone.
async fn made(host: &Host, members: &Members, figures: &mut Figures) -> Outcome<()> {
    let stream = Stream::start(host).await?;
    let quiet = Instant::now();
    tokio::time::sleep(QUIET_FOR).await;
    let until = Instant::now();
    if members.has_thread(0, MAKER)? {
        return Err("a snapshot was begun too early to see the writes without one".into());
    }
    let look = async |making: bool| {
        while members.has_thread(0, MAKER)? != making {
            tokio::time::sleep(LOOK).await;
        }
        Ok::<_, Box<dyn std::error::Error>>(Instant::now())
    };
    let begun = look(true).await?;
    let ended = look(false).await?;
    tokio::time::sleep(AFTER).await;
    let writes = stream.end().await?;
    note(figures, QUIET, writes.within(quiet, until)?);
    note(figures, MADE, writes.within(begun.checked_sub(AFTER).unwrap_or(begun), Instant::now())?);
    figures.insert(TIME.name, (ended - begun).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    figures.insert(SIZE.name, snapshot(host)?.1 as f64 / 1_048_576.0);
    Ok(())
}

/// The name of the controller's thread that makes a snapshot's file.
const MAKER: &str = "snapshot";

fn note(figures: &mut Figures, cases: Cases, measured: Measured) {
    let Measured { p50, p99, slowest, gap } = measured;
    for (case, figure) in cases.iter().zip([p50, p99, slowest, gap]) {
        figures.insert(case.name, figure);
        eprintln!("  {}: {figure:.1} ms", case.name);
    }
}

async fn write_until(host: &Host, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome<()> {
    while !holds().await? {
        let stream = Stream::start(host).await?;
        tokio::time::sleep(AFTER).await;
        stream.end().await?;
    }
    Ok(())
}

/// Three hosts, the first of which has a cluster with so many tasks.
async fn hosts(tasks: u32) -> Outcome<[Host; 3]> {
    let often = format!("snapshot_entries = {ENTRIES}");
    restored(folders("snapshot")?, &often, |backup| {
        eprintln!("making {tasks} tasks");
        state::fill(backup, tasks)
    })
    .await
}
