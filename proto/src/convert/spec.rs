//! Specs of stacks, services, networks and volumes.

use std::time::Duration;

use super::fields::{ConvertError, Fields, each, milliseconds, prefix};
use crate::spec::{
    Dependency, NetworkAttachmentSpec, NetworkSpec, NodeLossPolicy, PortSpec, RestartPolicy,
    ServiceMode, ServiceSpec, StackSpec, UpdatePolicy, VolumeSpec,
};
use crate::wire;

impl From<&NetworkSpec> for wire::NetworkSpec {
    fn from(network: &NetworkSpec) -> Self {
        Self {
            name: network.name.clone(),
            subnet: network.subnet.map(prefix),
            internal: network.internal,
            labels: network.labels.clone(),
            external: network.external,
        }
    }
}

impl TryFrom<wire::NetworkSpec> for NetworkSpec {
    type Error = ConvertError;

    fn try_from(network: wire::NetworkSpec) -> Result<Self, ConvertError> {
        let at = Fields("NetworkSpec");
        Ok(Self {
            name: network.name,
            subnet: network.subnet.map(|subnet| at.prefix("subnet", subnet)).transpose()?,
            internal: network.internal,
            labels: network.labels,
            external: network.external,
        })
    }
}

impl From<&NetworkAttachmentSpec> for wire::NetworkAttachmentSpec {
    fn from(attachment: &NetworkAttachmentSpec) -> Self {
        let NetworkAttachmentSpec { network, aliases, external } = attachment.clone();
        Self { network, aliases, external }
    }
}

impl TryFrom<wire::NetworkAttachmentSpec> for NetworkAttachmentSpec {
    type Error = ConvertError;

    fn try_from(attachment: wire::NetworkAttachmentSpec) -> Result<Self, ConvertError> {
        let wire::NetworkAttachmentSpec { network, aliases, external } = attachment;
        Ok(Self { network, aliases, external })
    }
}

impl From<&PortSpec> for wire::PortSpec {
    fn from(port: &PortSpec) -> Self {
        Self {
            target: port.target.into(),
            published: port.published.map(u32::from),
            protocol: port.protocol.into(),
            mode: port.mode.into(),
            host_address: port.host_address.map(u32::from),
        }
    }
}

impl TryFrom<wire::PortSpec> for PortSpec {
    type Error = ConvertError;

    fn try_from(port: wire::PortSpec) -> Result<Self, ConvertError> {
        let at = Fields("PortSpec");
        Ok(Self {
            target: at.port("target", port.target)?,
            published: port.published.map(|number| at.port("published", number)).transpose()?,
            protocol: at.enumeration::<wire::Protocol, _>("protocol", port.protocol)?,
            mode: at.enumeration::<wire::PortMode, _>("mode", port.mode)?,
            host_address: port.host_address.map(Into::into),
        })
    }
}

impl From<&ServiceMode> for wire::ServiceMode {
    fn from(mode: &ServiceMode) -> Self {
        use wire::service_mode::Mode;
        let mode = match *mode {
            ServiceMode::Replicated { replicas } => Mode::Replicated(wire::Replicated { replicas }),
            ServiceMode::Global => Mode::Global(wire::Nothing {}),
            ServiceMode::ReplicatedJob { total, max_concurrent } => {
                Mode::ReplicatedJob(wire::ReplicatedJob { total, max_concurrent })
            }
            ServiceMode::GlobalJob => Mode::GlobalJob(wire::Nothing {}),
        };
        Self { mode: Some(mode) }
    }
}

impl TryFrom<wire::ServiceMode> for ServiceMode {
    type Error = ConvertError;

    fn try_from(mode: wire::ServiceMode) -> Result<Self, ConvertError> {
        use wire::service_mode::Mode;
        match mode.mode {
            Some(Mode::Replicated(mode)) => Ok(Self::Replicated { replicas: mode.replicas }),
            Some(Mode::Global(_)) => Ok(Self::Global),
            Some(Mode::ReplicatedJob(wire::ReplicatedJob { total, max_concurrent })) => {
                Ok(Self::ReplicatedJob { total, max_concurrent })
            }
            Some(Mode::GlobalJob(_)) => Ok(Self::GlobalJob),
            None => Err(Fields("ServiceMode").refuse("mode", "is missing")),
        }
    }
}

impl From<&RestartPolicy> for wire::RestartPolicy {
    fn from(restart: &RestartPolicy) -> Self {
        Self {
            condition: restart.condition.into(),
            delay: milliseconds(restart.delay),
            max_attempts: restart.max_attempts,
            window: milliseconds(restart.window),
        }
    }
}

impl TryFrom<wire::RestartPolicy> for RestartPolicy {
    type Error = ConvertError;

    fn try_from(restart: wire::RestartPolicy) -> Result<Self, ConvertError> {
        let at = Fields("RestartPolicy");
        Ok(Self {
            condition: at
                .enumeration::<wire::RestartCondition, _>("condition", restart.condition)?,
            delay: Duration::from_millis(restart.delay),
            max_attempts: restart.max_attempts,
            window: Duration::from_millis(restart.window),
        })
    }
}

