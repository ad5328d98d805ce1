use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::Stack;

use super::service::ReplicasView;
use super::{View, age, time};
use crate::convergence;
use crate::state::State;

/// A stack, as `stack ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackView {
    /// Its name.
    pub name: String,
    /// Counts the deploys that changed something.
    pub revision: u64,
    /// When the revision was deployed.
    pub deployed_at: String,
    /// Full names of its services.
    pub services: Vec<String>,
    /// Full names of its networks.
    pub networks: Vec<String>,
    /// Full names of its volumes.
    pub volumes: Vec<String>,
    /// Full names of the services that its file no longer has and that go once the others run.
    pub leaving: Vec<String>,
    /// Its tasks, over all services.
    pub tasks: ReplicasView,
    /// Being removed.
    pub removing: bool,
    #[serde(skip)]
    deployed_time: Timestamp,
}

impl StackView {
    /// The view of one stack.
    pub fn of(state: &State, stack: &Stack) -> Self {
        let name = &stack.spec.name;
        let progress = convergence::of_stack(state, name);
        let networks = state.networks.values().filter(|network| network.stack == *name);
        let volumes = state.volumes.values().filter(|volume| volume.stack == *name);
        Self {
            name: name.clone(),
            revision: stack.revision,
            deployed_at: time(stack.deployed_at),
            services: state.services_of(name).iter().map(|service| service.name()).collect(),
            leaving: stack.leaving.services.iter().map(|key| format!("{name}_{key}")).collect(),
            networks: networks.map(|network| network.name.clone()).collect(),
            volumes: volumes.map(|volume| volume.name.clone()).collect(),
            tasks: ReplicasView {
                wanted: progress.iter().map(|service| service.wanted).sum(),
                running: progress.iter().map(|service| service.done).sum(),
            },
            removing: stack.removing,
            deployed_time: stack.deployed_at,
        }
    }
}

impl View for StackView {
    const COLUMNS: &'static [&'static str] = &["NAME", "SERVICES", "TASKS", "REVISION", "DEPLOYED"];
    const WIDE_COLUMNS: &'static [&'static str] = &["NETWORKS", "VOLUMES"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let removing = if self.removing { " (removing)" } else { "" };
        vec![
            format!("{}{removing}", self.name),
            self.services.len().to_string(),
            format!("{}/{}", self.tasks.running, self.tasks.wanted),
            self.revision.to_string(),
            format!("{} ago", age(self.deployed_time, now)),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.networks.join(","), self.volumes.join(",")]
    }
}

/// What a deploy did, as `deploy -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeployView {
    /// The stack.
    pub stack: String,
    /// Its revision now.
    pub revision: u64,
    /// Whether the deploy changed anything.
    pub changed: bool,
    /// What changed, a sentence each.
    pub changes: Vec<String>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// Full names of services that the file no longer has and that stay.
    pub kept: Vec<String>,
    /// Full names of services that the file no longer has and that go once the others run.
    pub leaving: Vec<String>,
    /// Whether everything ran when the command ended; false with `--detach`.
    pub converged: bool,
}
