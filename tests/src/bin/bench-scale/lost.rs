//! The leader is killed: when another one takes a write, when all nodes are back in session, and what restarts (nothing
//! may).

use std::time::{Duration, Instant};

use swarm_tests::bench::agents::Agents;
use swarm_tests::bench::host::Host;
use swarm_tests::bench::stacks::deploy;
use swarm_tests::bench::{Case, Figures, Outcome};

use crate::stacks::bound;
use crate::{Cluster, note};

/// Services of a deploy that is begun as soon as the leader is gone, and tasks of each.
const NEW: (u32, u32) = (10, 10);
/// For so long it is watched whether anything restarts.
const WATCHED: Duration = Duration::from_secs(10);
/// How long another leader may take.
const PATIENCE: Duration = Duration::from_secs(30);

const WRITE: Case = Case { name: "leader killed: until a write is accepted", unit: "s" };
const BACK: Case = Case { name: "leader killed: until all nodes are back", unit: "s" };
const NEW_TOLD: Case = Case { name: "leader killed: until new tasks have nodes", unit: "s" };
/// See the module.
pub(crate) const CASES: [Case; 3] = [WRITE, BACK, NEW_TOLD];

/// See the module.
pub(crate) async fn measure(cluster: Cluster, figures: &mut Figures) -> Outcome<()> {
    let Cluster { hosts, mut members, agents } = cluster;
    let text = bound(NEW.0, NEW.1)?;
    let begun = Instant::now();
    members.stop(0)?;
    let held = agents.ended().await;
    let leader = accepted(&hosts[1..], &text).await?;
    note(figures, WRITE, begun.elapsed().as_secs_f64());
    let mut agents = Agents::resume(leader, held).await?;
    note(figures, BACK, begun.elapsed().as_secs_f64());
    let new = u64::from(NEW.0 * NEW.1);
    agents.told(new).await?;
    note(figures, NEW_TOLD, begun.elapsed().as_secs_f64());
    tokio::select! {
        more = agents.told(new + 1) => {
            more?;
            return Err("a task was replaced".into());
        }
        () = tokio::time::sleep(WATCHED) => {}
    }
    match agents.stops() {
        0 => Ok(()),
        stops => Err(format!("{stops} tasks were stopped").into()),
    }
}

/// Deploys a stack with whoever takes it first, and says who leads.
async fn accepted<'a>(hosts: &'a [Host], text: &str) -> Outcome<&'a Host> {
    let end = Instant::now() + PATIENCE;
    loop {
        for host in hosts {
            if host.leads().await.is_ok() && deploy(host, "new", text).await.is_ok() {
                return Ok(host);
            }
        }
        if Instant::now() > end {
            return Err("no other controller takes a write".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
