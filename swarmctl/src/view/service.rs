use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::{Slot, Timestamp};
use swarm_proto::object::{
    AllocatedPort, Service, Switch, Task, TaskState, UpdateState, UpdateStatus,
};
use swarm_proto::spec::{
    EndpointMode, Mount, MountSource, PortMode, RestartCondition, ServiceMode,
};

use super::autoscale::ScaledByView;
use super::job::mode_words;
use super::task::{AddressView, short_digest};
use super::{View, short_image, time};
use crate::convergence;
use crate::state::State;

/// A service, as `service ls` and `service inspect` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceView {
    /// Its id.
    pub id: u64,
    /// The full name, `<stack>_<key>`.
    pub name: String,
    /// The stack.
    pub stack: String,
    /// The key in the file.
    pub key: String,
    /// `replicated`, `global`, `replicated-job` or `global-job`.
    pub mode: String,
    /// How many tasks.
    pub replicas: ReplicasView,
    /// The image's full name.
    pub image: String,
    /// The image's content.
    pub digest: Option<String>,
    /// Published ports.
    pub ports: Vec<PortView>,
    /// `vip` or `dnsrr`.
    pub endpoint_mode: String,
    /// Full names of its networks.
    pub networks: Vec<String>,
    /// Virtual addresses.
    pub vips: Vec<AddressView>,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// On top of the image's; null takes a variable away.
    pub environment: BTreeMap<String, Option<String>>,
    /// `source:target`, as in the file.
    pub mounts: Vec<String>,
    /// `key==value`
    pub constraints: Vec<String>,
    /// `none`, `on-failure` or `any`.
    pub restart: String,
    /// The service's labels.
    pub labels: BTreeMap<String, String>,
    /// Counts the specs.
    pub spec_version: u64,
    /// When it was created.
    pub created_at: String,
    /// When its spec changed last.
    pub updated_at: String,
    /// Being removed.
    pub removing: bool,
    /// How far the last run of a job is; null for what is no job.
    pub completions: Option<CompletionsView>,
    /// Its last update.
    pub update: Option<UpdateView>,
    /// Whether `service rollback` has something to bring back.
    pub has_previous: bool,
    /// By what its number of tasks is scaled; null where it stays as somebody said it.
    pub autoscale: Option<ScaledByView>,
}

/// How far the last run of a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompletionsView {
    /// Places that completed.
    pub completed: usize,
    /// Places in all.
    pub total: usize,
}

/// How far a service's last update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdateView {
    /// As Swarm calls it: `updating`, `paused`, `completed`, `rollback_started`, `rollback_paused` or
    /// `rollback_completed`; also `held`, with its canary, or while the old tasks of a blue-green one stand by.
    pub state: String,
    /// When it began, or went on.
    pub started_at: String,
    /// When it ended or stopped.
    pub finished_at: Option<String>,
    /// Why it stands there; may be empty.
    pub message: String,
    /// Slots that had to be exchanged when it began.
    pub slots: u32,
    /// Slots whose new task failed.
    pub failures: u32,
    /// Of a blue-green update, the tasks to which clients are led: `old` until it switches, then `new`. Null for others.
    pub serving: Option<&'static str>,
    /// What stands beside the number of tasks.
    #[serde(skip)]
    word: &'static str,
}

impl UpdateView {
    fn of(update: &UpdateStatus) -> Self {
        Self {
            state: update.state.to_string(),
            started_at: time(update.started_at),
            finished_at: update.finished_at.map(time),
            message: update.message.clone(),
            slots: update.slots,
            failures: update.failures,
            serving: match update.switch {
                Switch::None => None,
                Switch::Due => Some("old"),
                Switch::Done(_) => Some("new"),
            },
            word: match update.state {
                UpdateState::Held if update.switch != Switch::None => " (old tasks stand by)",
                state => Self::word(state),
            },
        }
    }

    /// What is worth a word beside the number of tasks.
    fn word(state: UpdateState) -> &'static str {
        match state {
            UpdateState::Updating => " (updating)",
            UpdateState::Held => " (canary held)",
            UpdateState::Paused => " (update paused)",
            UpdateState::RollbackStarted => " (rolling back)",
            UpdateState::RollbackPaused => " (rollback paused)",
            UpdateState::Completed | UpdateState::RollbackCompleted => "",
        }
    }

    /// A service's update in a sentence, where it did not simply end well.
    pub(crate) fn sentence(state: &State, service: &Service) -> Option<String> {
        let update = service.update.as_ref()?;
        if let Some(holds) = convergence::holds(state, service) {
            return Some(format!("service `{}`: its update {holds}", service.name()));
        }
        let said = match (update.state, update.message.as_str()) {
            (UpdateState::Completed, _) => return None,
            (state, "") => state.to_string(),
            (state, message) => format!("{state}: {message}"),
        };
        Some(format!("service `{}`: {said}", service.name()))
    }
}

/// How many tasks a service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicasView {
    /// How many there should be.
    pub wanted: usize,
    /// How many run the current spec, or completed it.
    pub running: usize,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortView {
    /// On the hosts.
    pub published: u16,
    /// In the container.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `ingress` or `host`.
    pub mode: String,
    /// The only address it answers on.
    pub host_address: Option<String>,
}

impl PortView {
    fn of(port: &AllocatedPort) -> Self {
        Self {
            published: port.published,
            target: port.target,
            protocol: port.protocol.to_string(),
            mode: match port.mode {
                PortMode::Ingress => "ingress",
                PortMode::Host => "host",
            }
            .to_owned(),
            host_address: port.host_address.map(|address| address.to_string()),
        }
    }

