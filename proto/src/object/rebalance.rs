use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, TaskId, Timestamp};

/// Whether the cluster moves tasks by itself to where they would be placed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RebalanceMode {
    /// Tasks stay where they are; an operator may ask for moves.
    #[default]
    Off,
    /// It does.
    Auto,
}

impl RebalanceMode {
    /// The name in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for RebalanceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A task that was set in motion: its slot gets another one elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The task that leaves its node.
    pub task: TaskId,
    /// When, in cluster time.
    pub at: Timestamp,
}

/// A task that should have another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove {
    /// Its service's full name.
    pub service: String,
    /// The task.
    pub task: TaskId,
    /// Its node.
    pub from: NodeId,
    /// The node that the next task of its slot would get.
    pub to: NodeId,
    /// Why, for a person.
    pub why: String,
}

/// How tasks of services that are spread unevenly are moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    /// Whether the cluster does it by itself.
    pub mode: RebalanceMode,
    /// The most moves within any minute, by the cluster and by operators together; from 1 to
    /// [`Rebalance::MOST_PER_MINUTE`].
    pub moves_per_minute: u32,
    /// The last moves, oldest first; at most [`Rebalance::KEPT`].
    pub recent: Vec<Move>,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            mode: RebalanceMode::Off,
            moves_per_minute: Self::MOVES_PER_MINUTE,
            recent: Vec::new(),
        }
    }
}

impl Rebalance {
    /// Moves within a minute where nobody chose another number.
    pub const MOVES_PER_MINUTE: u32 = 6;
    /// The highest number that may be chosen.
    pub const MOST_PER_MINUTE: u32 = 60;
    /// How many moves are remembered: no fewer than a minute can have.
    pub const KEPT: usize = 64;
    /// How long a move counts.
    pub const MINUTE: Duration = Duration::from_mins(1);

    /// From when on a further move is allowed; `None`: it is now.
    pub fn room_at(&self, now: Timestamp) -> Option<Timestamp> {
        let most = self.moves_per_minute.max(1) as usize;
        let first = self.recent.len().checked_sub(most)?;
        let free = self.recent.get(first)?.at.after(Self::MINUTE);
        (now < free).then_some(free)
    }

    /// Remembers that a task was set in motion.
    pub fn note(&mut self, task: TaskId, at: Timestamp) {
        self.recent.push(Move { task, at });
        let surplus = self.recent.len().saturating_sub(Self::KEPT);
        self.recent.drain(..surplus);
    }

    /// Whether a task was set in motion lately.
    pub fn moves(&self, task: TaskId) -> bool {
        self.recent.iter().any(|one| one.task == task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ServiceId, Slot};

    fn task(number: u32) -> TaskId {
        TaskId { service: ServiceId(1), slot: Slot::Replica(number), generation: 1 }
    }

    #[test]
    fn so_many_moves_are_allowed_within_any_minute() {
        let mut rebalance = Rebalance { moves_per_minute: 2, ..Rebalance::default() };
        assert_eq!(rebalance.room_at(Timestamp(0)), None);
        rebalance.note(task(1), Timestamp(10_000));
        assert_eq!(rebalance.room_at(Timestamp(10_000)), None);
        rebalance.note(task(2), Timestamp(30_000));
        assert_eq!(rebalance.room_at(Timestamp(30_000)), Some(Timestamp(70_000)));
        assert_eq!(rebalance.room_at(Timestamp(69_999)), Some(Timestamp(70_000)));
        assert_eq!(rebalance.room_at(Timestamp(70_000)), None);
    }

    #[test]
    fn the_last_moves_are_remembered() {
        let mut rebalance = Rebalance::default();
        (1..=100).for_each(|number| rebalance.note(task(number), Timestamp(number.into())));
        assert_eq!(rebalance.recent.len(), Rebalance::KEPT);
        assert!(rebalance.moves(task(100)) && rebalance.moves(task(37)));
        assert!(!rebalance.moves(task(36)));
    }
}
