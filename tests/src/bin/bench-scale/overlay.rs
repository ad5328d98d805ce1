//! Very many tasks on one overlay network: until every node knows where all of them are, and what it costs a node when one
//! of them, elsewhere, is replaced.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use prost::Message as _;
use swarm_proto::id::NodeId;
use swarm_proto::wire;
use swarm_tests::bench::nodes::{FIRST, address};
use swarm_tests::bench::stacks::{CONNECTED, deploy};
use swarm_tests::bench::{Case, Figures, Outcome};

use crate::connected::Connected;
use crate::many::quiet;
use crate::{Cluster, note};

/// Nodes that share the tasks.
pub(crate) const NODES: u32 = 100;
/// Tasks of one service.
const TASKS: u32 = 3_000;
/// Tasks that are replaced, one after the other.
const REPLACED: u32 = 20;

const KNOWN: Case = Case { name: "3,000 on a network: all nodes know all", unit: "s" };
const WORK: Case = Case { name: "one of 3,000 replaced: work of a node", unit: "ms" };
const TOLD: Case = Case { name: "one of 3,000 replaced: a node is told", unit: "KiB" };
/// See the module.
pub(crate) const CASES: [Case; 3] = [KNOWN, WORK, TOLD];

/// See the module.
pub(crate) async fn measure(cluster: &mut Cluster, figures: &mut Figures) -> Outcome<()> {
    let leader = cluster.hosts[0].clone();
    let begun = Instant::now();
    deploy(&leader, "overlay", &stack()).await?;
    let places = usize::try_from(TASKS + NODES)?;
    cluster.agents.know(usize::try_from(NODES)?, places).await?;
    note(figures, KNOWN, begun.elapsed().as_secs_f64());

    quiet(&leader).await?;
    let mut node = Connected::new(address(NodeId(FIRST))).await?;
    for told in cluster.agents.told_to_first() {
        node.take(&told.encode_to_vec()).await?;
    }
    node.attach_all().await?;
    for _ in 0..REPLACED {
        cluster.agents.fail_one();
        quiet(&leader).await?;
    }
    let told = cluster.agents.told_to_first();
    all_replaced(&told)?;
    let told: Vec<Vec<u8>> = told.iter().map(prost::Message::encode_to_vec).collect();
    let bytes = told.iter().map(Vec::len).sum::<usize>();
    let before = worked()?;
    for message in &told {
        node.take(message).await?;
    }
    let work = worked()?.saturating_sub(before).as_secs_f64() * 1_000.0;
    note(figures, WORK, work / f64::from(REPLACED));
    note(figures, TOLD, f64::from(u32::try_from(bytes)?) / 1024.0 / f64::from(REPLACED));
    Ok(())
}

/// Whether each of the tasks left the service's address once, and another one came.
fn all_replaced(told: &[wire::Assignments]) -> Outcome<()> {
    let changes = told.iter().flat_map(|told| &told.diff).flat_map(|diff| &diff.network_changes);
    let backends = changes.flat_map(|change| &change.vips).flat_map(|vip| &vip.backends);
    let counts: Vec<_> = backends.map(|list| (list.removed.len(), list.added.len())).collect();
    let (left, came) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let replaced = usize::try_from(REPLACED)?;
    if (left, came) != (replaced, replaced) {
        let changes = counts.len();
        return Err(format!("{left} left and {came} came in {changes} changes").into());
    }
    Ok(())
}

fn stack() -> String {
    let deploy =
        format!("    deploy:\n      replicas: {TASKS}\n      restart_policy: {{delay: 0s}}\n");
    let network = "networks:\n  net:\n    ipam:\n      config: [{subnet: 10.99.0.0/16}]\n";
    format!("services:\n  web:\n{CONNECTED}{deploy}{network}")
}

/// How long processors have worked for this process, in the kernel too.
fn worked() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let spent = [usage.user_time(), usage.system_time()];
    let spent = spent.iter().map(|time| {
        let micros = u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec());
        micros.map(Duration::from_micros)
    });
    Ok(spent.sum::<Result<Duration, _>>()?)
}
