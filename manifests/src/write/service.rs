//! A service, with what `deploy` says.

use std::time::Duration;

use swarm_proto::spec::{
    Affinity, Amount, Canary, Concurrency, EndpointMode, JobSchedule, MissedRuns,
    NetworkAttachmentSpec, Placement, PortMode, PortSpec, Protocol, Ratio, ResourceRequest,
    Resources, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec, UpdateFailureAction,
    UpdateOrder, UpdatePolicy, VolumeNodeLost,
};

use super::{Pairs, autoscale, container, health, node_loss, text};
use crate::units::write_millicpus;
use crate::value::Value;

pub(super) fn service(spec: &ServiceSpec) -> Value {
    let ServiceSpec {
        mode,
        container,
        networks,
        ports,
        endpoint_mode,
        placement,
        restart,
        update,
        volume_node_lost: _,
        labels,
        depends_on,
        // The controllers' own count.
        dependency_restarts: _,
        schedule: _,
        run_history: _,
        rollback,
        // It counts what a file cannot ask for.
        force: _,
        canary: _,
        autoscale: _,
        node_loss: _,
        priority: _,
        never_preempted: _,
    } = spec;
    let mut pairs = container::container(container);
    pairs.put("ports", &self::ports(ports));
    pairs.put("networks", &self::networks(networks));
    pairs.put("depends_on", &health::depends_on(depends_on));
    let mut deploy = Pairs::default();
    put_mode(&mut deploy, *mode);
    deploy.put("endpoint_mode", &self::endpoint_mode(*endpoint_mode));
    deploy.put("labels", labels);
    deploy.put("placement", &self::placement(placement));
    deploy.put("resources", &resources(&container.resources));
    deploy.put("restart_policy", &restart_policy(*restart));
    deploy.put("update_config", &policy(*update));
    deploy.put("rollback_config", &policy(*rollback));
    pairs.put("deploy", &deploy.into_some());
    pairs.put("x-swarm", &x_swarm(spec));
    pairs.into_value()
}

fn put_mode(deploy: &mut Pairs, mode: ServiceMode) {
    match mode {
        ServiceMode::Replicated { replicas } => {
            deploy.put("mode", &Value::text("replicated"));
            deploy.put("replicas", &replicas);
        }
        ServiceMode::Global => deploy.put("mode", &Value::text("global")),
        ServiceMode::ReplicatedJob { max_concurrent, .. } => {
            deploy.put("mode", &Value::text("replicated-job"));
            deploy.put("replicas", &max_concurrent);
        }
        ServiceMode::GlobalJob => deploy.put("mode", &Value::text("global-job")),
    }
}

fn endpoint_mode(mode: EndpointMode) -> Option<Value> {
    match mode {
        EndpointMode::Vip => None,
        EndpointMode::Dnsrr => Some(Value::text("dnsrr")),
    }
}

fn ports(ports: &[PortSpec]) -> Option<Value> {
    (!ports.is_empty()).then(|| Value::List(ports.iter().map(port).collect()))
}

fn port(port: &PortSpec) -> Value {
    let PortSpec { target, published, protocol, mode, host_address } = port;
    let mode = match mode {
        PortMode::Ingress => "ingress",
        PortMode::Host => "host",
    };
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let mut pairs = Pairs::default();
    pairs.put("target", target);
    pairs.put("published", published);
    pairs.put("protocol", &Value::text(protocol));
    pairs.put("mode", &Value::text(mode));
    pairs.put("host_ip", &host_address.map(|address| Value::text(address.to_string())));
    pairs.into_value()
}

fn networks(attachments: &[NetworkAttachmentSpec]) -> Option<Value> {
    let attachment = |attachment: &NetworkAttachmentSpec| {
        // Where it is external, the network itself says so.
        let NetworkAttachmentSpec { network, aliases, external: _ } = attachment;
        let mut pairs = Pairs::default();
        pairs.put("aliases", aliases);
        (network.clone(), pairs.into_value())
    };
    (!attachments.is_empty()).then(|| Value::map(attachments.iter().map(attachment)))
}

