//! `deploy`: how many tasks, where, and how they are exchanged.

use std::collections::BTreeMap;

use swarm_proto::spec::{
    EndpointMode, Placement, Resources, RestartCondition, RestartPolicy, UpdatePolicy,
};

use super::placement::placement;
use super::{Decoder, limits, update};
use crate::keys::{DEPLOY, RESTART_POLICY};
use crate::tree::{At, Node};

/// More tasks than the largest cluster that this is made for could run.
pub(super) const MOST_REPLICAS: u32 = 100_000;

/// What `deploy` says; what it leaves out is `None` or the default.
#[derive(Default)]
pub(super) struct Deploy {
    pub(super) mode: Mode,
    pub(super) replicas: Option<(At, u32)>,
    pub(super) endpoint_mode: Option<EndpointMode>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) placement: Placement,
    pub(super) resources: Resources,
    pub(super) restart: Option<RestartPolicy>,
    pub(super) update: Option<UpdatePolicy>,
    pub(super) rollback: Option<UpdatePolicy>,
    /// Where `update_config` stands.
    pub(super) update_at: Option<At>,
}

/// `mode`, before the numbers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

impl Mode {
    pub(super) fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob | Self::GlobalJob)
    }
}

pub(super) fn deploy(d: &Decoder<'_>, node: &Node) -> Option<Deploy> {
    let fields = d.fields(node, "`deploy`", &DEPLOY)?;
    let modes = [
        ("replicated", Mode::Replicated),
        ("global", Mode::Global),
        ("replicated-job", Mode::ReplicatedJob),
        ("global-job", Mode::GlobalJob),
    ];
    let mode = fields.get("mode").and_then(|node| d.word(node, "mode", &modes));
    let endpoint_modes = [("vip", EndpointMode::Vip), ("dnsrr", EndpointMode::Dnsrr)];
    let replicas = fields.get("replicas");
    Some(Deploy {
        mode: mode.unwrap_or_default(),
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
        update: fields.get("update_config").and_then(|node| update::update_config(d, node)),
        rollback: fields.get("rollback_config").and_then(|node| update::rollback_config(d, node)),
        update_at: fields.get("update_config").map(|_| fields.key_at("update_config")),
    })
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
