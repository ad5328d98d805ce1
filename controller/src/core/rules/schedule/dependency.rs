//! Services that wait for others of their stack, before their first start only: what was up once may come back in any
//! order.

use swarm_proto::id::ServiceId;
use swarm_proto::object::{Service, TaskState};
use swarm_proto::spec::{ServiceMode, ServiceSpec};

use crate::core::state::{State, tasks_of};

/// What a service still waits for; `None` once nothing holds it. One that is gone or has no replicas holds nobody.
pub(super) fn awaited(state: &State, service: &Service, spec: &ServiceSpec) -> Option<String> {
    if spec.depends_on.is_empty() || has_started(state, service.id) {
        return None;
    }
    let holds = |key: &&String| {
        let other = state.find_service(&service.stack, key).filter(|other| !other.removing);
        other.is_some_and(|other| {
            let off = other.spec.mode == (ServiceMode::Replicated { replicas: 0 });
            !off && !has_started(state, other.id)
        })
    };
    let names: Vec<String> =
        spec.depends_on.iter().filter(holds).map(|key| format!("`{key}`")).collect();
    (!names.is_empty()).then(|| format!("waits until {} started", names.join(", ")))
}

/// Whether a task of a service runs, or is known to have run.
fn has_started(state: &State, service: ServiceId) -> bool {
    tasks_of(state, service).any(|task| {
        let status = &task.status;
        status.started_at.is_some()
            || matches!(status.state, TaskState::Running | TaskState::Complete)
    })
}