/// The names alone, where all wait for a start only: what cluster version 3 knew.
fn plain_dependencies(all: &[Dependency]) -> Option<Vec<String>> {
    let is_plain = all.iter().all(|one| !one.is_later());
    is_plain.then(|| all.iter().map(|one| one.service.clone()).collect())
}

impl From<&ServiceSpec> for wire::ServiceSpec {
    fn from(service: &ServiceSpec) -> Self {
        Self {
            mode: Some((&service.mode).into()),
            container: Some((&service.container).into()),
            networks: each(&service.networks),
            ports: each(&service.ports),
            endpoint_mode: service.endpoint_mode.into(),
            placement: Some((&service.placement).into()),
            restart: Some((&service.restart).into()),
            update: Some((&service.update).into()),
            volume_node_lost: service.volume_node_lost.into(),
            labels: service.labels.clone(),
            depends_on: plain_dependencies(&service.depends_on).unwrap_or_default(),
            dependencies: match plain_dependencies(&service.depends_on) {
                Some(_) => Vec::new(),
                None => each(&service.depends_on),
            },
            dependency_restarts: service.dependency_restarts,
            schedule: service.schedule.as_ref().map(Into::into),
            run_history: service.run_history,
            rollback: (service.rollback != UpdatePolicy::default())
                .then(|| (&service.rollback).into()),
            force: service.force,
            canary: service.canary.as_ref().map(Into::into),
            node_loss: (service.node_loss != NodeLossPolicy::default())
                .then(|| (&service.node_loss).into()),
            priority: service.priority,
            never_preempted: service.never_preempted,
            autoscale: service.autoscale.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;

    fn try_from(service: wire::ServiceSpec) -> Result<Self, ConvertError> {
        let at = Fields("ServiceSpec");
        Ok(Self {
            mode: at.required("mode", service.mode)?,
            container: at.required("container", service.container)?,
            networks: at.list("networks", service.networks)?,
            ports: at.list("ports", service.ports)?,
            endpoint_mode: at
                .enumeration::<wire::EndpointMode, _>("endpoint_mode", service.endpoint_mode)?,
            placement: at.required("placement", service.placement)?,
            restart: at.required("restart", service.restart)?,
            update: at.required("update", service.update)?,
            volume_node_lost: at.enumeration::<wire::VolumeNodeLost, _>(
                "volume_node_lost",
                service.volume_node_lost,
            )?,
            labels: service.labels,
            depends_on: if service.dependencies.is_empty() {
                service.depends_on.into_iter().map(Dependency::started).collect()
            } else {
                at.list("dependencies", service.dependencies)?
            },
            dependency_restarts: service.dependency_restarts,
            schedule: at.optional("schedule", service.schedule)?,
            run_history: service.run_history,
            rollback: at.optional("rollback", service.rollback)?.unwrap_or_default(),
            force: service.force,
            canary: at.optional("canary", service.canary)?,
            node_loss: at.optional("node_loss", service.node_loss)?.unwrap_or_default(),
            priority: service.priority,
            never_preempted: service.never_preempted,
            autoscale: at.optional("autoscale", service.autoscale)?,
        })
    }
}

impl From<&VolumeSpec> for wire::VolumeSpec {
    fn from(volume: &VolumeSpec) -> Self {
        let VolumeSpec { name, labels, external } = volume.clone();
        Self { name, labels, external }
    }
}

impl TryFrom<wire::VolumeSpec> for VolumeSpec {
    type Error = ConvertError;

    fn try_from(volume: wire::VolumeSpec) -> Result<Self, ConvertError> {
        let wire::VolumeSpec { name, labels, external } = volume;
        Ok(Self { name, labels, external })
    }
}

impl From<&StackSpec> for wire::StackSpec {
    fn from(stack: &StackSpec) -> Self {
        Self {
            name: stack.name.clone(),
            services: stack.services.iter().map(|(key, one)| (key.clone(), one.into())).collect(),
            networks: stack.networks.iter().map(|(key, one)| (key.clone(), one.into())).collect(),
            volumes: stack.volumes.iter().map(|(key, one)| (key.clone(), one.into())).collect(),
            secrets: stack.secrets.iter().map(|(key, one)| (key.clone(), one.into())).collect(),
            configs: stack.configs.iter().map(|(key, one)| (key.clone(), one.into())).collect(),
        }
    }
}

impl TryFrom<wire::StackSpec> for StackSpec {
    type Error = ConvertError;

    fn try_from(stack: wire::StackSpec) -> Result<Self, ConvertError> {
        let at = Fields("StackSpec");
        Ok(Self {
            name: stack.name,
            services: at.map("services", stack.services)?,
            networks: at.map("networks", stack.networks)?,
            volumes: at.map("volumes", stack.volumes)?,
            secrets: at.map("secrets", stack.secrets)?,
            configs: at.map("configs", stack.configs)?,
        })
    }
}
