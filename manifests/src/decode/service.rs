//! One service.

use swarm_proto::spec::{
    Canary, EndpointMode, NetworkMode, PortMode, PortSpec, RestartCondition, RestartPolicy,
    ServiceMode, ServiceSpec, VolumeNodeLost,
};

use super::autoscale::Scaled;
use super::deploy::{self, Deploy, MOST_REPLICAS, Mode};
use super::job::{self, Job};
use super::node_loss::NodeLoss;
use super::stack::Declared;
use super::{
    Decoder, Fields, autoscale, build, canary, container, dependencies, legacy, limits, networks,
    node_loss, placement, ports, reservations, update,
};
use crate::keys::{SERVICE, X_SWARM_SERVICE};
use crate::tree::{Key, Node, shorten};

pub(super) fn service(
    d: &Decoder<'_>,
    key: &Key,
    node: &Node,
    declared: &Declared<'_>,
) -> Option<ServiceSpec> {
    let place = format!("service `{}`", shorten(&key.text));
    let fields = d.fields(node, &place, &SERVICE)?;
    build::build(d, key, &fields, declared);
    let deploy = fields.get("deploy").and_then(|node| deploy::deploy(d, node));
    let mut deploy = deploy.unwrap_or_default();
    legacy::limits(d, &fields, &mut deploy.resources);
    if let Some(node) = fields.get("gpus") {
        reservations::gpus(d, node, &mut deploy.resources.requests);
    }
    let platform = fields.get("platform").map(|node| legacy::platform(d, node));
    deploy.placement.constraints.extend(platform.unwrap_or_default());
    let mut container = container::container(d, key, &fields, declared, deploy.resources.clone());
    let of_host = container.as_ref().map(|container| container.sharing.network);
    let ports = fields.get("ports").map(|node| ports::ports(d, node)).unwrap_or_default();
    let endpoint_mode = deploy.endpoint_mode.unwrap_or_default();
    refuse_ingress(d, &fields, endpoint_mode, &ports);
    let own = fields.get("x-swarm");
    let own = own.and_then(|node| x_swarm(d, node, declared, &mut deploy)).unwrap_or_default();
    job::refuse_update(d, &deploy);
    let update = own.update.complete(deploy.update);
    let rollback = own.rollback.complete(deploy.rollback);
    node_loss::refuse_overlap(d, &own.node_loss, [&update, &rollback]);
    if let Some(container) = &mut container {
        container.resources.reserve_pids = own.reserve_pids;
        limits::check_pids(d, fields.key_at("x-swarm"), &container.resources);
    }
    let first = own.scaled.as_ref().map_or(1, |scaled| scaled.autoscale.first());
    let mode = mode(d, &fields, &deploy, &own.job, first);
    let scaled = own.scaled;
    let spec = ServiceSpec {
        mode,
        networks: match of_host {
            Some(NetworkMode::Host | NetworkMode::None) => Vec::new(),
            Some(NetworkMode::Own) | None => networks::attachments(d, &fields, declared),
        },
        ports,
        endpoint_mode,
        restart: restart(d, &fields, &deploy),
        update,
        rollback,
        force: 0,
        canary: own.canary,
        node_loss: own.node_loss.policy,
        priority: own.priority,
        never_preempted: own.never_preempted,
        autoscale: scaled.as_ref().map(|scaled| scaled.autoscale.clone()),
        volume_node_lost: own.volume_node_lost,
        placement: deploy.placement,
        labels: deploy.labels,
        depends_on: fields
            .get("depends_on")
            .map(|node| dependencies::dependencies(d, node, &declared.services))
            .unwrap_or_default(),
        dependency_restarts: 0,
        schedule: own.job.schedule,
        run_history: own.job.history,
        container: container?,
    };
    autoscale::check(d, scaled.as_ref(), &spec);
    Some(spec)
}

/// What every host answers needs a virtual address.
fn refuse_ingress(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    endpoint_mode: EndpointMode,
    ports: &[PortSpec],
) {
    if endpoint_mode == EndpointMode::Dnsrr
        && ports.iter().any(|port| port.mode == PortMode::Ingress)
    {
        let message = "a port of mode `ingress` cannot be published with `endpoint_mode: dnsrr`";
        let hint = "write the port in the long form with `mode: host`, or use `endpoint_mode: vip`";
        d.problems.error_hint(fields.key_at("ports"), message, hint);
    }
}

