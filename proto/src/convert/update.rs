//! Policies and states of updates.

use std::time::Duration;

use super::fields::{ConvertError, Fields, milliseconds};
use crate::id::Timestamp;
use crate::object::{Switch, UpdateStatus};
use crate::spec::{Ratio, UpdateFailureAction, UpdatePolicy};
use crate::wire;

impl From<&UpdatePolicy> for wire::UpdatePolicy {
    fn from(update: &UpdatePolicy) -> Self {
        let other = |value: Duration, usual: Duration| (value != usual).then_some(value);
        // What is as usual is not written, as before it could be said.
        let action = match update.failure_action {
            UpdateFailureAction::Pause => wire::UpdateFailureAction::Unspecified,
            action => action.into(),
        };
        Self {
            parallelism: update.parallelism,
            delay: milliseconds(update.delay),
            order: update.order.into(),
            failure_action: action.into(),
            monitor: other(update.monitor, UpdatePolicy::MONITOR).map(milliseconds),
            max_failure_ratio: update.max_failure_ratio.millionths(),
            progress_deadline: other(update.progress_deadline, UpdatePolicy::PROGRESS_DEADLINE)
                .map(milliseconds),
            hold: milliseconds(update.hold),
        }
    }
}

impl TryFrom<wire::UpdatePolicy> for UpdatePolicy {
    type Error = ConvertError;

    fn try_from(update: wire::UpdatePolicy) -> Result<Self, ConvertError> {
        let at = Fields("UpdatePolicy");
        let failure_action = match update.failure_action {
            0 => UpdateFailureAction::Pause,
            action => at.enumeration::<wire::UpdateFailureAction, _>("failure_action", action)?,
        };
        let ratio = Ratio::from_millionths(update.max_failure_ratio);
        let duration = |value: Option<u64>, usual| value.map_or(usual, Duration::from_millis);
        Ok(Self {
            parallelism: update.parallelism,
            delay: Duration::from_millis(update.delay),
            order: at.enumeration::<wire::UpdateOrder, _>("order", update.order)?,
            failure_action,
            monitor: duration(update.monitor, Self::MONITOR),
            max_failure_ratio: ratio
                .ok_or_else(|| at.refuse("max_failure_ratio", "is more than the whole"))?,
            progress_deadline: duration(update.progress_deadline, Self::PROGRESS_DEADLINE),
            hold: Duration::from_millis(update.hold),
        })
    }
}

impl From<&UpdateStatus> for wire::UpdateStatus {
    fn from(update: &UpdateStatus) -> Self {
        Self {
            number: update.number,
            state: update.state.into(),
            started_at: update.started_at.0,
            finished_at: update.finished_at.map(|time| time.0),
            message: update.message.clone(),
            slots: update.slots,
            failures: update.failures,
            ran_at: update.ran_at.map_or(0, |time| time.0),
            failed: update.failed.map(|task| task.to_string()).unwrap_or_default(),
            promoted: update.promoted,
            switched_at: match update.switch {
                Switch::None => None,
                Switch::Due => Some(0),
                Switch::Done(at) => Some(at.0),
            },
        }
    }
}

impl TryFrom<wire::UpdateStatus> for UpdateStatus {
    type Error = ConvertError;

    fn try_from(update: wire::UpdateStatus) -> Result<Self, ConvertError> {
        let at = Fields("UpdateStatus");
        let failed = Some(&update.failed).filter(|task| !task.is_empty());
        Ok(Self {
            number: update.number,
            state: at.enumeration::<wire::UpdateState, _>("state", update.state)?,
            started_at: Timestamp(update.started_at),
            finished_at: update.finished_at.map(Timestamp),
            failed: failed.map(|task| at.text("failed", task)).transpose()?,
            message: update.message,
            slots: update.slots,
            failures: update.failures,
            ran_at: Some(update.ran_at).filter(|time| *time > 0).map(Timestamp),
            promoted: update.promoted,
            switch: match update.switched_at {
                None => Switch::None,
                Some(0) => Switch::Due,
                Some(at) => Switch::Done(Timestamp(at)),
            },
        })
    }
}
