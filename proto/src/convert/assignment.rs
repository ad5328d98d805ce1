//! What travels to an agent, and what it reports of its volumes.

use super::fields::{ConvertError, Fields, addresses, each, mac_number, milliseconds};
use super::resource::resources;
use crate::assignment::{
    AssignmentDiff, AssignmentSet, NetworkAssignment, NetworkIngress, NetworkPeer, NetworkVip,
    TaskAssignment, VolumeAssignment, VolumeReport,
};
use crate::id::{NetworkId, ServiceId, Timestamp, VolumeId};
use crate::object::FilledFrom;
use crate::wire;
use std::time::Duration;

impl From<&TaskAssignment> for wire::TaskAssignment {
    fn from(task: &TaskAssignment) -> Self {
        Self {
            id: task.id.to_string(),
            name: task.name.clone(),
            stack: task.stack.clone(),
            service: task.service.clone(),
            desired: task.desired.into(),
            start_after: task.start_after.map(|time| time.0),
            container: Some((&task.container).into()),
            attachments: each(&task.attachments),
            volumes: task.volumes.iter().map(|(key, volume)| (key.clone(), volume.0)).collect(),
            host_ports: each(&task.host_ports),
            restart: Some((&task.restart).into()),
            withdrawal: task.withdrawal.map_or(0, i32::from),
            lease: task.lease.map(milliseconds),
            resources: resources(&task.resources),
            measure: task.measure.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::TaskAssignment> for TaskAssignment {
    type Error = ConvertError;

    fn try_from(task: wire::TaskAssignment) -> Result<Self, ConvertError> {
        let at = Fields("TaskAssignment");
        let volumes = task.volumes.into_iter();
        Ok(Self {
            id: at.text("id", &task.id)?,
            name: task.name,
            stack: task.stack,
            service: task.service,
            desired: at.enumeration::<wire::TaskState, _>("desired", task.desired)?,
            start_after: task.start_after.map(Timestamp),
            container: at.required("container", task.container)?,
            attachments: at.list("attachments", task.attachments)?,
            volumes: volumes.map(|(key, volume)| (key, VolumeId(volume))).collect(),
            host_ports: at.list("host_ports", task.host_ports)?,
            restart: at.required("restart", task.restart)?,
            withdrawal: wire::Withdrawal::try_from(task.withdrawal).unwrap_or_default().into(),
            lease: task.lease.map(Duration::from_millis),
            resources: at.resources("resources", task.resources)?,
            measure: at.optional("measure", task.measure)?,
        })
    }
}

impl From<&VolumeAssignment> for wire::VolumeAssignment {
    fn from(volume: &VolumeAssignment) -> Self {
        Self { id: volume.id.0, name: volume.name.clone(), remove: volume.remove }
    }
}

impl TryFrom<wire::VolumeAssignment> for VolumeAssignment {
    type Error = ConvertError;

    fn try_from(volume: wire::VolumeAssignment) -> Result<Self, ConvertError> {
        Ok(Self { id: VolumeId(volume.id), name: volume.name, remove: volume.remove })
    }
}

impl From<&NetworkPeer> for wire::NetworkPeer {
    fn from(peer: &NetworkPeer) -> Self {
        Self { address: peer.address.into(), mac: mac_number(peer.mac), host: peer.host.into() }
    }
}

impl TryFrom<wire::NetworkPeer> for NetworkPeer {
    type Error = ConvertError;

    fn try_from(peer: wire::NetworkPeer) -> Result<Self, ConvertError> {
        Ok(Self {
            address: peer.address.into(),
            mac: Fields("NetworkPeer").mac("mac", peer.mac)?,
            host: peer.host.into(),
        })
    }
}

impl From<&NetworkVip> for wire::NetworkVip {
    fn from(vip: &NetworkVip) -> Self {
        let wakes = vip.wakes.map(|service| service.0);
        Self { address: vip.address.into(), backends: addresses(&vip.backends), wakes }
    }
}

impl TryFrom<wire::NetworkVip> for NetworkVip {
    type Error = ConvertError;

    fn try_from(vip: wire::NetworkVip) -> Result<Self, ConvertError> {
        let backends = vip.backends.into_iter().map(Into::into).collect();
        Ok(Self { address: vip.address.into(), backends, wakes: vip.wakes.map(ServiceId) })
    }
}

impl From<&NetworkIngress> for wire::NetworkIngress {
    fn from(ingress: &NetworkIngress) -> Self {
        Self {
            port: Some((&ingress.port).into()),
            backends: addresses(&ingress.backends),
            wakes: ingress.wakes.map(|service| service.0),
        }
    }
}

impl TryFrom<wire::NetworkIngress> for NetworkIngress {
    type Error = ConvertError;

    fn try_from(ingress: wire::NetworkIngress) -> Result<Self, ConvertError> {
        Ok(Self {
            port: Fields("NetworkIngress").required("port", ingress.port)?,
            backends: ingress.backends.into_iter().map(Into::into).collect(),
            wakes: ingress.wakes.map(ServiceId),
        })
    }
}

impl From<&NetworkAssignment> for wire::NetworkAssignment {
    fn from(network: &NetworkAssignment) -> Self {
        let gateway = network
            .gateway
            .map(|(address, mac)| wire::Gateway { address: address.into(), mac: mac_number(mac) });
        let names = network
            .names
            .iter()
            .map(|(name, found)| (name.clone(), wire::Addresses { addresses: addresses(found) }));
        Self {
            id: network.id.0,
            name: network.name.clone(),
            version: network.version,
            vni: network.vni,
            vxlan_port: network.vxlan_port.into(),
            subnet: network.subnet.into(),
            prefix_length: network.prefix_length.into(),
            internal: network.internal,
            gateway,
            peers: each(&network.peers),
            names: names.collect(),
            vips: each(&network.vips),
            ingress: each(&network.ingress),
        }
    }
}

impl TryFrom<wire::NetworkAssignment> for NetworkAssignment {
    type Error = ConvertError;

    fn try_from(network: wire::NetworkAssignment) -> Result<Self, ConvertError> {
        let at = Fields("NetworkAssignment");
        let gateway = match network.gateway {
            Some(gateway) => Some((gateway.address.into(), at.mac("gateway.mac", gateway.mac)?)),
            None => None,
        };
        let names = network
            .names
            .into_iter()
            .map(|(name, found)| (name, found.addresses.into_iter().map(Into::into).collect()));
        Ok(Self {
            id: NetworkId(network.id),
            name: network.name,
            version: network.version,
            vni: network.vni,
            vxlan_port: at.port("vxlan_port", network.vxlan_port)?,
            subnet: network.subnet.into(),
            prefix_length: at.prefix_length("prefix_length", network.prefix_length)?,
            internal: network.internal,
            gateway,
            peers: at.list("peers", network.peers)?,
            names: names.collect(),
            vips: at.list("vips", network.vips)?,
            ingress: at.list("ingress", network.ingress)?,
        })
    }
}

impl From<&AssignmentSet> for wire::AssignmentSet {
    fn from(set: &AssignmentSet) -> Self {
        Self {
            tasks: each(set.tasks.values()),
            networks: each(set.networks.values()),
            volumes: each(set.volumes.values()),
        }
    }
}

impl TryFrom<wire::AssignmentSet> for AssignmentSet {
    type Error = ConvertError;

    fn try_from(set: wire::AssignmentSet) -> Result<Self, ConvertError> {
        let at = Fields("AssignmentSet");
        Ok(Self {
            tasks: at.keyed("tasks", set.tasks, |task: &TaskAssignment| task.id)?,
            networks: at.keyed("networks", set.networks, |one: &NetworkAssignment| one.id)?,
            volumes: at.keyed("volumes", set.volumes, |one: &VolumeAssignment| one.id)?,
        })
    }
}

impl From<&AssignmentDiff> for wire::AssignmentDiff {
    fn from(diff: &AssignmentDiff) -> Self {
        Self {
            tasks: each(&diff.tasks),
            removed_tasks: diff.removed_tasks.iter().map(ToString::to_string).collect(),
            networks: each(&diff.networks),
            removed_networks: diff.removed_networks.iter().map(|id| id.0).collect(),
            volumes: each(&diff.volumes),
            removed_volumes: diff.removed_volumes.iter().map(|id| id.0).collect(),
        }
    }
}

impl TryFrom<wire::AssignmentDiff> for AssignmentDiff {
    type Error = ConvertError;

    fn try_from(diff: wire::AssignmentDiff) -> Result<Self, ConvertError> {
        let at = Fields("AssignmentDiff");
        Ok(Self {
            tasks: at.list("tasks", diff.tasks)?,
            removed_tasks: at.texts("removed_tasks", &diff.removed_tasks)?,
            networks: at.list("networks", diff.networks)?,
            removed_networks: diff.removed_networks.into_iter().map(NetworkId).collect(),
            volumes: at.list("volumes", diff.volumes)?,
            removed_volumes: diff.removed_volumes.into_iter().map(VolumeId).collect(),
        })
    }
}

impl From<&VolumeReport> for wire::VolumeReport {
    fn from(report: &VolumeReport) -> Self {
        let filled_from = report.filled_from.as_ref().map(|(reference, digest)| wire::FilledFrom {
            reference: reference.clone(),
            digest: digest.to_string(),
        });
        Self {
            id: report.id.0,
            name: report.name.clone(),
            created_at: report.created_at.0,
            filled_from,
        }
    }
}

impl TryFrom<wire::VolumeReport> for VolumeReport {
    type Error = ConvertError;

    fn try_from(report: wire::VolumeReport) -> Result<Self, ConvertError> {
        let at = Fields("VolumeReport");
        let filled_from: Option<FilledFrom> = at.optional("filled_from", report.filled_from)?;
        Ok(Self {
            id: VolumeId(report.id),
            name: report.name,
            created_at: Timestamp(report.created_at),
            filled_from: filled_from.map(|filled| (filled.reference, filled.digest)),
        })
    }
}