fn placement(placement: &Placement) -> Option<Value> {
    // What compose has no key for stands below `x-swarm`.
    let Placement { constraints, spread, max_replicas_per_node, near: _, apart: _ } = placement;
    let constraints = constraints.iter().map(|constraint| text(&constraint.to_string()));
    let spread = spread.iter().map(|domain| Value::map([("spread", text(&domain.to_string()))]));
    let mut pairs = Pairs::default();
    pairs.put("constraints", &some_list(constraints));
    pairs.put("preferences", &some_list(spread));
    pairs.put("max_replicas_per_node", max_replicas_per_node);
    pairs.into_some()
}

fn some_list(items: impl Iterator<Item = Value>) -> Option<Value> {
    let items: Vec<Value> = items.collect();
    (!items.is_empty()).then_some(Value::List(items))
}

fn resources(resources: &Resources) -> Option<Value> {
    // What only older keys can say stands on the service itself.
    let Resources {
        limit_millicpus,
        limit_memory,
        limit_pids,
        reserve_millicpus,
        reserve_memory,
        requests,
        ..
    } = resources;
    let cpus = |millicpus: u64| Value::text(write_millicpus(millicpus));
    let bytes = |bytes: u64| Value::text(bytes.to_string());
    let some = |number: u64| (number > 0).then_some(number);
    let mut limits = Pairs::default();
    limits.put("cpus", &limit_millicpus.map(cpus));
    limits.put("memory", &limit_memory.map(bytes));
    limits.put("pids", limit_pids);
    let mut reservations = Pairs::default();
    reservations.put("cpus", &some(*reserve_millicpus).map(cpus));
    reservations.put("memory", &some(*reserve_memory).map(bytes));
    let (devices, generic): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| request.is_device());
    let generic = generic.into_iter().map(generic_resource);
    reservations.put("generic_resources", &some_list(generic));
    reservations.put("devices", &some_list(devices.into_iter().map(device)));
    let mut pairs = Pairs::default();
    pairs.put("limits", &limits.into_some());
    pairs.put("reservations", &reservations.into_some());
    pairs.into_some()
}

fn generic_resource(request: &ResourceRequest) -> Value {
    let ResourceRequest { kind, amount, capabilities: _ } = request;
    let mut pairs = Pairs::default();
    pairs.put("kind", kind);
    if let Amount::Count(count) = amount {
        pairs.put("value", count);
    }
    Value::map([("discrete_resource_spec", pairs.into_value())])
}

/// Its kind is what its capabilities say.
fn device(request: &ResourceRequest) -> Value {
    let ResourceRequest { kind: _, amount, capabilities } = request;
    let mut pairs = Pairs::default();
    pairs.put("capabilities", capabilities);
    match amount {
        Amount::Count(count) => pairs.put("count", count),
        Amount::All => pairs.put("count", &Value::text("all")),
        Amount::Ids(ids) => pairs.put("device_ids", ids),
    }
    pairs.into_value()
}

fn restart_policy(policy: RestartPolicy) -> Option<Value> {
    let RestartPolicy { condition, delay, max_attempts, window } = policy;
    let word = match condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    let mut pairs = Pairs::default();
    pairs.put("condition", &Value::text(word));
    pairs.put("delay", &delay);
    pairs.put("max_attempts", &max_attempts);
    pairs.put("window", &(!window.is_zero()).then_some(window));
    if policy == RestartPolicy::default() { None } else { pairs.into_some() }
}

fn policy(policy: UpdatePolicy) -> Option<Value> {
    let UpdatePolicy {
        parallelism,
        delay,
        order,
        failure_action,
        monitor,
        max_failure_ratio,
        progress_deadline: _,
        hold: _,
    } = policy;
    // What `x-swarm` says is no part of it.
    let order = if order == UpdateOrder::BlueGreen { UpdateOrder::default() } else { order };
    let progress_deadline = UpdatePolicy::PROGRESS_DEADLINE;
    let rest = UpdatePolicy { order, progress_deadline, hold: Duration::ZERO, ..policy };
    let action = match failure_action {
        UpdateFailureAction::Pause => None,
        UpdateFailureAction::Continue => Some(Value::text("continue")),
        UpdateFailureAction::Rollback => Some(Value::text("rollback")),
    };
    let ratio =
        (max_failure_ratio != Ratio::default()).then(|| Value::text(max_failure_ratio.to_string()));
    let mut pairs = Pairs::default();
    pairs.put("parallelism", &parallelism);
    pairs.put("delay", &(!delay.is_zero()).then_some(delay));
    pairs.put("order", &Value::text(order.as_str()));
    pairs.put("failure_action", &action);
    pairs.put("monitor", &(monitor != UpdatePolicy::MONITOR).then_some(monitor));
    pairs.put("max_failure_ratio", &ratio);
    if rest == UpdatePolicy::default() { None } else { pairs.into_some() }
}

