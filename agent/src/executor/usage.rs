//! Measures a task's container.

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::failure::sentence;
use swarm_proto::id::{Attempt, TaskId};
use swarm_proto::spec::{Decimal, Scrape};
use swarm_runtime::cgroup::Usage;
use swarm_runtime::{Container, ContainerError};

use super::health::address;
use super::{HostExecutor, TaskError, blocking};
use crate::usage::scrape;

impl HostExecutor {
    /// What the container uses; nothing where there is none.
    pub(super) async fn read_usage(
        &self,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<Usage, TaskError> {
        let folder = self.folder(task, attempt);
        blocking(move || match Container::open(&folder) {
            Ok(container) => Ok(container.cgroup().usage().map_err(ContainerError::from)?),
            Err(ContainerError::NotFound(_)) => Ok(Usage::default()),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// A number that the task tells.
    pub(super) async fn read_metric(
        &self,
        task: &TaskAssignment,
        metric: &Scrape,
    ) -> Result<Decimal, String> {
        let socket = self.networks.task_socket(task).await.map_err(|error| sentence(&error))?;
        scrape::read(socket, address(task, metric.port), metric).await
    }
}
