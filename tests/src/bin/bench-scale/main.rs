//! A cluster as large as anybody's: very many tasks on 5,000 nodes until all run, then without its leader; single tasks
//! beside 30,000 on 1,000 nodes; 3,000 tasks on one network of 100 nodes.
//!
//! Three controllers with real syncs, and beside them on this machine all nodes, which are simulated: sessions of the real
//! protocol, some hundreds over each connection, that say at once that what they are told runs. `BENCH_TASKS` sets how
//! many tasks (a million), `BENCH_ROUNDS` how often (1).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

mod connected;
mod lost;
mod many;
mod overlay;
mod single;
mod stacks;

use swarm_tests::bench::agents::Agents;
use swarm_tests::bench::host::{Host, restored};
use swarm_tests::bench::members::{Members, eventually, folders};
use swarm_tests::bench::{Case, Figures, Outcome, nodes, report, rounds};

/// All of it.
const CASES: [&[Case]; 4] = [&many::CASES, &lost::CASES, &single::CASES, &overlay::CASES];

fn main() -> Outcome<()> {
    let rounds = rounds(1)?;
    let tasks = std::env::var("BENCH_TASKS").ok().and_then(|text| text.parse().ok());
    swarm_proto::transport::install_crypto_provider();
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = (0..rounds).map(|_| runtime.block_on(measure(tasks.unwrap_or(1_000_000))));
    let figures: Vec<Figures> = figures.collect::<Outcome<_>>()?;
    report("scale", &CASES.concat(), &figures, None)
}

async fn measure(tasks: u32) -> Outcome<Figures> {
    let mut figures = Figures::new();
    let mut cluster = Cluster::start("scale-many", many::NODES).await?;
    many::measure(&mut cluster, tasks, &mut figures).await?;
    lost::measure(cluster, &mut figures).await?;
    let mut cluster = Cluster::start("scale-single", single::NODES).await?;
    single::measure(&mut cluster, &mut figures).await?;
    let mut cluster = Cluster::start("scale-overlay", overlay::NODES).await?;
    overlay::measure(&mut cluster, &mut figures).await?;
    Ok(figures)
}

/// Three controllers, the first of which leads, and nodes in session with it.
struct Cluster {
    hosts: [Host; 3],
    members: Members,
    agents: Agents,
}

impl Cluster {
    async fn start(name: &str, nodes: u32) -> Outcome<Self> {
        let fill = |backup: &[u8]| nodes::fill(backup, nodes, stacks::ZONES);
        let hosts = restored(folders(name)?, "", fill).await?;
        let [first, second, third] = &hosts;
        let mut members = Members::default();
        first.run(&mut members)?;
        eventually(async || first.leads().await).await?;
        for (host, voters) in [(second, 2), (third, 3)] {
            first.join(host)?;
            host.run(&mut members)?;
            eventually(async || first.has_voters(voters).await).await?;
        }
        first.leads().await?;
        let agents = Agents::start(first, nodes).await?;
        Ok(Self { hosts, members, agents })
    }
}

/// Says a figure and keeps it.
fn note(figures: &mut Figures, case: Case, figure: f64) {
    eprintln!("  {}: {figure:.2} {}", case.name, case.unit);
    figures.insert(case.name, figure);
}
