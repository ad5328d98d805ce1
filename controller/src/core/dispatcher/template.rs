//! Fills in what a container's spec says of its own task, service and node.

use swarm_proto::object::{Node, Service, Task};
use swarm_proto::spec::{ContainerSpec, ServiceSpec};
use swarm_proto::template::{Values, fill};

use crate::core::state::State;

/// The container of a task, with all templates filled in.
pub(super) fn filled(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
    task: &Task,
) -> ContainerSpec {
    let mut container = spec.container.clone();
    let node = task.node.and_then(|id| state.nodes.get(&id));
    fill(&mut container, &values(state, service, spec, task, node.map(|node| &*node.object)));
    container
}

fn values(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
    task: &Task,
    node: Option<&Node>,
) -> Values {
    let mut fields = vec![
        (".Service.ID", service.id.to_string()),
        (".Service.Name", service.name()),
        (".Task.ID", task.id.to_string()),
        (".Task.Name", state.task_name(task.id)),
        (".Task.Slot", task.id.slot.to_string()),
    ];
    if let Some(node) = node {
        let architecture = match node.description.arch.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        fields.extend([
            (".Node.ID", node.id.to_string()),
            (".Node.Hostname", node.description.hostname.clone()),
            (".Node.Platform.Architecture", architecture.to_owned()),
            (".Node.Platform.OS", node.description.os.clone()),
        ]);
    }
    Values { fields: fields.into_iter().collect(), labels: spec.labels.clone() }
}
