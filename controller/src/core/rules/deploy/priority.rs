//! What a service says of its place among others.

use swarm_proto::spec::ServiceSpec;

use crate::core::command::Refusal;

pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let (least, most) = (ServiceSpec::LEAST_PRIORITY, ServiceSpec::HIGHEST_PRIORITY);
    if (least..=most).contains(&service.priority) {
        return Ok(());
    }
    let message = format!("service `{key}` cannot have priority {}", service.priority);
    Err(Refusal::invalid(message, format!("{least} to {most} are possible")))
}
