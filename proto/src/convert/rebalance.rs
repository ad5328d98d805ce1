//! How tasks are moved to where they would be placed now.

use super::fields::{ConvertError, Fields, each};
use crate::id::{NodeId, Timestamp};
use crate::object::{Move, PlannedMove, Rebalance};
use crate::wire;

impl Rebalance {
    /// A message's field, which is absent where nothing was chosen and nothing moved.
    pub fn to_wire(&self) -> Option<wire::Rebalance> {
        (*self != Self::default()).then(|| wire::Rebalance {
            mode: self.mode.into(),
            moves_per_minute: self.moves_per_minute,
            recent: each(&self.recent),
        })
    }
}

impl TryFrom<wire::Rebalance> for Rebalance {
    type Error = ConvertError;

    fn try_from(rebalance: wire::Rebalance) -> Result<Self, ConvertError> {
        let at = Fields("Rebalance");
        Ok(Self {
            mode: at.enumeration::<wire::RebalanceMode, _>("mode", rebalance.mode)?,
            moves_per_minute: rebalance.moves_per_minute,
            recent: at.list("recent", rebalance.recent)?,
        })
    }
}

impl From<&Move> for wire::Move {
    fn from(one: &Move) -> Self {
        Self { task: one.task.to_string(), at: one.at.0 }
    }
}

impl TryFrom<wire::Move> for Move {
    type Error = ConvertError;

    fn try_from(one: wire::Move) -> Result<Self, ConvertError> {
        Ok(Self { task: Fields("Move").text("task", &one.task)?, at: Timestamp(one.at) })
    }
}

impl From<&PlannedMove> for wire::PlannedMove {
    fn from(one: &PlannedMove) -> Self {
        Self {
            service: one.service.clone(),
            task: one.task.to_string(),
            from: one.from.0,
            to: one.to.0,
            why: one.why.clone(),
        }
    }
}

impl TryFrom<wire::PlannedMove> for PlannedMove {
    type Error = ConvertError;

    fn try_from(one: wire::PlannedMove) -> Result<Self, ConvertError> {
        Ok(Self {
            task: Fields("PlannedMove").text("task", &one.task)?,
            service: one.service,
            from: NodeId(one.from),
            to: NodeId(one.to),
            why: one.why,
        })
    }
}
