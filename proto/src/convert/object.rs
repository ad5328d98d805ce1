//! Objects of the replicated state, except tasks.

use std::mem::take;
use std::time::Duration;

use super::fields::{ConvertError, Fields, each, mac_number, milliseconds, prefix};
use super::resource::resources;
use crate::id::{NetworkId, NodeId, RaftId, ServiceId, Timestamp, VolumeId};
use crate::object::{
    AllocatedPort, Cluster, FilledFrom, FormerAuthority, HostShare, Incarnation, JobRuns, Leaving,
    Listener, Network, Node, NodeAttachment, NodeDescription, Secret, Service, Stack, Vip, Volume,
    VolumeHolding,
};
use crate::wire;

impl From<&Cluster> for wire::Cluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            id: cluster.id.clone(),
            ca_certificate: cluster.ca_certificate.clone(),
            ca_key: cluster.ca_key.reveal().to_owned(),
            controller_token: cluster.controller_token.reveal().to_owned(),
            agent_token: cluster.agent_token.reveal().to_owned(),
            heartbeat: milliseconds(cluster.heartbeat),
            node_down_after: milliseconds(cluster.node_down_after),
            task_history: cluster.task_history,
            address_pools: cluster.address_pools.iter().copied().map(prefix).collect(),
            subnet_prefix_length: cluster.subnet_prefix_length.into(),
            vxlan_port: cluster.vxlan_port.into(),
            vni_base: cluster.vni_base,
            former_authority: cluster.former_authority.as_ref().map(Into::into),
            unlock_key: cluster.unlock_key.as_ref().map(|key| key.reveal().to_owned()),
            incarnation: cluster.incarnation.to_wire(),
            rebalance: cluster.rebalance.to_wire(),
        }
    }
}

impl TryFrom<wire::Cluster> for Cluster {
    type Error = ConvertError;

    fn try_from(mut cluster: wire::Cluster) -> Result<Self, ConvertError> {
        let at = Fields("Cluster");
        if cluster.address_pools.is_empty() {
            return Err(at.refuse("address_pools", "is missing"));
        }
        let pools = take(&mut cluster.address_pools).into_iter();
        Ok(Self {
            id: take(&mut cluster.id),
            ca_certificate: take(&mut cluster.ca_certificate),
            ca_key: Secret::new(take(&mut cluster.ca_key)),
            controller_token: Secret::new(take(&mut cluster.controller_token)),
            agent_token: Secret::new(take(&mut cluster.agent_token)),
            heartbeat: Duration::from_millis(cluster.heartbeat),
            node_down_after: Duration::from_millis(cluster.node_down_after),
            task_history: cluster.task_history,
            address_pools: pools
                .map(|pool| at.prefix("address_pools", pool))
                .collect::<Result<_, _>>()?,
            subnet_prefix_length: at
                .prefix_length("subnet_prefix_length", cluster.subnet_prefix_length)?,
            vxlan_port: at.port("vxlan_port", cluster.vxlan_port)?,
            vni_base: Some(cluster.vni_base).filter(|vni| *vni != 0).unwrap_or(Self::VNI_BASE),
            former_authority: cluster.former_authority.take().map(Into::into),
            unlock_key: cluster.unlock_key.take().map(Secret::new),
            incarnation: Incarnation::from_wire(cluster.incarnation),
            rebalance: at.optional("rebalance", cluster.rebalance.take())?.unwrap_or_default(),
        })
    }
}

impl Incarnation {
    /// A message's field, which version 0.1.0 did not write.
    pub fn to_wire(self) -> Option<wire::Incarnation> {
        let Self { number, mark } = self;
        (self != Self::default()).then_some(wire::Incarnation { number, mark })
    }

    /// Reads a message's field.
    pub fn from_wire(field: Option<wire::Incarnation>) -> Self {
        field.map_or_else(Self::default, |field| Self { number: field.number, mark: field.mark })
    }
}

impl From<&FormerAuthority> for wire::FormerAuthority {
    fn from(former: &FormerAuthority) -> Self {
        Self {
            certificate: former.certificate.clone(),
            vouched: former.vouched.clone(),
            roots: former.roots.clone(),
            controllers: former.controllers.iter().map(|node| node.0).collect(),
            since: former.since.0,
        }
    }
}

