//! `update_config` and `rollback_config`: how tasks are exchanged for those of another spec.

use std::time::Duration;

use swarm_proto::spec::{Ratio, UpdateFailureAction, UpdateOrder, UpdatePolicy};

use super::Decoder;
use crate::keys::{Level, ROLLBACK_CONFIG, UPDATE_CONFIG, X_SWARM_POLICY};
use crate::tree::{Data, Node};

pub(super) fn update_config(d: &Decoder<'_>, node: &Node) -> Option<UpdatePolicy> {
    let actions = [
        ("pause", UpdateFailureAction::Pause),
        ("continue", UpdateFailureAction::Continue),
        ("rollback", UpdateFailureAction::Rollback),
    ];
    policy(d, node, "`update_config`", &UPDATE_CONFIG, &actions)
}

/// What a rollback that fails goes back to would be what failed before.
pub(super) fn rollback_config(d: &Decoder<'_>, node: &Node) -> Option<UpdatePolicy> {
    let actions =
        [("pause", UpdateFailureAction::Pause), ("continue", UpdateFailureAction::Continue)];
    policy(d, node, "`rollback_config`", &ROLLBACK_CONFIG, &actions)
}

fn policy(
    d: &Decoder<'_>,
    node: &Node,
    name: &str,
    level: &'static Level,
    actions: &[(&str, UpdateFailureAction)],
) -> Option<UpdatePolicy> {
    let fields = d.fields(node, name, level)?;
    let orders = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
    let default = UpdatePolicy::default();
    let duration = |key: &str| fields.get(key).and_then(|node| d.duration(node, key));
    let parallelism = fields.get("parallelism");
    let ratio = fields.get("max_failure_ratio").and_then(|node| ratio(d, node));
    let action = fields.get("failure_action");
    let order = fields.get("order").and_then(|node| d.word(node, "order", &orders));
    Some(UpdatePolicy {
        parallelism: parallelism
            .and_then(|node| d.count(node, "parallelism", u32::MAX))
            .unwrap_or(default.parallelism),
        delay: duration("delay").unwrap_or(default.delay),
        order: order.unwrap_or(default.order),
        failure_action: action
            .and_then(|node| d.word(node, "failure_action", actions))
            .unwrap_or(default.failure_action),
        // Zero is as nothing said, as in Swarm.
        monitor: duration("monitor").filter(|time| !time.is_zero()).unwrap_or(default.monitor),
        max_failure_ratio: ratio.unwrap_or(default.max_failure_ratio),
        ..default
    })
}

fn ratio(d: &Decoder<'_>, node: &Node) -> Option<Ratio> {
    let found = match &node.data {
        Data::Scalar { text, .. } => text.parse().ok(),
        _ => None,
    };
    if found.is_none() {
        let hint = "at most six digits after the point, such as `0.25`";
        d.expected(node, "max_failure_ratio", "a number from 0 to 1", hint);
    }
    found
}

/// `x-swarm: update` and `x-swarm: rollback`: what compose cannot say of the policy.
pub(super) fn progress_deadline(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Duration> {
    const KEY: &str = "progress_deadline";
    let fields = d.fields(node, name, &X_SWARM_POLICY)?;
    d.duration(fields.get(KEY)?, KEY)
}
