//! Single tasks beside many others: from the request for one more until the controllers know that it runs. Docker said
//! 400 ms at the 99th percentile of its classic Swarm with 30,000 containers on 1,000 nodes (its own, real ones).

use std::time::Instant;

use swarm_proto::wire;
use swarm_proto::wire::watch_event::Event;
use swarm_tests::bench::stacks::deploy;
use swarm_tests::bench::{Case, Figures, Outcome};
use tonic::Streaming;

use crate::stacks::{bound, scale};
use crate::{Cluster, note};

/// Nodes that share the tasks.
pub(crate) const NODES: u32 = 1_000;
/// Services, and tasks of each.
const RESIDENT: (u32, u32) = (100, 300);
/// Single tasks, one after the other.
const REQUESTS: u32 = 300;

const MEDIAN: Case = Case { name: "one more beside 30,000: median", unit: "ms" };
const P99: Case = Case { name: "one more beside 30,000: p99", unit: "ms" };
const SLOWEST: Case = Case { name: "one more beside 30,000: slowest", unit: "ms" };
/// See the module.
pub(crate) const CASES: [Case; 3] = [MEDIAN, P99, SLOWEST];

/// See the module.
pub(crate) async fn measure(cluster: &mut Cluster, figures: &mut Figures) -> Outcome<()> {
    let leader = &cluster.hosts[0];
    deploy(leader, "resident", &bound(RESIDENT.0, RESIDENT.1)?).await?;
    cluster.agents.told(u64::from(RESIDENT.0 * RESIDENT.1)).await?;
    deploy(leader, "single", &bound(1, 0)?).await?;
    let request = wire::WatchRequest { stale: false, stack: "single".to_owned(), snapshot: false };
    let mut events = leader.client().await?.watch(request).await?.into_inner();
    let mut took = Vec::new();
    for number in 1..=REQUESTS {
        let begun = Instant::now();
        scale(leader, "single_service0", number).await?;
        runs(&mut events).await?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    for (case, percent) in [(MEDIAN, 50), (P99, 99), (SLOWEST, 100)] {
        note(figures, case, at(percent));
    }
    Ok(())
}

/// Waits until a task is known to run.
async fn runs(events: &mut Streaming<wire::WatchEvent>) -> Outcome<()> {
    loop {
        let event = events.message().await?.ok_or("the watch ended")?;
        if let Some(Event::Task(task)) = event.event
            && task.status.is_some_and(|status| status.state() == wire::TaskState::Running)
        {
            return Ok(());
        }
    }
}
