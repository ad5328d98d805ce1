//! Placement constraints: what a node must be.

use swarm_proto::object::{Node, Role};
use swarm_proto::spec::{Constraint, ConstraintKey};

/// Whether a node meets a constraint. A missing label is an empty one.
pub fn holds(constraint: &Constraint, node: &Node) -> bool {
    let value = constraint.value.as_str();
    let equal = match &constraint.key {
        ConstraintKey::NodeId => node.id.to_string().eq_ignore_ascii_case(value),
        ConstraintKey::NodeHostname => node.description.hostname.eq_ignore_ascii_case(value),
        ConstraintKey::NodeRole => is_role(node.role, value),
        ConstraintKey::PlatformOs => node.description.os.eq_ignore_ascii_case(value),
        ConstraintKey::PlatformArch => {
            architecture(&node.description.arch).eq_ignore_ascii_case(architecture(value))
        }
        ConstraintKey::NodeLabel(label) => {
            node.labels.get(label).map_or("", String::as_str).eq_ignore_ascii_case(value)
        }
        ConstraintKey::EngineLabel(label) => {
            let label = node.description.engine_labels.get(label);
            label.map_or("", String::as_str).eq_ignore_ascii_case(value)
        }
    };
    equal == constraint.equal
}

/// The usual name of an architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_role(role: Role, value: &str) -> bool {
    let names = match role {
        Role::Controller => ["controller", "manager"],
        Role::Agent => ["agent", "worker"],
    };
    names.iter().any(|name| name.eq_ignore_ascii_case(value))
}
