//! Whether what a service says of lost nodes can be kept.

use swarm_proto::spec::{NodeLossPolicy, ServiceMode, ServiceSpec};

use crate::core::command::Refusal;

pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    if service.node_loss.unreachable_after > NodeLossPolicy::LONGEST {
        return Err(Refusal::invalid(
            format!("`unreachable_after` of service `{key}` is too long"),
            "a week at most",
        ));
    }
    let orders = [service.update.order, service.rollback.order];
    let overlapping = orders.into_iter().find(|order| order.overlaps());
    if let Some(order) = overlapping
        && service.node_loss.runs_once()
        && matches!(service.mode, ServiceMode::Replicated { .. })
    {
        return Err(Refusal::invalid(
            format!("service `{key}` would run a task twice by `order: {order}`"),
            "`on_cut_off: stop` promises that none does: use `order: stop-first`",
        ));
    }
    Ok(())
}
