//! What travels to an agent, and what it reports of its volumes.

use super::fields::{ConvertError, Fields, each, milliseconds};
use super::resource::resources;
use crate::assignment::{
    AssignmentDiff, AssignmentSet, NetworkAssignment, TaskAssignment, VolumeAssignment,
    VolumeReport,
};
use crate::id::{NetworkId, Timestamp, VolumeId};
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
            network_changes: each(&diff.network_changes),
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
            network_changes: at.list("network_changes", diff.network_changes)?,
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
