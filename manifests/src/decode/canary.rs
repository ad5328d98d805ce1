//! `x-swarm: canary`: that an update exchanges a part of a service first.

use swarm_proto::spec::{Canary, CanarySize};

use super::Decoder;
use super::deploy::Mode;
use crate::keys::X_SWARM_CANARY;
use crate::tree::{Data, Node};

/// Reads `canary` of a service of this mode.
pub(super) fn canary(d: &Decoder<'_>, node: &Node, mode: Mode) -> Option<Canary> {
    if mode.is_job() {
        let hint = "remove it: a changed job is run anew";
        d.problems.error_hint(node.at, "a job has no `canary`", hint);
        return None;
    }
    if matches!(node.data, Data::Scalar { .. }) {
        return Some(Canary { size: size(d, node, "canary")?, hold: None });
    }
    let fields = d.fields(node, "`canary`", &X_SWARM_CANARY)?;
    let hold = fields.get("hold").and_then(|node| d.duration(node, "hold"));
    let size = match fields.get("replicas") {
        Some(node) => size(d, node, "replicas")?,
        None => CanarySize::Replicas(1),
    };
    Some(Canary { size, hold })
}

fn size(d: &Decoder<'_>, node: &Node, name: &str) -> Option<CanarySize> {
    let found = d.scalar(node, name)?.trim().parse().ok();
    if found.is_none() {
        let hint = "write a number such as `2`, or a part such as `20%`; at most `99%`";
        d.expected(node, name, "a number of tasks or a percentage", hint);
    }
    found
}