/// What compose has no key for.
fn x_swarm(spec: &ServiceSpec) -> Option<Value> {
    let ServiceSpec { volume_node_lost, update, rollback, placement, .. } = spec;
    let own_policy = |policy: &UpdatePolicy| {
        let deadline = policy.progress_deadline;
        let mut pairs = Pairs::default();
        let said = deadline != UpdatePolicy::PROGRESS_DEADLINE;
        pairs.put("progress_deadline", &said.then_some(deadline));
        if policy.order == UpdateOrder::BlueGreen {
            pairs.put("order", &Value::text(policy.order.as_str()));
            pairs.put("hold", &(!policy.hold.is_zero()).then_some(policy.hold));
        }
        pairs.into_some()
    };
    let lost = match volume_node_lost {
        VolumeNodeLost::Wait => None,
        VolumeNodeLost::StartEmpty => Some(Value::text("start-empty")),
    };
    let mut pairs = Pairs::default();
    pairs.put("volume-node-lost", &lost);
    node_loss::put(&mut pairs, spec.node_loss);
    let mut own = Pairs::default();
    own.put("near", &some_list(placement.near.iter().map(affinity)));
    own.put("apart", &some_list(placement.apart.iter().map(affinity)));
    pairs.put("placement", &own.into_some());
    let priority = i128::from(spec.priority);
    pairs.put("priority", &(priority != 0).then_some(Value::Integer(priority)));
    pairs.put("preemption", &spec.never_preempted.then(|| Value::text("never")));
    let pids = spec.container.resources.reserve_pids;
    let mut own = Pairs::default();
    own.put("pids", &(pids > 0).then_some(pids));
    pairs.put("reservations", &own.into_some());
    pairs.put("update", &own_policy(update));
    pairs.put("rollback", &own_policy(rollback));
    pairs.put("health", &health::by_agent(spec.container.health.as_ref()));
    pairs.put("canary", &spec.canary.map(canary));
    pairs.put("autoscale", &spec.autoscale.as_ref().map(autoscale::autoscale));
    pairs.put("job", &job(spec.mode, spec.schedule.as_ref(), spec.run_history));
    pairs.into_some()
}

fn affinity(affinity: &Affinity) -> Value {
    let service = text(&affinity.service);
    let within = Value::text(affinity.within.to_string());
    Value::map([("service", service), ("within", within)])
}

fn canary(canary: Canary) -> Value {
    let size = Value::text(canary.size.to_string());
    let Some(hold) = canary.hold else { return size };
    let mut pairs = Pairs::default();
    pairs.put("replicas", &size);
    pairs.put("hold", &hold);
    pairs.into_value()
}

/// What `deploy` cannot say of a job.
fn job(mode: ServiceMode, schedule: Option<&JobSchedule>, history: Option<u32>) -> Option<Value> {
    let mut pairs = Pairs::default();
    if let ServiceMode::ReplicatedJob { total, max_concurrent } = mode {
        pairs.put("total", &(total != max_concurrent).then_some(total));
    }
    if let Some(JobSchedule { expression, time_zone, missed, concurrency }) = schedule {
        let differs = time_zone != JobSchedule::TIME_ZONE;
        pairs.put("schedule", &text(expression));
        pairs.put("time_zone", &differs.then(|| text(time_zone)));
        let word = |said: bool, word: &'static str| said.then(|| Value::text(word));
        pairs.put("missed", &word(*missed != MissedRuns::default(), missed.as_str()));
        let said = *concurrency != Concurrency::default();
        pairs.put("concurrency", &word(said, concurrency.as_str()));
    }
    pairs.put("history", &history);
    pairs.into_some()
}
