use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Autoscale, Canary, ContainerSpec, Dependency, JobSchedule, NetworkAttachmentSpec,
    NodeLossPolicy, Placement, PortSpec, UpdatePolicy, is_default,
};
use crate::version::ClusterVersion;

/// How many tasks a service has, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceMode {
    /// A number of tasks anywhere.
    Replicated {
        /// How many.
        replicas: u32,
    },
    /// One task on each eligible node.
    Global,
    /// A number of completions anywhere.
    ReplicatedJob {
        /// How many.
        total: u32,
        /// How many tasks at a time, at most.
        max_concurrent: u32,
    },
    /// One completion on each eligible node.
    GlobalJob,
}

impl ServiceMode {
    /// Whether its tasks are done once they have completed.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }
}

/// How clients reach a service by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// The name is one virtual address, spread over running tasks.
    #[default]
    Vip,
    /// The name is the addresses of the running tasks.
    Dnsrr,
}

/// When an ended task is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it failed.
    OnFailure,
    /// Whenever it ended.
    #[default]
    Any,
}

/// How ended tasks are replaced. The delay doubles after each failure in a row, up to a minute or the delay itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// How long to wait first.
    pub delay: Duration,
    /// How many times in `window`; `None` is without end.
    pub max_attempts: Option<u32>,
    /// The time in which attempts are counted; zero counts all.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: None,
            window: Duration::ZERO,
        }
    }
}

/// What becomes of a one-replica service when the only node that holds its volume is lost (`x-swarm: volume-node-lost`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeNodeLost {
    /// It waits for the node.
    #[default]
    Wait,
    /// It starts elsewhere with an empty volume.
    StartEmpty,
}

/// What should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// How many tasks.
    pub mode: ServiceMode,
    /// One task's container.
    pub container: ContainerSpec,
    /// Networks, in the order of the file; at least one unless `network_mode` forbids it.
    pub networks: Vec<NetworkAttachmentSpec>,
    /// Published ports, sorted.
    pub ports: Vec<PortSpec>,
    /// How clients reach it.
    pub endpoint_mode: EndpointMode,
    /// Where tasks may run.
    pub placement: Placement,
    /// How ended tasks are replaced.
    pub restart: RestartPolicy,
    /// How a changed spec is brought in.
    pub update: UpdatePolicy,
    /// What happens when its volume's node is lost.
    pub volume_node_lost: VolumeNodeLost,
    /// The service's labels (compose `deploy.labels`).
    pub labels: BTreeMap<String, String>,
    /// Services of the stack that this one waits for before its first start, whose updates go before its own, and which
    /// are removed after it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depends_on: Vec<Dependency>,
    /// How often the update of a service that it depends on replaced its tasks. Counted by the controllers; 0 in a stack.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dependency_restarts: u64,
    /// When a job runs by itself; `None` runs it when it is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<JobSchedule>,
    /// How many finished runs of a job are kept, with their tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_history: Option<u32>,
    /// How a rollback goes on; its failure action is never to roll back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollback: UpdatePolicy,
    /// Counts the times that new tasks were asked for without another change.
    #[serde(default, skip_serializing_if = "is_default")]
    pub force: u64,
    /// How much of it an update exchanges before it holds; `None` exchanges all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What happens to its tasks when their node is lost or cut off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_loss: NodeLossPolicy,
    /// Against other services, where there is no room for both: from [`ServiceSpec::LEAST_PRIORITY`] to
    /// [`ServiceSpec::HIGHEST_PRIORITY`]. A task that fits nowhere may take the place of tasks of any lower one, as in
    /// Kubernetes; Nomad wants a difference of ten.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Its tasks are not stopped for others of higher priority.
    #[serde(default, skip_serializing_if = "is_default")]
    pub never_preempted: bool,
    /// By what its number of tasks is scaled; `None` leaves it as somebody said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
}

impl ServiceSpec {
    /// The lowest priority.
    pub const LEAST_PRIORITY: i32 = -1_000;
    /// The highest priority.
    pub const HIGHEST_PRIORITY: i32 = 1_000;

    /// One task of a container, on no network, with nothing else said.
    pub fn new(container: ContainerSpec) -> Self {
        Self {
            mode: ServiceMode::Replicated { replicas: 1 },
            container,
            networks: Vec::new(),
            ports: Vec::new(),
            endpoint_mode: EndpointMode::default(),
            placement: Placement::default(),
            restart: RestartPolicy::default(),
            update: UpdatePolicy::default(),
            volume_node_lost: VolumeNodeLost::default(),
            labels: BTreeMap::new(),
            depends_on: Vec::new(),
            dependency_restarts: 0,
            rollback: UpdatePolicy::default(),
            force: 0,
            canary: None,
            node_loss: NodeLossPolicy::default(),
            priority: 0,
            never_preempted: false,
            autoscale: None,
            schedule: None,
            run_history: None,
        }
    }

    /// The restart policy as it holds for tasks: what completes in a job is never started again.
    pub fn task_restart(&self) -> RestartPolicy {
        match self.restart.condition {
            RestartCondition::Any if self.mode.is_job() => {
                RestartPolicy { condition: RestartCondition::OnFailure, ..self.restart }
            }
            _ => self.restart,
        }
    }

    /// Its number of tasks, if it is replicated.
    pub fn replicas(&self) -> Option<u32> {
        match self.mode {
            ServiceMode::Replicated { replicas } => Some(replicas),
            _ => None,
        }
    }

    /// Brings its number of tasks into the bounds of its scaling, where it has some.
    pub fn bound_replicas(&mut self) {
        if let (Some(autoscale), ServiceMode::Replicated { replicas }) =
            (&self.autoscale, &mut self.mode)
        {
            *replicas = autoscale.bound(*replicas);
        }
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let own = match self.depends_on.as_slice() {
            _ if self.dependency_restarts > 0 => ClusterVersion(4),
            [] => ClusterVersion::FIRST,
            all if all.iter().any(Dependency::is_later) => ClusterVersion(4),
            _ => ClusterVersion(3),
        };
        let preemption = self.priority != 0 || self.never_preempted;
        let external = self.networks.iter().any(|network| network.external.is_some());
        let is_job = self.mode.is_job() || self.schedule.is_some() || self.run_history.is_some();
        let updates = self.force > 0
            || self.rollback != UpdatePolicy::default()
            || self.canary.is_some()
            || self.autoscale.is_some();
        let own = if external || is_job || updates || preemption { ClusterVersion(4) } else { own };
        let parts = [
            self.container.needs(),
            self.placement.needs(),
            self.update.needs(),
            self.node_loss.needs(),
        ];
        parts.into_iter().fold(own, Ord::max)
    }
}
