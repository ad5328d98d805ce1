//! Policies for lost nodes.

use std::time::Duration;

use super::fields::{ConvertError, Fields, milliseconds};
use crate::spec::NodeLossPolicy;
use crate::wire;

impl From<&NodeLossPolicy> for wire::NodeLossPolicy {
    fn from(policy: &NodeLossPolicy) -> Self {
        Self {
            unreachable_after: milliseconds(policy.unreachable_after),
            on_cut_off: policy.on_cut_off.into(),
        }
    }
}

impl TryFrom<wire::NodeLossPolicy> for NodeLossPolicy {
    type Error = ConvertError;

    fn try_from(policy: wire::NodeLossPolicy) -> Result<Self, ConvertError> {
        let at = Fields("NodeLossPolicy");
        Ok(Self {
            unreachable_after: Duration::from_millis(policy.unreachable_after),
            on_cut_off: at.enumeration::<wire::CutOffAction, _>("on_cut_off", policy.on_cut_off)?,
        })
    }
}
