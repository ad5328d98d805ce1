//! Commands about moves of tasks to where they would be placed now.

use std::fmt::Write as _;

use swarm_controller::core::rules::rebalance::foresee;
use swarm_controller::core::{Command, State};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{PlannedMove, RebalanceMode};

/// `cluster rebalance=auto moves=3`.
pub(super) fn update(options: &[&str]) -> Command {
    let (mut rebalance, mut moves_per_minute) = (None, None);
    for option in options {
        match option.split_once('=') {
            Some(("rebalance", "auto")) => rebalance = Some(RebalanceMode::Auto),
            Some(("rebalance", "off")) => rebalance = Some(RebalanceMode::Off),
            Some(("moves", moves)) => moves_per_minute = Some(moves.parse().unwrap()),
            _ => panic!("unknown setting {option}"),
        }
    }
    Command::UpdateCluster { rebalance, moves_per_minute }
}

/// `rebalance shop_web shop_db`.
pub(super) fn begin(services: &[&str]) -> Command {
    Command::Rebalance { services: services.iter().map(|name| (*name).to_owned()).collect() }
}

pub(super) fn moves(moves: &[PlannedMove]) -> String {
    let mut text = String::new();
    for one in moves {
        let PlannedMove { service, task, from, to, why } = one;
        let _ = writeln!(text, "  move {service} ({task}) from n{from} to n{to}: {why}");
    }
    if moves.is_empty() {
        text.push_str("  no moves\n");
    }
    text
}

/// What would be moved.
pub(super) fn plan(state: &State, now: u64) -> String {
    let outlook = foresee(state, Timestamp(now));
    let mut text = moves(&outlook.moves);
    for service in &outlook.under_way {
        let _ = writeln!(text, "  under way: {service}");
    }
    if let Some(why) = &outlook.hindrance {
        let _ = writeln!(text, "  hindrance: {why}");
    }
    if let Some(at) = outlook.room_at {
        let _ = writeln!(text, "  room in {} s", (at.0 - now).div_ceil(1_000));
    }
    text
}
