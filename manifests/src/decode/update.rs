//! `update_config` and `rollback_config`: how tasks are exchanged for those of another spec.

use std::time::Duration;

use swarm_proto::spec::{Ratio, UpdateFailureAction, UpdateOrder, UpdatePolicy};

use super::Decoder;
use crate::keys::{Level, ROLLBACK_CONFIG, UPDATE_CONFIG, X_SWARM_POLICY, X_SWARM_UPDATE};
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

/// What `x-swarm` says of a policy.
#[derive(Default)]
pub(super) struct Own {
    progress_deadline: Option<Duration>,
    order: Option<UpdateOrder>,
    hold: Option<Duration>,
}

impl Own {
    /// A policy with what only `x-swarm` can say of it.
    pub(super) fn complete(self, policy: Option<UpdatePolicy>) -> UpdatePolicy {
        let policy = policy.unwrap_or_default();
        UpdatePolicy {
            progress_deadline: self.progress_deadline.unwrap_or(policy.progress_deadline),
            order: self.order.unwrap_or(policy.order),
            hold: self.hold.unwrap_or(policy.hold),
            ..policy
        }
    }
}

/// `x-swarm: update`.
pub(super) fn own_update(d: &Decoder<'_>, node: &Node) -> Option<Own> {
    let fields = d.fields(node, "`x-swarm.update`", &X_SWARM_UPDATE)?;
    let duration = |key: &str| fields.get(key).and_then(|node| d.duration(node, key));
    let orders = [("blue-green", UpdateOrder::BlueGreen)];
    let order = fields.get("order").and_then(|node| d.word(node, "order", &orders));
    if fields.get("hold").is_some() && fields.get("order").is_none() {
        let message = "`hold` is for blue-green updates";
        d.problems.error_hint(fields.key_at("hold"), message, "add `order: blue-green`");
    }
    Some(Own { progress_deadline: duration("progress_deadline"), order, hold: duration("hold") })
}

/// `x-swarm: rollback`.
pub(super) fn own_rollback(d: &Decoder<'_>, node: &Node) -> Option<Own> {
    const KEY: &str = "progress_deadline";
    let fields = d.fields(node, "`x-swarm.rollback`", &X_SWARM_POLICY)?;
    let progress_deadline = fields.get(KEY).and_then(|node| d.duration(node, KEY));
    Some(Own { progress_deadline, ..Own::default() })
}
