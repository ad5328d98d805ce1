//! `deploy`: how many tasks, where, and how they are exchanged.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_proto::spec::{
    Constraint, ConstraintKey, EndpointMode, Placement, Resources, RestartCondition, RestartPolicy,
    UpdateOrder, UpdatePolicy,
};

use super::{Decoder, limits};
use crate::keys::{DEPLOY, PLACEMENT, PREFERENCE, RESTART_POLICY, UPDATE_CONFIG};
use crate::tree::{At, Node, shorten};

/// More tasks than the largest cluster that this is made for could run.
pub(super) const MOST_REPLICAS: u32 = 100_000;
const CONSTRAINT_KEYS: [&str; 7] = [
    "node.id",
    "node.hostname",
    "node.role",
    "node.platform.os",
    "node.platform.arch",
    "node.labels.NAME",
    "engine.labels.NAME",
];

/// What `deploy` says; what it leaves out is `None` or the default.
#[derive(Default)]
pub(super) struct Deploy {
    pub(super) is_global: bool,
    pub(super) replicas: Option<(At, u32)>,
    pub(super) endpoint_mode: Option<EndpointMode>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) placement: Placement,
    pub(super) resources: Resources,
    pub(super) restart: Option<RestartPolicy>,
    pub(super) update: Option<UpdatePolicy>,
}

