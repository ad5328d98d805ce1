use serde::Serialize;
use swarm_proto::object::RebalanceMode;
use swarm_proto::wire;

/// How a cluster moves tasks to where they would be placed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebalanceSettingView {
    /// `off` or `auto`.
    pub mode: RebalanceMode,
    /// The most moves within any minute.
    pub moves_per_minute: u32,
}

impl RebalanceSettingView {
    pub(super) fn of(setting: wire::ClusterRebalance) -> Self {
        let mode = Option::from(setting.mode());
        Self { mode: mode.unwrap_or_default(), moves_per_minute: setting.moves_per_minute }
    }

    /// For people: one line.
    pub(super) fn words(&self) -> String {
        let Self { mode, moves_per_minute } = self;
        format!("rebalance {mode}, {moves_per_minute} moves per minute at most\n")
    }
}
