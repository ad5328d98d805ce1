//! Tasks and what is reported of them.

use super::fields::{ConvertError, Fields, each, mac_number};
use super::resource::resources;
use crate::id::{NetworkId, NodeId, TaskId, Timestamp};
use crate::object::{Attachment, Task, TaskStatus};
use crate::wire;

impl From<&Attachment> for wire::Attachment {
    fn from(attachment: &Attachment) -> Self {
        Self {
            network: attachment.network.0,
            address: attachment.address.into(),
            mac: mac_number(attachment.mac),
        }
    }
}

impl TryFrom<wire::Attachment> for Attachment {
    type Error = ConvertError;

    fn try_from(attachment: wire::Attachment) -> Result<Self, ConvertError> {
        Ok(Self {
            network: NetworkId(attachment.network),
            address: attachment.address.into(),
            mac: Fields("Attachment").mac("mac", attachment.mac)?,
        })
    }
}

impl From<&TaskStatus> for wire::TaskStatus {
    fn from(status: &TaskStatus) -> Self {
        Self {
            state: status.state.into(),
            since: status.since.0,
            message: status.message.clone(),
            exit_code: status.exit_code,
            pid: status.pid,
            started_at: status.started_at.map(|time| time.0),
            attempt: status.attempt,
            health: status.health.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::TaskStatus> for TaskStatus {
    type Error = ConvertError;

    fn try_from(status: wire::TaskStatus) -> Result<Self, ConvertError> {
        let at = Fields("TaskStatus");
        Ok(Self {
            state: at.enumeration::<wire::TaskState, _>("state", status.state)?,
            since: Timestamp(status.since),
            message: status.message,
            exit_code: status.exit_code,
            pid: status.pid,
            started_at: status.started_at.map(Timestamp),
            attempt: status.attempt,
            health: at.optional("health", status.health)?,
        })
    }
}

impl From<(&TaskId, &TaskStatus)> for wire::TaskStatusReport {
    fn from((task, status): (&TaskId, &TaskStatus)) -> Self {
        Self { task: task.to_string(), status: Some(status.into()) }
    }
}

impl TryFrom<wire::TaskStatusReport> for (TaskId, TaskStatus) {
    type Error = ConvertError;

    fn try_from(report: wire::TaskStatusReport) -> Result<Self, ConvertError> {
        let at = Fields("TaskStatusReport");
        Ok((at.text("task", &report.task)?, at.required("status", report.status)?))
    }
}

impl From<&Task> for wire::Task {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            spec_version: task.spec_version,
            node: task.node.map(|node| node.0),
            desired: task.desired.into(),
            start_after: task.start_after.map(|time| time.0),
            status: Some((&task.status).into()),
            attachments: each(&task.attachments),
            created_at: task.created_at.0,
            run: task.run,
            resources: resources(&task.resources),
            preempted_by: task.preempted_by.map(|by| by.to_string()).unwrap_or_default(),
            standby: task.standby,
        }
    }
}

impl TryFrom<wire::Task> for Task {
    type Error = ConvertError;

    fn try_from(task: wire::Task) -> Result<Self, ConvertError> {
        let at = Fields("Task");
        Ok(Self {
            id: at.text("id", &task.id)?,
            spec_version: task.spec_version,
            node: task.node.map(NodeId),
            desired: at.enumeration::<wire::TaskState, _>("desired", task.desired)?,
            start_after: task.start_after.map(Timestamp),
            status: at.required("status", task.status)?,
            attachments: at.list("attachments", task.attachments)?,
            created_at: Timestamp(task.created_at),
            run: task.run,
            resources: at.resources("resources", task.resources)?,
            preempted_by: match task.preempted_by.as_str() {
                "" => None,
                by => Some(at.text("preempted_by", by)?),
            },
            standby: task.standby,
        })
    }
}
