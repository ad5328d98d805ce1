//! Canaries of updates.

use std::time::Duration;

use super::fields::{ConvertError, Fields, milliseconds};
use crate::spec::{Canary, CanarySize};
use crate::wire;
use crate::wire::canary::Size;

impl From<&Canary> for wire::Canary {
    fn from(canary: &Canary) -> Self {
        let size = match canary.size {
            CanarySize::Replicas(replicas) => Size::Replicas(replicas),
            CanarySize::Percent(percent) => Size::Percent(percent),
        };
        Self { size: Some(size), hold: canary.hold.map(milliseconds) }
    }
}

impl TryFrom<wire::Canary> for Canary {
    type Error = ConvertError;

    fn try_from(canary: wire::Canary) -> Result<Self, ConvertError> {
        let at = Fields("Canary");
        let size = match canary.size {
            Some(Size::Replicas(replicas)) => CanarySize::Replicas(replicas),
            Some(Size::Percent(percent)) => CanarySize::Percent(percent),
            None => return Err(at.refuse("size", "is missing")),
        };
        if !size.is_valid() {
            return Err(at.refuse("size", "is none of 1 and more, or 1 to 99 percent"));
        }
        Ok(Self { size, hold: canary.hold.map(Duration::from_millis) })
    }
}