impl From<wire::FormerAuthority> for FormerAuthority {
    fn from(former: wire::FormerAuthority) -> Self {
        Self {
            certificate: former.certificate,
            vouched: former.vouched,
            roots: former.roots,
            controllers: former.controllers.into_iter().map(NodeId).collect(),
            since: Timestamp(former.since),
        }
    }
}

impl From<&NodeAttachment> for wire::NodeAttachment {
    fn from(attachment: &NodeAttachment) -> Self {
        Self {
            node: attachment.node.0,
            address: attachment.address.into(),
            mac: mac_number(attachment.mac),
        }
    }
}

impl TryFrom<wire::NodeAttachment> for NodeAttachment {
    type Error = ConvertError;

    fn try_from(attachment: wire::NodeAttachment) -> Result<Self, ConvertError> {
        Ok(Self {
            node: NodeId(attachment.node),
            address: attachment.address.into(),
            mac: Fields("NodeAttachment").mac("mac", attachment.mac)?,
        })
    }
}

impl From<&Network> for wire::Network {
    fn from(network: &Network) -> Self {
        Self {
            id: network.id.0,
            stack: network.stack.clone(),
            key: network.key.clone(),
            name: network.name.clone(),
            spec: Some((&network.spec).into()),
            vni: network.vni,
            subnet: network.subnet.into(),
            prefix_length: network.prefix_length.into(),
            gateways: each(&network.gateways),
            removing: network.removing,
        }
    }
}

impl TryFrom<wire::Network> for Network {
    type Error = ConvertError;

    fn try_from(network: wire::Network) -> Result<Self, ConvertError> {
        let at = Fields("Network");
        Ok(Self {
            id: NetworkId(network.id),
            stack: network.stack,
            key: network.key,
            name: network.name,
            spec: at.required("spec", network.spec)?,
            vni: network.vni,
            subnet: network.subnet.into(),
            prefix_length: at.prefix_length("prefix_length", network.prefix_length)?,
            gateways: at.list("gateways", network.gateways)?,
            removing: network.removing,
        })
    }
}

impl From<&Listener> for wire::Listener {
    fn from(listener: &Listener) -> Self {
        Self {
            protocol: listener.protocol.into(),
            address: listener.address.into(),
            port: listener.port.into(),
            owner: listener.owner.clone(),
        }
    }
}

impl TryFrom<wire::Listener> for Listener {
    type Error = ConvertError;

    fn try_from(listener: wire::Listener) -> Result<Self, ConvertError> {
        let at = Fields("Listener");
        Ok(Self {
            protocol: at.enumeration::<wire::Protocol, _>("protocol", listener.protocol)?,
            address: listener.address.into(),
            port: at.port("port", listener.port)?,
            owner: listener.owner,
        })
    }
}

impl From<&NodeDescription> for wire::NodeDescription {
    fn from(node: &NodeDescription) -> Self {
        Self {
            hostname: node.hostname.clone(),
            address: node.address.map(u32::from),
            agent_port: node.agent_port.into(),
            os: node.os.clone(),
            arch: node.arch.clone(),
            millicpus: node.millicpus,
            memory: node.memory,
            agent_version: node.agent_version.clone(),
            engine_labels: node.engine_labels.clone(),
            routed_prefixes: node.routed_prefixes.iter().copied().map(prefix).collect(),
            listeners: each(&node.listeners),
            warnings: node.warnings.clone(),
            roots: node.roots.clone(),
            pids: node.pids,
            generic_resources: resources(&node.generic_resources),
            reserve: (node.reserve != HostShare::default()).then(|| (&node.reserve).into()),
        }
    }
}

impl TryFrom<wire::NodeDescription> for NodeDescription {
    type Error = ConvertError;

