//! `x-swarm: unreachable_after` and `on_cut_off`: what becomes of tasks whose node is lost or cut off.

use swarm_proto::spec::{CutOffAction, NodeLossPolicy, UpdatePolicy};

use super::{Decoder, Fields};
use crate::tree::At;

const AFTER: &str = "unreachable_after";
const ON: &str = "on_cut_off";

/// What is said of lost nodes.
#[derive(Default)]
pub(super) struct NodeLoss {
    pub(super) policy: NodeLossPolicy,
    /// Where its tasks are said to be stopped.
    stop: Option<At>,
}

pub(super) fn node_loss(d: &Decoder<'_>, fields: &Fields<'_>) -> NodeLoss {
    let after = fields.get(AFTER).and_then(|node| {
        let after = d.duration(node, AFTER)?;
        if after > NodeLossPolicy::LONGEST {
            d.problems.error_hint(node.at, format!("`{AFTER}` is too long"), "a week at most");
        }
        Some(after)
    });
    let words = [("keep", CutOffAction::Keep), ("stop", CutOffAction::Stop)];
    let on = fields.get(ON).and_then(|node| Some((node.at, d.word(node, ON, &words)?)));
    NodeLoss {
        policy: NodeLossPolicy {
            unreachable_after: after.unwrap_or_default(),
            on_cut_off: on.map(|(_, action)| action).unwrap_or_default(),
        },
        stop: on.filter(|(_, action)| *action == CutOffAction::Stop).map(|(at, _)| at),
    }
}

/// What an update runs twice breaks the promise that nothing runs twice.
pub(super) fn refuse_overlap(d: &Decoder<'_>, loss: &NodeLoss, policies: [&UpdatePolicy; 2]) {
    let overlapping = policies.iter().map(|policy| policy.order).find(|order| order.overlaps());
    if let Some((at, order)) = loss.stop.zip(overlapping) {
        let message =
            format!("`on_cut_off: stop` lets no task run twice, but `order: {order}` does");
        d.problems.error_hint(at, message, "use `order: stop-first`");
    }
}