/// How many tasks; `least` is where a replicated service begins of which nothing is said.
fn mode(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    deploy: &Deploy,
    job: &Job,
    first: u32,
) -> ServiceMode {
    let scale =
        fields.get("scale").and_then(|node| Some((node, d.count(node, "scale", MOST_REPLICAS)?)));
    let replicas = match (deploy.replicas, scale) {
        (Some((_, replicas)), Some((node, scale))) if replicas != scale => {
            let message = format!("`scale` is {scale}, but `deploy.replicas` is {replicas}");
            d.problems.error_hint(node.at, message, "remove one of them");
            None
        }
        (replicas, scale) => {
            let scale = scale.map(|(node, scale)| (node.at, scale));
            replicas.or(scale)
        }
    };
    match (deploy.mode, replicas) {
        (Mode::Global, Some((at, _))) => {
            let hint = "remove it, or use `mode: replicated`";
            d.problems.error_hint(at, "a global service has no number of replicas", hint);
            ServiceMode::Global
        }
        (Mode::Global, None) => ServiceMode::Global,
        (Mode::Replicated, replicas) => {
            ServiceMode::Replicated { replicas: replicas.map_or(first, |(_, replicas)| replicas) }
        }
        (mode, replicas) => job::mode(d, mode, replicas, job),
    }
}

/// `deploy.restart_policy`, else `restart` in compose's own words.
fn restart(d: &Decoder<'_>, fields: &Fields<'_>, deploy: &Deploy) -> RestartPolicy {
    let node = fields.get("restart");
    let legacy = node.and_then(|node| {
        let text = d.scalar(node, "restart")?;
        let (word, attempts) = text.split_once(':').map_or((text, None), |(w, n)| (w, Some(n)));
        let condition = match word {
            "no" | "false" => Some(RestartCondition::None),
            "always" | "unless-stopped" => Some(RestartCondition::Any),
            "on-failure" => Some(RestartCondition::OnFailure),
            _ => None,
        };
        let max_attempts = attempts.map(str::parse::<u32>);
        match (condition, max_attempts) {
            (Some(condition), None) => {
                Some(RestartPolicy { condition, ..RestartPolicy::default() })
            }
            (Some(condition @ RestartCondition::OnFailure), Some(Ok(most))) => {
                // Zero is without end, as in Swarm.
                let max_attempts = Some(most).filter(|most| *most > 0);
                Some(RestartPolicy { condition, max_attempts, ..RestartPolicy::default() })
            }
            _ => {
                let wanted = "`no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`";
                d.expected(node, "restart", wanted, "");
                None
            }
        }
    });
    deploy.restart.or(legacy).unwrap_or_default()
}

/// What compose cannot say.
#[derive(Default)]
struct XSwarm {
    volume_node_lost: VolumeNodeLost,
    update: update::Own,
    rollback: update::Own,
    job: Job,
    canary: Option<Canary>,
    node_loss: NodeLoss,
    scaled: Option<Scaled>,
    reserve_pids: u64,
    priority: i32,
    never_preempted: bool,
}

fn x_swarm(
    d: &Decoder<'_>,
    node: &Node,
    declared: &Declared<'_>,
    deploy: &mut Deploy,
) -> Option<XSwarm> {
    const LOST: &str = "volume-node-lost";
    let fields = d.fields(node, "`x-swarm`", &X_SWARM_SERVICE)?;
    if let Some(node) = fields.get("placement") {
        placement::x_swarm(d, node, &declared.services, &mut deploy.placement);
    }
    let words = [("wait", VolumeNodeLost::Wait), ("start-empty", VolumeNodeLost::StartEmpty)];
    let volume_node_lost = fields.get(LOST).and_then(|node| d.word(node, LOST, &words));
    let own = |key: &str, read: fn(&Decoder<'_>, &Node) -> Option<update::Own>| {
        fields.get(key).and_then(|node| read(d, node)).unwrap_or_default()
    };
    let job = fields.get("job").and_then(|node| job::job(d, node, deploy.mode));
    let reserved = fields.get("reservations").and_then(|node| reservations::x_swarm(d, node));
    let priorities =
        i64::from(ServiceSpec::LEAST_PRIORITY)..=i64::from(ServiceSpec::HIGHEST_PRIORITY);
    let priority = fields.get("priority").and_then(|node| d.integer(node, "priority", priorities));
    let words = [("allow", false), ("never", true)];
    let never = fields.get("preemption").and_then(|node| d.word(node, "preemption", &words));
    Some(XSwarm {
        priority: priority.and_then(|number| i32::try_from(number).ok()).unwrap_or(0),
        never_preempted: never.unwrap_or(false),
        reserve_pids: reserved.unwrap_or(0),
        volume_node_lost: volume_node_lost.unwrap_or_default(),
        update: own("update", update::own_update),
        rollback: own("rollback", update::own_rollback),
        job: job.unwrap_or_default(),
        canary: fields.get("canary").and_then(|node| canary::canary(d, node, deploy.mode)),
        node_loss: node_loss::node_loss(d, &fields),
        scaled: fields.get("autoscale").and_then(|node| autoscale::autoscale(d, node, deploy.mode)),
    })
}

/// Says which word of a closed set was probably meant.
pub(super) fn unknown_word<'a>(
    d: &Decoder<'_>,
    node: &Node,
    message: String,
    known: impl IntoIterator<Item = &'a str> + Clone,
) {
    let text = match &node.data {
        crate::tree::Data::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let text = shorten(text);
    match d.nearest(&text, known) {
        Some(word) => d.problems.error_hint(node.at, message, format!("did you mean `{word}`?")),
        None => d.problems.error(node.at, message),
    }
}