    fn words(&self) -> String {
        let address = self.host_address.as_deref().unwrap_or("*");
        format!("{address}:{}->{}/{}", self.published, self.target, self.protocol)
    }
}

impl ServiceView {
    /// The view of one service.
    pub fn of(state: &State, service: &Service) -> Self {
        let container = &service.spec.container;
        let is_job = service.spec.mode.is_job();
        let newest = service.runs.newest().map(|run| convergence::of_run(state, service, run));
        let completions = newest
            .filter(|_| is_job)
            .map(|run| CompletionsView { completed: run.completed, total: run.total });
        let full_name = |key: &str| {
            let of_stack = |network: &&swarm_proto::object::Network| {
                network.stack == service.stack && network.key == key
            };
            let network = state.networks.values().find(of_stack);
            network.map_or_else(|| key.to_owned(), |network| network.name.clone())
        };
        let vip = |vip: &swarm_proto::object::Vip| AddressView {
            network: state.network_name(vip.network),
            address: vip.address.to_string(),
        };
        Self {
            id: service.id.0,
            name: service.name(),
            stack: service.stack.clone(),
            key: service.key.clone(),
            mode: mode_words(service.spec.mode).to_owned(),
            replicas: replicas(state, service),
            image: container.image.reference.clone(),
            digest: container.image.digest.as_ref().map(ToString::to_string),
            ports: service.ports.iter().map(PortView::of).collect(),
            endpoint_mode: match service.spec.endpoint_mode {
                EndpointMode::Vip => "vip",
                EndpointMode::Dnsrr => "dnsrr",
            }
            .to_owned(),
            networks: service.spec.networks.iter().map(|a| full_name(&a.network)).collect(),
            vips: service.vips.iter().map(vip).collect(),
            entrypoint: container.entrypoint.clone(),
            command: container.command.clone(),
            environment: container.environment.clone(),
            mounts: container.mounts.iter().map(mount_words).collect(),
            constraints: service
                .spec
                .placement
                .constraints
                .iter()
                .map(ToString::to_string)
                .collect(),
            restart: restart_words(service.spec.restart.condition).to_owned(),
            labels: service.spec.labels.clone(),
            spec_version: service.spec_version,
            created_at: time(service.created_at),
            updated_at: time(service.updated_at),
            removing: service.removing,
            completions,
            update: service.update.as_ref().map(UpdateView::of),
            has_previous: service.previous.is_some(),
            autoscale: service
                .spec
                .autoscale
                .as_ref()
                .map(|autoscale| ScaledByView::of(autoscale, service.scaling.as_ref())),
        }
    }
}

fn replicas(state: &State, service: &Service) -> ReplicasView {
    let progress = convergence::of_service(state, service);
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let newest = service.runs.newest().map(|run| convergence::of_run(state, service, run));
    let wanted = match service.spec.mode {
        ServiceMode::Replicated { replicas } => size(replicas),
        ServiceMode::Global => progress.wanted,
        ServiceMode::ReplicatedJob { max_concurrent, total } => size(max_concurrent.min(total)),
        ServiceMode::GlobalJob => newest.map_or(0, |run| run.total),
    };
    let counts = service.removing || service.spec.mode.is_job();
    let running = if counts { running_tasks(state, service) } else { progress.done };
    ReplicasView { wanted, running }
}

fn running_tasks(state: &State, service: &Service) -> usize {
    let own = |task: &&Task| !matches!(task.id.slot, Slot::OneOff(_));
    let tasks = state.tasks_of(service.id).filter(own);
    tasks.filter(|task| task.status.state == TaskState::Running).count()
}

fn restart_words(condition: RestartCondition) -> &'static str {
    match condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    }
}

fn mount_words(mount: &Mount) -> String {
    let source = match &mount.source {
        MountSource::Bind { path } => path,
        MountSource::Volume { volume, .. } => volume,
        MountSource::Anonymous => "",
        MountSource::Tmpfs(_) => "tmpfs",
    };
    let mode = if mount.read_only { ":ro" } else { "" };
    let colon = if source.is_empty() { "" } else { ":" };
    format!("{source}{colon}{}{mode}", mount.target)
}

impl View for ServiceView {
    const COLUMNS: &'static [&'static str] = &["NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"];
    const WIDE_COLUMNS: &'static [&'static str] = &["ID", "NETWORKS", "VIPS", "SPEC", "DIGEST"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let ports: Vec<String> = self.ports.iter().map(PortView::words).collect();
        let completed = match &self.completions {
            Some(done) => format!(" ({}/{} completed)", done.completed, done.total),
            None => String::new(),
        };
        let update = self.update.as_ref().map_or("", |update| update.word);
        let at_zero = self.replicas.wanted == 0
            && self.autoscale.as_ref().is_some_and(|scaled| scaled.min == 0);
        let removing = match update {
            _ if self.removing => " (removing)",
            "" if at_zero => " (wakes on connection)",
            update => update,
        };
        vec![
            self.name.clone(),
            self.mode.clone(),
            format!("{}/{}{completed}{removing}", self.replicas.running, self.replicas.wanted),
            short_image(&self.image).to_owned(),
            ports.join(", "),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let vips: Vec<&str> = self.vips.iter().map(|vip| vip.address.as_str()).collect();
        vec![
            self.id.to_string(),
            self.networks.join(","),
            vips.join(","),
            self.spec_version.to_string(),
            short_digest(self.digest.as_deref()),
        ]
    }
}
