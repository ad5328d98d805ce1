//! Changes of services.

use super::fields::{ConvertError, Fields, each};
use crate::spec::ServiceChange;
use crate::wire;

impl From<&ServiceChange> for wire::ServiceChange {
    fn from(change: &ServiceChange) -> Self {
        Self {
            values: Some((&change.values).into()),
            fields: change.fields.iter().map(ToString::to_string).collect(),
            remove_environment: change.remove_environment.clone(),
            remove_labels: change.remove_labels.clone(),
            remove_container_labels: change.remove_container_labels.clone(),
            remove_constraints: each(&change.remove_constraints),
            remove_ports: change.remove_ports.iter().copied().map(u32::from).collect(),
            remove_mounts: change.remove_mounts.clone(),
            remove_resources: change.remove_resources.clone(),
            force: change.force,
        }
    }
}

impl TryFrom<wire::ServiceChange> for ServiceChange {
    type Error = ConvertError;

    fn try_from(change: wire::ServiceChange) -> Result<Self, ConvertError> {
        let at = Fields("ServiceChange");
        let ports = change.remove_ports.into_iter();
        Ok(Self {
            values: at.required("values", change.values)?,
            fields: at.texts("fields", &change.fields)?.into_iter().collect(),
            remove_environment: change.remove_environment,
            remove_labels: change.remove_labels,
            remove_container_labels: change.remove_container_labels,
            remove_constraints: at.list("remove_constraints", change.remove_constraints)?,
            remove_ports: ports
                .map(|port| at.port("remove_ports", port))
                .collect::<Result<_, ConvertError>>()?,
            remove_mounts: change.remove_mounts,
            remove_resources: change.remove_resources,
            force: change.force,
        })
    }
}