    fn try_from(node: wire::NodeDescription) -> Result<Self, ConvertError> {
        let at = Fields("NodeDescription");
        let prefixes = node.routed_prefixes.into_iter();
        Ok(Self {
            hostname: node.hostname,
            address: node.address.map(Into::into),
            agent_port: at.port("agent_port", node.agent_port)?,
            os: node.os,
            arch: node.arch,
            millicpus: node.millicpus,
            memory: node.memory,
            agent_version: node.agent_version,
            engine_labels: node.engine_labels,
            routed_prefixes: prefixes
                .map(|prefix| at.prefix("routed_prefixes", prefix))
                .collect::<Result<_, _>>()?,
            listeners: at.list("listeners", node.listeners)?,
            warnings: node.warnings,
            roots: node.roots,
            pids: node.pids,
            generic_resources: at.resources("generic_resources", node.generic_resources)?,
            reserve: node.reserve.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<&Node> for wire::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.0,
            role: node.role.into(),
            availability: node.availability.into(),
            labels: node.labels.clone(),
            status: node.status.into(),
            status_since: node.status_since.0,
            description: Some((&node.description).into()),
            raft_id: node.raft_id.map(|id| id.0),
            controller_address: node.controller_address.clone(),
            joined_at: node.joined_at.0,
            declared_lost: node.declared_lost,
            recent_downs: node.recent_downs.iter().map(|at| at.0).collect(),
        }
    }
}

impl TryFrom<wire::Node> for Node {
    type Error = ConvertError;

    fn try_from(node: wire::Node) -> Result<Self, ConvertError> {
        let at = Fields("Node");
        Ok(Self {
            id: NodeId(node.id),
            role: at.enumeration::<wire::Role, _>("role", node.role)?,
            availability: at
                .enumeration::<wire::Availability, _>("availability", node.availability)?,
            labels: node.labels,
            status: at.enumeration::<wire::NodeStatus, _>("status", node.status)?,
            status_since: Timestamp(node.status_since),
            description: at.required("description", node.description)?,
            raft_id: node.raft_id.map(RaftId),
            controller_address: node.controller_address,
            joined_at: Timestamp(node.joined_at),
            declared_lost: node.declared_lost,
            recent_downs: node.recent_downs.into_iter().map(Timestamp).collect(),
        })
    }
}

impl From<&Vip> for wire::Vip {
    fn from(vip: &Vip) -> Self {
        Self { network: vip.network.0, address: vip.address.into() }
    }
}

impl TryFrom<wire::Vip> for Vip {
    type Error = ConvertError;

    fn try_from(vip: wire::Vip) -> Result<Self, ConvertError> {
        Ok(Self { network: NetworkId(vip.network), address: vip.address.into() })
    }
}

impl From<&AllocatedPort> for wire::AllocatedPort {
    fn from(port: &AllocatedPort) -> Self {
        Self {
            published: port.published.into(),
            target: port.target.into(),
            protocol: port.protocol.into(),
            mode: port.mode.into(),
            host_address: port.host_address.map(u32::from),
        }
    }
}

impl TryFrom<wire::AllocatedPort> for AllocatedPort {
    type Error = ConvertError;

    fn try_from(port: wire::AllocatedPort) -> Result<Self, ConvertError> {
        let at = Fields("AllocatedPort");
        Ok(Self {
            published: at.port("published", port.published)?,
            target: at.port("target", port.target)?,
            protocol: at.enumeration::<wire::Protocol, _>("protocol", port.protocol)?,
            mode: at.enumeration::<wire::PortMode, _>("mode", port.mode)?,
            host_address: port.host_address.map(Into::into),
        })
    }
}

impl From<&Service> for wire::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: service.id.0,
            stack: service.stack.clone(),
            key: service.key.clone(),
            spec: Some((&service.spec).into()),
            spec_version: service.spec_version,
            vips: each(&service.vips),
            ports: each(&service.ports),
            created_at: service.created_at.0,
            updated_at: service.updated_at.0,
            removing: service.removing,
            runs: (service.runs != JobRuns::default()).then(|| (&service.runs).into()),
            update: service.update.as_ref().map(Into::into),
            previous: service.previous.as_deref().map(Into::into),
            previous_version: service.previous_version,
            latest_version: match service.latest_version {
                latest if latest > service.spec_version => latest,
                _ => 0,
            },
            scaling: service.scaling.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Service> for Service {
    type Error = ConvertError;

    fn try_from(service: wire::Service) -> Result<Self, ConvertError> {
        let at = Fields("Service");
        Ok(Self {
            id: ServiceId(service.id),
            stack: service.stack,
            key: service.key,
            spec: at.required("spec", service.spec)?,
            spec_version: service.spec_version,
            vips: at.list("vips", service.vips)?,
            ports: at.list("ports", service.ports)?,
            created_at: Timestamp(service.created_at),
            updated_at: Timestamp(service.updated_at),
            removing: service.removing,
            runs: at.optional("runs", service.runs)?.unwrap_or_default(),
            update: at.optional("update", service.update)?,
            previous: at.optional("previous", service.previous)?.map(Box::new),
            previous_version: service.previous_version,
            latest_version: service.latest_version.max(service.spec_version),
            scaling: at.optional("scaling", service.scaling)?,
        })
    }
}

impl From<&Stack> for wire::Stack {
    fn from(stack: &Stack) -> Self {
        Self {
            spec: Some((&stack.spec).into()),
            revision: stack.revision,
            deployed_at: stack.deployed_at.0,
            removing: stack.removing,
            leaving: (!stack.leaving.is_empty()).then(|| (&stack.leaving).into()),
        }
    }
}

impl TryFrom<wire::Stack> for Stack {
    type Error = ConvertError;

