use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::{ServiceId, Slot, Timestamp};
use swarm_proto::object::{Service, Task, TaskHealth, TaskState};

use super::{View, age, short_image, time};
use crate::state::State;

/// A task, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskView {
    /// `7.2.1`: service, slot, generation.
    pub id: String,
    /// `<stack>_<service>.<slot>`
    pub name: String,
    /// The stack.
    pub stack: String,
    /// The service's full name.
    pub service: String,
    /// `2`, or `n3` for a global service.
    pub slot: String,
    /// Counts the tasks of the slot.
    pub generation: u32,
    /// The image's full name.
    pub image: String,
    /// The image's content.
    pub digest: Option<String>,
    /// The node's host name.
    pub node: Option<String>,
    /// The node's id.
    pub node_id: Option<u64>,
    /// What the controller wants.
    pub desired: String,
    /// How far it is.
    pub state: String,
    /// When it came there.
    pub since: String,
    /// Why, or how it ended.
    pub message: String,
    /// Once it ended.
    pub exit_code: Option<i32>,
    /// The first process, in the host's pid namespace.
    pub pid: Option<u32>,
    /// When the first process started.
    pub started_at: Option<String>,
    /// What the checks of its health say, where there are some.
    pub health: Option<HealthView>,
    /// Counts the containers of this task.
    pub attempt: u32,
    /// The version of the service's spec that it runs.
    pub spec_version: u64,
    /// Whether that is the service's current one.
    pub current: bool,
    /// Whether it stands by, and clients are led to others: an update has not switched to it, or has switched away.
    pub standby: bool,
    /// Its addresses.
    pub addresses: Vec<AddressView>,
    /// What it was given of its node's generic resources, by kind: a number, or names.
    pub resources: BTreeMap<String, String>,
    /// The name of the task of a service of higher priority for which it was stopped.
    pub preempted_by: Option<String>,
    /// When it was created.
    pub created_at: String,
    #[serde(skip)]
    since_time: Timestamp,
}

/// A task's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthView {
    /// `starting`, `healthy` or `unhealthy`.
    pub state: String,
    /// Since when.
    pub since: String,
    /// Failures in a row when that was reported.
    pub failures: u32,
    /// The end of what the last failed check wrote then, or why it failed.
    pub output: String,
}

impl HealthView {
    fn of(health: &TaskHealth) -> Self {
        Self {
            state: health.state.to_string(),
            since: time(health.since),
            failures: health.failures,
            output: health.output.clone(),
        }
    }
}

/// An address on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressView {
    /// The network's full name.
    pub network: String,
    /// The address.
    pub address: String,
}

impl TaskView {
    /// The view of one task.
    pub fn of(state: &State, task: &Task) -> Self {
        let service = state.services.get(&task.id.service);
        let image = service.map(|service| &service.spec.container.image);
        let address = |attachment: &swarm_proto::object::Attachment| AddressView {
            network: state.network_name(attachment.network),
            address: attachment.address.to_string(),
        };
        Self {
            id: task.id.to_string(),
            name: state.task_name(task),
            stack: service.map(|service| service.stack.clone()).unwrap_or_default(),
            service: service.map(Service::name).unwrap_or_default(),
            slot: task.id.slot.to_string(),
            generation: task.id.generation,
            image: image.map(|image| image.reference.clone()).unwrap_or_default(),
            digest: image.and_then(|image| image.digest.as_ref()).map(ToString::to_string),
            node: task.node.map(|node| state.node_name(node)),
            node_id: task.node.map(|node| node.0),
            desired: task.desired.to_string(),
            state: task.status.state.to_string(),
            since: time(task.status.since),
            message: task.status.message.clone(),
            exit_code: task.status.exit_code,
            pid: task.status.pid,
            started_at: task.status.started_at.map(time),
            health: task.status.health.as_ref().map(HealthView::of),
            attempt: task.status.attempt,
            spec_version: task.spec_version,
            current: service.is_some_and(|service| service.spec_version == task.spec_version),
            standby: task.standby,
            addresses: task.attachments.iter().map(address).collect(),
            resources: task
                .resources
                .iter()
                .map(|(kind, resource)| (kind.clone(), resource.to_string()))
                .collect(),
            preempted_by: task.preempted_by.map(|by| state.name_of_task(by)),
            created_at: time(task.created_at),
            since_time: task.status.since,
        }
    }

    /// The tasks that `wanted` lets through, by name; without `history` only those that are or should be there, and
    /// the last one of a slot that has none.
    pub fn of_all(state: &State, history: bool, wanted: impl Fn(&Task) -> bool) -> Vec<Self> {
        // In the order of service, slot and generation, so that the last one of a slot stays.
        let newest: BTreeMap<(ServiceId, Slot), u32> =
            state.tasks.keys().map(|id| ((id.service, id.slot), id.generation)).collect();
        let is_newest =
            |task: &Task| newest.get(&(task.id.service, task.id.slot)) == Some(&task.id.generation);
        let is_live = |task: &Task| {
            !task.status.state.is_terminal() || is_newest(task) && !was_wanted_away(task)
        };
        let mut tasks: Vec<&Task> = state
            .tasks
            .values()
            .filter(|task| wanted(task) && (history || is_live(task)))
            .collect();
        let key = |task: &Task| {
            let service = state.services.get(&task.id.service);
            (service.map(|service| (service.stack.clone(), service.key.clone())), task.id.slot)
        };
        tasks.sort_by(|a, b| key(a).cmp(&key(b)).then(b.id.generation.cmp(&a.id.generation)));
        tasks.into_iter().map(|task| Self::of(state, task)).collect()
    }
}

/// A stopped task of a slot that is gone, as after scaling down.
fn was_wanted_away(task: &Task) -> bool {
    task.status.state == TaskState::Shutdown && task.desired > TaskState::Running
}

impl View for TaskView {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "IMAGE", "NODE", "DESIRED", "STATE", "ERROR"];
    const WIDE_COLUMNS: &'static [&'static str] = &["ID", "ADDRESSES", "PID", "DIGEST"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let message = match (self.message.as_str(), self.exit_code) {
            ("", _) if self.preempted_by.is_some() => {
                format!("made place for {}", self.preempted_by.as_deref().unwrap_or_default())
            }
            ("", Some(code)) if code != 0 => format!("exit code {code}"),
            (message, _) => message.to_owned(),
        };
        vec![
            self.name.clone(),
            short_image(&self.image).to_owned(),
            self.node.clone().unwrap_or_default(),
            self.desired.clone(),
            {
                let health = self.health.as_ref().filter(|_| self.pid.is_some());
                let health = health.map(|health| format!(" ({})", health.state));
                let standby = if self.standby { " (standby)" } else { "" };
                let age = age(self.since_time, now);
                format!("{} {age}{}{standby}", self.state, health.unwrap_or_default())
            },
            message,
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let addresses: Vec<&str> =
            self.addresses.iter().map(|address| address.address.as_str()).collect();
        vec![
            self.id.clone(),
            addresses.join(","),
            self.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            short_digest(self.digest.as_deref()),
        ]
    }
}

/// The first twelve digits of a digest.
pub(super) fn short_digest(digest: Option<&str>) -> String {
    let hex = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
    hex.unwrap_or_default().chars().take(12).collect()
}
