//! What the scheduler sets aside beside CPUs and memory: generic resources, devices, processes.

use swarm_proto::spec::{Amount, ResourceRequest};

use super::{Decoder, Fields};
use crate::keys::{DEVICE_REQUEST, DISCRETE_RESOURCE, GENERIC_RESOURCE, X_SWARM_RESERVATIONS};
use crate::tree::{Data, Node, shorten};

/// What NVIDIA's devices can do, and compose's own words for that they are such.
const CAPABILITIES: [&str; 9] =
    ["gpu", "nvidia", "compute", "utility", "graphics", "video", "display", "compat32", "ngx"];

/// `generic_resources` and `devices` of `deploy.resources.reservations`.
pub(super) fn requests(d: &Decoder<'_>, fields: &Fields<'_>) -> Vec<ResourceRequest> {
    let mut found = Vec::new();
    let generic = fields.get("generic_resources");
    for node in generic.and_then(|node| d.list(node, "generic_resources")).unwrap_or_default() {
        let request = generic_resource(d, node);
        add(d, node, request, &mut found);
    }
    let devices = fields.get("devices").and_then(|node| d.list(node, "devices"));
    for node in devices.unwrap_or_default() {
        let request = device(d, node, None);
        add(d, node, request, &mut found);
    }
    found
}

/// `gpus`: all of a node's, or a list as below `devices`.
pub(super) fn gpus(d: &Decoder<'_>, node: &Node, found: &mut Vec<ResourceRequest>) {
    if let Data::Scalar { .. } = node.data {
        let all = d.word(node, "gpus", &[("all", ())]);
        let request = all.map(|()| gpu(Amount::All, vec![ResourceRequest::GPU.to_owned()]));
        return add(d, node, request, found);
    }
    for node in d.list(node, "gpus").unwrap_or_default() {
        let request = device(d, node, Some(ResourceRequest::GPU));
        add(d, node, request, found);
    }
}

/// `x-swarm: reservations`: the processes.
pub(super) fn x_swarm(d: &Decoder<'_>, node: &Node) -> Option<u64> {
    let fields = d.fields(node, "`reservations`", &X_SWARM_RESERVATIONS)?;
    let pids = d.integer(fields.get("pids")?, "pids", 0..=i64::from(u32::MAX))?;
    u64::try_from(pids).ok()
}

fn gpu(amount: Amount, capabilities: Vec<String>) -> ResourceRequest {
    ResourceRequest { kind: ResourceRequest::GPU.to_owned(), amount, capabilities }
}

/// Each kind is asked for once: else nobody could tell how much is meant.
fn add(
    d: &Decoder<'_>,
    node: &Node,
    request: Option<ResourceRequest>,
    found: &mut Vec<ResourceRequest>,
) {
    let Some(request) = request else { return };
    if found.iter().any(|other| other.kind == request.kind) {
        let message = format!("resources of the kind `{}` are asked for twice", request.kind);
        let hint = "say it once: `devices` and `gpus` ask for the kind `gpu`";
        return d.problems.error_hint(node.at, message, hint);
    }
    found.push(request);
}

fn generic_resource(d: &Decoder<'_>, node: &Node) -> Option<ResourceRequest> {
    let fields = d.fields(node, "a generic resource", &GENERIC_RESOURCE)?;
    let hint = "write `- discrete_resource_spec: {kind: gpu, value: 1}`";
    let Some(node) = fields.get("discrete_resource_spec") else {
        d.problems.error_hint(node.at, "a generic resource needs `discrete_resource_spec`", hint);
        return None;
    };
    let fields = d.fields(node, "`discrete_resource_spec`", &DISCRETE_RESOURCE)?;
    let (Some(kind), Some(value)) = (fields.get("kind"), fields.get("value")) else {
        d.problems.error_hint(node.at, "a generic resource needs `kind` and `value`", hint);
        return None;
    };
    let value = d.integer(value, "value", 1..=i64::from(u32::MAX));
    let text = d.scalar(kind, "kind")?;
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic() && !",=`\"".contains(c)) {
        let message = format!("`{}` is no kind of resources", shorten(text));
        d.problems.error_hint(kind.at, message, "write a word such as `gpu`");
        return None;
    }
    let amount = Amount::Count(u64::try_from(value?).ok()?);
    Some(ResourceRequest { kind: text.to_ascii_lowercase(), amount, capabilities: Vec::new() })
}

/// A request for devices; `implied` is what they can do where nothing is said.
fn device(d: &Decoder<'_>, node: &Node, implied: Option<&str>) -> Option<ResourceRequest> {
    let fields = d.fields(node, "a request for devices", &DEVICE_REQUEST)?;
    if let Some(node) = fields.get("driver") {
        driver(d, node)?;
    }
    let amount = amount(d, &fields)?;
    let words = fields.get("capabilities").and_then(|node| d.list(node, "capabilities"));
    let mut capabilities: Vec<String> = implied.map(str::to_owned).into_iter().collect();
    for node in words.unwrap_or_default() {
        let word = d.scalar(node, "capabilities")?;
        if !CAPABILITIES.contains(&word) {
            let message = format!("`{}` is nothing that devices can do here", shorten(word));
            d.problems.error_hint(node.at, message, d.hint(word, CAPABILITIES));
            return None;
        }
        if !capabilities.iter().any(|known| known == word) {
            capabilities.push(word.to_owned());
        }
    }
    let is_gpu = |word: &String| ["gpu", "nvidia"].contains(&word.as_str());
    if !capabilities.iter().any(is_gpu) {
        let message = "a request for devices needs `capabilities` with `gpu`";
        let hint = "write `capabilities: [gpu]`; `generic_resources` asks for other kinds";
        d.problems.error_hint(fields.key_at("capabilities"), message, hint);
        return None;
    }
    Some(gpu(amount, capabilities))
}

fn driver(d: &Decoder<'_>, node: &Node) -> Option<()> {
    let text = d.scalar(node, "driver")?;
    if text == "nvidia" {
        return Some(());
    }
    let message = format!("devices of the driver `{}` cannot be given", shorten(text));
    let hint = "name them in `generic_resources` and `resource_devices` of the agents, and ask with `generic_resources`; descriptions of CDI are not read";
    d.problems.error_hint(node.at, message, hint);
    None
}

fn amount(d: &Decoder<'_>, fields: &Fields<'_>) -> Option<Amount> {
    match (fields.get("count"), fields.get("device_ids")) {
        (Some(_), Some(_)) => {
            let message = "`count` and `device_ids` exclude each other";
            d.problems.error_hint(fields.key_at("count"), message, "remove one of them");
            None
        }
        (Some(Node { data: Data::Scalar { text, .. }, .. }), None) if text == "all" => {
            Some(Amount::All)
        }
        (Some(node), None) => {
            let count = d.integer(node, "count", 1..=i64::from(u32::MAX))?;
            Some(Amount::Count(u64::try_from(count).ok()?))
        }
        (None, Some(node)) => {
            let mut ids: Vec<String> = Vec::new();
            for item in d.list(node, "device_ids")? {
                let id = d.scalar(item, "device_ids")?;
                if ids.iter().any(|known| known == id) {
                    let message = format!("device `{}` is named twice", shorten(id));
                    d.problems.error_hint(item.at, message, "remove one of them");
                    return None;
                }
                ids.push(id.to_owned());
            }
            if ids.is_empty() {
                d.problems.error_hint(node.at, "`device_ids` names none", "remove it");
                return None;
            }
            Some(Amount::Ids(ids))
        }
        // As the specification has it.
        (None, None) => Some(Amount::All),
    }
}
