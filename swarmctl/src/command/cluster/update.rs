//! `cluster update`: settings of the cluster as a whole.

use swarm_proto::object::{Rebalance, RebalanceMode};
use swarm_proto::wire;

use crate::command::Call;
use crate::connect::{Client, request_id};
use crate::failure::Failure;
use crate::output;

/// Changes settings of the cluster as a whole; `cluster status` shows them
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Update {
    /// Whether tasks are moved by themselves to where they would be placed now, after nodes joined or left the load skewed
    ///
    /// With `off`, `swarmctl rebalance --plan` shows what would be moved, and `swarmctl rebalance` begins it.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    rebalance: Option<RebalanceMode>,
    /// The most tasks that are moved so within any minute
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(Rebalance::MOST_PER_MINUTE)))]
    moves_per_minute: Option<u32>,
}

fn mode(text: &str) -> Result<RebalanceMode, String> {
    let modes = [RebalanceMode::Off, RebalanceMode::Auto];
    let found = modes.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| "write `off` or `auto`".to_owned())
}

pub(super) async fn run(update: &Update, call: &Call) -> Result<(), Failure> {
    let Update { rebalance, moves_per_minute } = *update;
    let mode = rebalance.map_or(wire::RebalanceMode::Unspecified, wire::RebalanceMode::from);
    let request = wire::UpdateClusterRequest {
        request_id: request_id()?,
        rebalance: mode.into(),
        moves_per_minute,
    };
    let ask = async |mut client: Client| client.update_cluster(request.clone()).await;
    call.cluster.call(ask).await?;
    match rebalance {
        Some(RebalanceMode::Off) => output::talk("tasks stay where they are"),
        Some(RebalanceMode::Auto) => {
            output::talk("tasks move by themselves to where they would be placed now");
        }
        None => {}
    }
    if let Some(moves) = moves_per_minute {
        output::talk(&format!("tasks moved within any minute: {moves} at most"));
    }
    Ok(())
}
