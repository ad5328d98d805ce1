//! Anything about nodes that are lost.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{duration, time};
use crate::id::Timestamp;
use crate::spec::{CutOffAction, NodeLossPolicy};

pub(crate) fn recent_downs() -> BoxedStrategy<Vec<Timestamp>> {
    vec(time(), 0..3).boxed()
}

strategy! {
    fn node_loss_policy -> NodeLossPolicy {
        unreachable_after: duration(),
        on_cut_off: select(vec![CutOffAction::Keep, CutOffAction::Stop]),
    }
}
