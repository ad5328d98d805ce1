//! The cluster moves tasks to where they would be placed now: never more within a minute than it may, and it comes to an
//! end with it.

use swarm_controller::core::rules::rebalance::foresee;
use swarm_controller::core::{Command, State};
use swarm_proto::id::TaskId;
use swarm_proto::object::{Move, Rebalance, RebalanceMode};
use swarm_tests::random::Random;

use crate::violation::demand;
use crate::world::World;

/// The most moves within a minute that an operator ever allows.
const MOST: u32 = Rebalance::MOVES_PER_MINUTE;
/// Milliseconds without a fault within which the moves come to an end.
const END: u64 = 900_000;

/// What was seen of the moves.
#[derive(Default)]
pub(crate) struct Moves {
    seen: Option<(TaskId, u64)>,
    count: u64,
}

impl Moves {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn look(&mut self, state: &State) {
        let Some(cluster) = &state.cluster else { return };
        let recent = &cluster.rebalance.recent;
        let last = recent.last().map(|one| (one.task, one.at.0));
        if last == self.seen {
            return;
        }
        self.seen = last;
        self.count += 1;
        let is_full = |window: &[Move]| {
            let (first, last) = (window.first(), window.last());
            first.zip(last).is_some_and(|(one, other)| other.at.since(one.at) < Rebalance::MINUTE)
        };
        let full = recent.windows(MOST as usize + 1).find(|window| is_full(window));
        demand(full.is_none(), "moves within a minute are bounded", || format!("{full:?}"));
    }
}

/// Whether the cluster moves tasks by itself, and how many.
pub(crate) fn setting(random: &mut Random) -> Command {
    let moves = u32::try_from(random.between(1, u64::from(MOST) + 1)).unwrap_or(MOST);
    let mode = if random.chance(80) { RebalanceMode::Auto } else { RebalanceMode::Off };
    Command::UpdateCluster { rebalance: Some(mode), moves_per_minute: Some(moves) }
}

/// Moves of every replicated service.
pub(crate) fn begin(state: &State) -> Command {
    let services = state.services.values().filter(|service| !service.removing);
    let names = services.map(|service| service.name());
    Command::Rebalance { services: names.take(Rebalance::MOST_PER_MINUTE as usize).collect() }
}

impl World {
    /// Where the cluster moves tasks by itself, waits until it has nothing more to move.
    pub(crate) fn spread_and_settle(&mut self) {
        let moves_by_itself = |state: &State| {
            let setting = state.cluster.as_ref().map(|cluster| cluster.rebalance.mode);
            setting == Some(RebalanceMode::Auto)
        };
        let is_spread = |world: &Self| {
            let state = world.leading_core().map(swarm_controller::core::Core::state);
            state.is_some_and(|state| {
                !moves_by_itself(state) || foresee(state, state.clock).moves.is_empty()
            })
        };
        let begun = self.now;
        while !is_spread(self) {
            demand(self.now < begun + END, "moves come to an end", || self.moves_left());
            self.run_for(5_000);
        }
        if self.now > begun {
            self.did("spread anew");
            self.heal_and_settle();
        }
    }

    fn moves_left(&self) -> String {
        let state = self.leading_core().map(swarm_controller::core::Core::state);
        state.map_or_else(String::new, |state| format!("{:?}", foresee(state, state.clock)))
    }
}
