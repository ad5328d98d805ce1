//! From the deploy of very many tasks until the controllers know that all of them run.

use std::time::{Duration, Instant};

use swarm_tests::bench::host::Host;
use swarm_tests::bench::stacks::deploy;
use swarm_tests::bench::{Case, Figures, Outcome};

use crate::stacks::bound;
use crate::{Cluster, note};

/// Nodes that share them.
pub(crate) const NODES: u32 = 5_000;
/// Services that they are of, in so many stacks.
const SERVICES: u32 = 1_000;
const STACKS: u32 = 10;
/// Nothing is written for so long once all is told.
const QUIET: Duration = Duration::from_secs(1);

const PLACED: Case = Case { name: "many tasks: all nodes told", unit: "s" };
const RUNNING: Case = Case { name: "many tasks: all known to run", unit: "s" };
const RATE: Case = Case { name: "many tasks: known to run", unit: "1/s" };
const MEMORY: Case = Case { name: "many tasks: resident memory of the leader", unit: "MiB" };
const PEAK: Case = Case { name: "many tasks: highest resident memory of the leader", unit: "MiB" };
/// See the module.
pub(crate) const CASES: [Case; 5] = [PLACED, RUNNING, RATE, MEMORY, PEAK];

/// See the module.
pub(crate) async fn measure(
    cluster: &mut Cluster,
    tasks: u32,
    figures: &mut Figures,
) -> Outcome<()> {
    let leader = cluster.hosts[0].clone();
    let each = tasks / SERVICES;
    let text = bound(SERVICES / STACKS, each)?;
    let begun = Instant::now();
    for stack in 0..STACKS {
        deploy(&leader, &format!("stack{stack}"), &text).await?;
    }
    let tasks = SERVICES * each;
    cluster.agents.told(u64::from(tasks)).await?;
    note(figures, PLACED, begun.elapsed().as_secs_f64());
    let running = (quiet(&leader).await? - begun).as_secs_f64();
    note(figures, RUNNING, running);
    note(figures, RATE, f64::from(tasks) / running);
    leader.leads().await?;
    note(figures, MEMORY, cluster.members.memory_of(0, "VmRSS")?);
    note(figures, PEAK, cluster.members.memory_of(0, "VmHWM")?);
    Ok(())
}

/// When the last entry was applied, once there are no more.
pub(crate) async fn quiet(leader: &Host) -> Outcome<Instant> {
    let (mut last, mut since) = (leader.applied().await?, Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let applied = leader.applied().await?;
        if applied != last {
            (last, since) = (applied, Instant::now());
        }
    }
    Ok(since)
}