    fn try_from(stack: wire::Stack) -> Result<Self, ConvertError> {
        Ok(Self {
            spec: Fields("Stack").required("spec", stack.spec)?,
            revision: stack.revision,
            deployed_at: Timestamp(stack.deployed_at),
            removing: stack.removing,
            leaving: stack.leaving.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<&Leaving> for wire::Leaving {
    fn from(leaving: &Leaving) -> Self {
        let Leaving { services, networks } = leaving.clone();
        Self { services: services.into_iter().collect(), networks: networks.into_iter().collect() }
    }
}

impl From<wire::Leaving> for Leaving {
    fn from(leaving: wire::Leaving) -> Self {
        let wire::Leaving { services, networks } = leaving;
        Self { services: services.into_iter().collect(), networks: networks.into_iter().collect() }
    }
}

impl From<&FilledFrom> for wire::FilledFrom {
    fn from(filled: &FilledFrom) -> Self {
        Self { reference: filled.reference.clone(), digest: filled.digest.to_string() }
    }
}

impl TryFrom<wire::FilledFrom> for FilledFrom {
    type Error = ConvertError;

    fn try_from(filled: wire::FilledFrom) -> Result<Self, ConvertError> {
        let digest = Fields("FilledFrom").text("digest", &filled.digest)?;
        Ok(Self { reference: filled.reference, digest })
    }
}

impl From<&VolumeHolding> for wire::VolumeHolding {
    fn from(holding: &VolumeHolding) -> Self {
        Self {
            created_at: holding.created_at.0,
            filled_from: holding.filled_from.as_ref().map(Into::into),
            removing: holding.removing,
        }
    }
}

impl TryFrom<wire::VolumeHolding> for VolumeHolding {
    type Error = ConvertError;

    fn try_from(holding: wire::VolumeHolding) -> Result<Self, ConvertError> {
        Ok(Self {
            created_at: Timestamp(holding.created_at),
            filled_from: Fields("VolumeHolding").optional("filled_from", holding.filled_from)?,
            removing: holding.removing,
        })
    }
}

impl From<&Volume> for wire::Volume {
    fn from(volume: &Volume) -> Self {
        let holdings = volume.holdings.iter();
        Self {
            id: volume.id.0,
            stack: volume.stack.clone(),
            key: volume.key.clone(),
            name: volume.name.clone(),
            spec: Some((&volume.spec).into()),
            holdings: holdings.map(|(node, holding)| (node.0, holding.into())).collect(),
            removing: volume.removing,
        }
    }
}

impl TryFrom<wire::Volume> for Volume {
    type Error = ConvertError;

    fn try_from(volume: wire::Volume) -> Result<Self, ConvertError> {
        let at = Fields("Volume");
        Ok(Self {
            id: VolumeId(volume.id),
            stack: volume.stack,
            key: volume.key,
            name: volume.name,
            spec: at.required("spec", volume.spec)?,
            holdings: at
                .map("holdings", volume.holdings)?
                .into_iter()
                .map(|(node, holding)| (NodeId(node), holding))
                .collect(),
            removing: volume.removing,
        })
    }
}
