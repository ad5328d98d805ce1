//! What a deploy makes of services that are scaled by what is measured.

use swarm_proto::spec::{ServiceMode, ServiceSpec};

use crate::core::command::Refusal;

/// Whether a service can be scaled as it says.
pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let Some(autoscale) = &service.autoscale else { return Ok(()) };
    autoscale.check(service).map_err(|error| {
        let message = format!("service `{key}` cannot be scaled by itself: {error}");
        Refusal::invalid(message, error.hint())
    })?;
    let replicas = service.replicas().unwrap_or_default();
    within(key, service, replicas)
}

/// Whether a number of tasks is within a service's bounds.
pub(in crate::core::rules) fn within(
    name: &str,
    service: &ServiceSpec,
    replicas: u32,
) -> Result<(), Refusal> {
    let Some(autoscale) = &service.autoscale else { return Ok(()) };
    if autoscale.bound(replicas) == replicas {
        return Ok(());
    }
    let (min, max) = (autoscale.min, autoscale.max);
    Err(Refusal::conflict(
        format!("service `{name}` is scaled between {min} and {max} tasks: {replicas} are outside"),
        "deploy it with another `min` or `max` of its `x-swarm: autoscale`",
    ))
}

/// The number of tasks that a deploy gives a service: one that is scaled keeps the number that it has, unless the file
/// says another one than it did `before`. The least of its bounds is where it begins, and no wish.
pub(super) fn number(
    before: Option<&ServiceSpec>,
    old: &ServiceSpec,
    new: &ServiceSpec,
) -> ServiceMode {
    let (Some(autoscale), Some(said), Some(has)) = (&new.autoscale, new.replicas(), old.replicas())
    else {
        return new.mode;
    };
    let is_first = said == autoscale.min || said == autoscale.first();
    let is_no_wish = is_first || before.and_then(ServiceSpec::replicas) == Some(said);
    let replicas = if is_no_wish { autoscale.bound(has) } else { said };
    ServiceMode::Replicated { replicas }
}
