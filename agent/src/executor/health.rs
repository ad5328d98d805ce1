//! Looks at a task's health, and runs what its service wants done in its container.

use std::time::Duration;

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::failure::sentence;
use swarm_proto::spec::{Hook, ImageSpec, PullPolicy};
use swarm_runtime::{ExecError, ExecOptions};
use tokio::time::{Instant, sleep, timeout};

use super::HostExecutor;
use crate::exec::ExecFailure;
use crate::health::{Check, Outcome, Probe, probe};
use crate::image::ImageConfig;

/// A task is waited for so long until it listens, and looked at so often.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AFTER: Duration = Duration::from_millis(10);

impl HostExecutor {
    /// What the image of a task says. One that is not here any more says nothing.
    pub(super) async fn image_config(&self, task: &TaskAssignment) -> ImageConfig {
        let here = ImageSpec { pull_policy: PullPolicy::Never, ..task.container.image.clone() };
        let image = self.images.ensure(&here).await;
        image.map(|image| image.config.clone()).unwrap_or_default()
    }

    /// Carries one check of a running task out.
    pub(super) async fn look_at_health(&self, task: &TaskAssignment, check: &Check) -> Outcome {
        match &check.probe {
            Probe::Command(words) => {
                let options = ExecOptions { arguments: words.clone(), ..ExecOptions::default() };
                self.run_command(task, options, check.timeout).await
            }
            Probe::Tcp(port) => match self.networks.task_socket(task).await {
                Ok(socket) => probe::tcp(socket, address(task, *port), check.timeout).await,
                Err(error) => Outcome::failed(sentence(&error)),
            },
            Probe::Http(http) => match self.networks.task_socket(task).await {
                Ok(socket) => {
                    probe::http(socket, address(task, http.port), http, check.timeout).await
                }
                Err(error) => Outcome::failed(sentence(&error)),
            },
        }
    }

    /// Waits until a task listens to others. One that never does, or cannot be looked at, is as good as one that does.
    pub(super) async fn wait_for_listener(&self, task: &TaskAssignment) {
        let end = Instant::now() + LISTENS_WITHIN;
        while Instant::now() < end {
            match self.networks.listens(task.id).await {
                Ok(false) => sleep(LOOK_AFTER).await,
                Ok(true) => return,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    return tracing::debug!(task = %task.name, error, "not waited until it listens");
                }
            }
        }
    }

    /// Runs a hook in a task's container; a failure is only logged, as the stop goes on without it.
    pub(super) async fn run_hook(&self, task: &TaskAssignment, hook: &Hook) {
        let variable = |(name, value): (&String, &String)| format!("{name}={value}");
        let options = ExecOptions {
            arguments: hook.command.clone(),
            environment: hook.environment.iter().map(variable).collect(),
            directory: hook.working_dir.clone().map(Into::into),
            user: hook.user.clone(),
            ..ExecOptions::default()
        };
        let outcome = self.run_command(task, options, task.container.stop_grace_period).await;
        if !outcome.passed {
            let output = &outcome.output;
            tracing::warn!(task = %task.name, %output, "its hook before the stop failed");
        }
    }

    /// Runs a program in a task's container. Nothing of it is left when this returns or is dropped.
    async fn run_command(
        &self,
        task: &TaskAssignment,
        options: ExecOptions,
        limit: Duration,
    ) -> Outcome {
        let begun = Instant::now();
        let options = ExecOptions { whole_session: true, ..options };
        match timeout(limit, self.exec(task.id, options)).await {
            Ok(Ok(started)) => {
                let left = limit.saturating_sub(begun.elapsed());
                probe::command(started, left, limit).await
            }
            Ok(Err(ExecFailure::Exec(ExecError::Program { reason, .. }))) => {
                Outcome::failed(reason)
            }
            Ok(Err(error)) => Outcome::failed(sentence(&error)),
            Err(_) => Outcome::failed(format!("could not be started within {limit:?}")),
        }
    }
}

/// Where the task answers.
pub(super) fn address(task: &TaskAssignment, port: u16) -> std::net::SocketAddr {
    probe::address(task.attachments.first().map(|attachment| attachment.address), port)
}
