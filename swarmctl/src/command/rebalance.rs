//! `rebalance`: moves tasks to where they would be placed now, or shows which.

use std::collections::BTreeSet;

use swarm_proto::convert::ConvertError;
use swarm_proto::id::Timestamp;
use swarm_proto::object::Rebalance as Setting;
use swarm_proto::wire;

use super::{Call, now};
use crate::connect::{Client, request_id};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::state::State;
use crate::view::{self, MoveView, RebalanceView};

/// Moves tasks to where they would be placed now, after nodes joined or left the load skewed
///
/// Each service's tasks move one after the other, under its update policy, and no more of all of them within a minute
/// than the cluster allows. Those of global services and jobs stay, as do services with volumes or binds, with another
/// service near them, or with an update under way. `swarmctl cluster update --rebalance auto` lets the cluster do it by
/// itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Rebalance {
    /// Only show the moves, in the order in which they would be made
    #[arg(long)]
    plan: bool,
}

impl Rebalance {
    pub(crate) async fn run(self, call: &Call) -> Result<(), Failure> {
        let ask =
            async |mut client: Client| client.plan_rebalance(wire::PlanRebalanceRequest {}).await;
        let plan = call.cluster.call(ask).await?;
        let state = State::get(&call.cluster, call.stale).await?;
        let now = now(Timestamp(plan.clock));
        let plan = RebalanceView::of(&state, plan).map_err(|error| damaged(&error))?;
        if self.plan {
            return show(&plan, call.format, now);
        }
        if plan.moves.is_empty() {
            for line in plan.remarks(now) {
                output::talk(&line);
            }
            return Ok(());
        }
        begin(&plan, &state, now, call).await
    }
}

fn damaged(error: &ConvertError) -> Failure {
    Failure::because("the controller's answer is damaged", error)
}

fn show(plan: &RebalanceView, format: Format, now: Timestamp) -> Result<(), Failure> {
    match format {
        Format::Json => output::data(&view::json(plan)?),
        Format::Yaml => output::data(&view::yaml(plan)?),
        _ if plan.moves.is_empty() => {}
        _ => output::data(&view::list(&plan.moves, format, now)?),
    }
    for line in plan.remarks(now) {
        output::talk(&line);
    }
    Ok(())
}

/// Asks for the next move of each service in the plan, as many as there may be at once.
async fn begin(
    plan: &RebalanceView,
    state: &State,
    now: Timestamp,
    call: &Call,
) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    let services = plan.moves.iter().map(|one| one.service.clone());
    let services = services.filter(|service| known.insert(service.clone()));
    let services: Vec<String> = services.take(Setting::MOST_PER_MINUTE as usize).collect();
    let request = wire::RebalanceRequest { request_id: request_id()?, services };
    let answer =
        call.cluster.call(async |mut client| client.rebalance(request.clone()).await).await?;
    let begun = answer.moves.into_iter().map(|one| MoveView::of(state, one));
    let begun = begun.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(&error))?;
    output::data(&view::list(&begun, call.format, now)?);
    let left = plan.moves.len().saturating_sub(begun.len());
    output::talk(&match (begun.len(), left) {
        (0, _) => "nothing is moved now: what would be is under way or rests after its last move"
            .to_owned(),
        (count, 0) => format!("{} begun", moves(count)),
        (count, left) => format!(
            "{} begun, {left} more would follow: run it again once these are over; at most {} are made within a minute",
            moves(count),
            plan.moves_per_minute
        ),
    });
    Ok(())
}

fn moves(count: usize) -> String {
    if count == 1 { "1 move".to_owned() } else { format!("{count} moves") }
}
