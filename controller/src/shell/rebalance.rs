//! What would be moved, as far as this controller sees: thought ahead beside the thread that keeps the cluster alive.

use std::sync::Arc;

use swarm_proto::convert::each;
use swarm_proto::object::Rebalance;
use swarm_proto::wire;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::controller::Controller;
use super::setup;
use crate::core::rules::rebalance::foresee;

impl Controller {
    /// The moves after which services would be spread as they would be placed now.
    pub async fn plan_rebalance(&self) -> Result<wire::PlanRebalanceResponse, Status> {
        let state = Arc::clone(&self.read(false).await?.state);
        let clock = state.clock.max(setup::now());
        let setting = state.cluster.as_ref().map(|cluster| cluster.rebalance.clone());
        let outlook = spawn_blocking(move || foresee(&state, clock)).await;
        let outlook =
            outlook.map_err(|error| Status::internal(format!("the plan was not made: {error}")))?;
        let Rebalance { mode, moves_per_minute, .. } = setting.unwrap_or_default();
        Ok(wire::PlanRebalanceResponse {
            moves: each(&outlook.moves),
            more: outlook.more,
            under_way: outlook.under_way,
            hindrance: outlook.hindrance.unwrap_or_default(),
            room_at: outlook.room_at.unwrap_or_default().0,
            mode: mode.into(),
            moves_per_minute,
            clock: clock.0,
        })
    }
}