pub(super) fn deploy(d: &Decoder<'_>, node: &Node) -> Option<Deploy> {
    let fields = d.fields(node, "`deploy`", &DEPLOY)?;
    let is_global = fields.get("mode").and_then(|node| match d.scalar(node, "mode")? {
        mode @ ("replicated-job" | "global-job") => {
            d.later(
                node.at,
                &format!("mode: {mode}"),
                "use `restart_policy` with `condition: none`",
            );
            None
        }
        _ => d.word(node, "mode", &[("replicated", false), ("global", true)]),
    });
    let endpoint_modes = [("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)];
    let replicas = fields.get("replicas");
    Some(Deploy {
        is_global: is_global.unwrap_or(false),
        replicas: replicas
            .and_then(|node| Some((node.at, d.count(node, "replicas", MOST_REPLICAS)?))),
        endpoint_mode: fields
            .get("endpoint_mode")
            .and_then(|node| d.word(node, "endpoint_mode", &endpoint_modes)),
        labels: fields.get("labels").map(|node| d.labels(node)).unwrap_or_default(),
        placement: fields.get("placement").and_then(|node| placement(d, node)).unwrap_or_default(),
        resources: fields
            .get("resources")
            .map(|node| limits::resources(d, node))
            .unwrap_or_default(),
        restart: fields.get("restart_policy").and_then(|node| restart_policy(d, node)),
        update: fields.get("update_config").and_then(|node| update_config(d, node)),
    })
}

fn placement(d: &Decoder<'_>, node: &Node) -> Option<Placement> {
    let fields = d.fields(node, "`placement`", &PLACEMENT)?;
    let constraints = fields.get("constraints").and_then(|node| d.list(node, "constraints"));
    let preferences = fields.get("preferences").and_then(|node| d.list(node, "preferences"));
    let most = fields.get("max_replicas_per_node");
    let most = most.and_then(|node| d.count(node, "max_replicas_per_node", u32::MAX));
    Some(Placement {
        constraints: constraints
            .unwrap_or_default()
            .iter()
            .filter_map(|node| constraint(d, node))
            .collect(),
        spread: preferences.unwrap_or_default().iter().filter_map(|node| spread(d, node)).collect(),
        max_replicas_per_node: most.filter(|most| *most > 0),
    })
}

fn constraint(d: &Decoder<'_>, node: &Node) -> Option<Constraint> {
    let text = d.scalar(node, "constraints")?;
    let parts = match (text.split_once("=="), text.split_once("!=")) {
        (Some(equal), None) => Some((equal, true)),
        (None, Some(unequal)) => Some((unequal, false)),
        _ => None,
    };
    let Some(((key, value), equal)) = parts else {
        let message = format!("constraint `{}` is not valid", shorten(text));
        let hint = "write `key==value` or `key!=value`, such as `node.labels.zone==a`";
        d.problems.error_hint(node.at, message, hint);
        return None;
    };
    let (key, value) = (key.trim(), value.trim());
    if value.is_empty() {
        let message = format!("constraint `{}` has no value", shorten(text));
        d.problems.error_hint(node.at, message, "write the value after `==` or `!=`");
        return None;
    }
    let Some(parsed) = constraint_key(key) else {
        let message = format!("constraint key `{}` is unknown", shorten(key));
        d.problems.error_hint(node.at, message, constraint_hint(d, key));
        return None;
    };
    if parsed == ConstraintKey::NodeRole {
        let roles = ["manager", "controller", "worker", "agent"];
        if !roles.iter().any(|role| role.eq_ignore_ascii_case(value)) {
            let message = format!("no node has the role `{}`", shorten(value));
            d.problems.error_hint(node.at, message, d.hint(value, roles));
            return None;
        }
    }
    Some(Constraint { key: parsed, equal, value: value.to_owned() })
}

fn constraint_hint(d: &Decoder<'_>, key: &str) -> String {
    let near = key.rsplit_once('.').and_then(|(prefix, name)| {
        let prefix = d.nearest(prefix, ["node.labels", "engine.labels"])?;
        Some(format!("did you mean `{prefix}.{}`?", shorten(name)))
    });
    near.unwrap_or_else(|| d.hint(key, CONSTRAINT_KEYS))
}

/// The prefix compares without case, a label's name with it.
fn constraint_key(key: &str) -> Option<ConstraintKey> {
    let lower = key.to_ascii_lowercase();
    let label = |prefix: &str| {
        let name = lower.starts_with(prefix).then(|| &key[prefix.len()..]);
        name.filter(|name| !name.is_empty() && !name.contains(char::is_whitespace))
            .map(str::to_owned)
    };
    match lower.as_str() {
        "node.id" => Some(ConstraintKey::NodeId),
        "node.hostname" => Some(ConstraintKey::NodeHostname),
        "node.role" => Some(ConstraintKey::NodeRole),
        "node.platform.os" => Some(ConstraintKey::PlatformOs),
        "node.platform.arch" => Some(ConstraintKey::PlatformArch),
        _ => label("node.labels.")
            .map(ConstraintKey::NodeLabel)
            .or_else(|| label("engine.labels.").map(ConstraintKey::EngineLabel)),
    }
}

/// The node label whose values tasks are spread over.
fn spread(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let fields = d.fields(node, "a preference", &PREFERENCE)?;
    let Some(node) = fields.get("spread") else {
        d.problems.error_hint(
            node.at,
            "a preference needs `spread`",
            "write `- spread: node.labels.zone`",
        );
        return None;
    };
    let label = d.scalar(node, "spread")?.strip_prefix("node.labels.");
    let label = label.filter(|name| !name.is_empty());
    if label.is_none() {
        d.expected(node, "spread", "a label of the nodes such as `node.labels.zone`", "");
    }
    label.map(str::to_owned)
}

fn restart_policy(d: &Decoder<'_>, node: &Node) -> Option<RestartPolicy> {
    let fields = d.fields(node, "`restart_policy`", &RESTART_POLICY)?;
    let conditions = [
        ("none", RestartCondition::None),
        ("on-failure", RestartCondition::OnFailure),
        ("any", RestartCondition::Any),
    ];
    let default = RestartPolicy::default();
    let duration = |key: &str| fields.get(key).and_then(|node| d.duration(node, key));
    let condition = fields.get("condition").and_then(|node| d.word(node, "condition", &conditions));
    let max_attempts = fields.get("max_attempts");
    Some(RestartPolicy {
        condition: condition.unwrap_or(default.condition),
        delay: duration("delay").unwrap_or(default.delay),
        // Zero is without end, as in Swarm.
        max_attempts: max_attempts
            .and_then(|node| d.count(node, "max_attempts", u32::MAX))
            .filter(|most| *most > 0),
        window: duration("window").unwrap_or(default.window),
    })
}

fn update_config(d: &Decoder<'_>, node: &Node) -> Option<UpdatePolicy> {
    let fields = d.fields(node, "`update_config`", &UPDATE_CONFIG)?;
    let orders = [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
    let parallelism = fields.get("parallelism");
    Some(UpdatePolicy {
        parallelism: parallelism
            .and_then(|node| d.count(node, "parallelism", u32::MAX))
            .unwrap_or(1),
        delay: fields
            .get("delay")
            .and_then(|node| d.duration(node, "delay"))
            .unwrap_or(Duration::ZERO),
        order: fields
            .get("order")
            .and_then(|node| d.word(node, "order", &orders))
            .unwrap_or_default(),
    })
}
