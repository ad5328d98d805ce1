//! Anything about moves of tasks.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{task_id, time};
use crate::object::{Move, Rebalance, RebalanceMode};

strategy! {
    fn rebalance -> Rebalance {
        mode: select(vec![RebalanceMode::Off, RebalanceMode::Auto]),
        moves_per_minute: any::<u32>(),
        recent: vec(a_move(), 0..3),
    }
    fn a_move -> Move {
        task: task_id(),
        at: time(),
    }
}
