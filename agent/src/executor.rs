//! Carries a task's steps out: image, volumes, networks, container.
//!
//! Everything may be called twice, and after a restart of the agent in the middle. What a container needs lies in
//! `containers/<task>/<attempt>`: its configuration, its log, its own layer, the record of its end. In a lab that plays
//! a backup, [`crate::simulation`] stands in for all of it.

mod assigned;
mod bundle;
mod capability;
mod container;
mod device;
mod error;
mod files;
mod health;
mod host;
mod inspect;
mod limit;
mod logging;
mod merge;
mod oneshot;
mod resource;
mod seccomp;
mod usage;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use swarm_proto::assignment::{TaskAssignment, VolumeReport};
use swarm_proto::id::{Attempt, ServiceId, TaskId, VolumeId};
use swarm_proto::spec::{Decimal, Scrape};
use swarm_runtime::ExitRecord;
use swarm_runtime::cgroup::Usage;
use tokio::net::UnixStream;
use tokio::sync::watch;

pub use assigned::Assigned;
pub(crate) use container::remove;
pub use error::TaskError;
pub(crate) use files::mount_memory;
pub use host::{ExecutorConfig, HostExecutor};
pub use oneshot::{BuildSubnet, OneShots};
pub(crate) use oneshot::{Mounted, OneShot, take_down};

use crate::health::{Check, Outcome};
use crate::image::Image;
use crate::network::{Applied, NetworkError};
use bundle::Surroundings;

/// The names under which a container's companion keeps the sockets that answer names: UDP, then TCP.
const DNS_NAMES: [&str; 2] = ["dns-udp", "dns-tcp"];

/// What a task's run is made of, once built.
#[derive(Debug)]
pub struct Built(Option<Parts>);

#[derive(Debug)]
struct Parts {
    around: Surroundings,
    dns_sockets: Vec<OwnedFd>,
}

impl Built {
    /// Nothing, for a container that is only simulated.
    pub fn nothing() -> Self {
        Self(None)
    }

    fn of(around: Surroundings, dns_sockets: Vec<OwnedFd>) -> Self {
        Self(Some(Parts { around, dns_sockets }))
    }
}

/// What there is of a task's container.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A container whose program does not run yet.
    Created,
    /// One that runs.
    Running {
        /// Its first process.
        pid: u32,
        /// When that began, in milliseconds since the epoch.
        started_at: u64,
        /// Tells when it ends.
        end: EndWatch,
    },
    /// One that has ended.
    Exited(ExitRecord),
}

/// Tells when a container ends.
#[derive(Debug)]
pub struct EndWatch(Watched);

#[derive(Debug)]
enum Watched {
    /// It has ended.
    Ended,
    /// Its companion, which hangs up then.
    Companion(UnixStream),
    /// A simulated one: true once it has ended.
    Simulated(watch::Receiver<bool>),
}

impl EndWatch {
    /// Of a container that is only simulated: `ended` becomes true then.
    pub fn simulated(ended: watch::Receiver<bool>) -> Self {
        Self(Watched::Simulated(ended))
    }

    fn companion(stream: Option<UnixStream>) -> Self {
        Self(stream.map_or(Watched::Ended, Watched::Companion))
    }

    /// Returns when the container has ended. May be dropped and called again.
    pub async fn ended(&mut self) {
        match &mut self.0 {
            Watched::Ended => {}
            Watched::Companion(stream) => hung_up(stream).await,
            // Whoever simulates it is gone: so is the container.
            Watched::Simulated(ended) => drop(ended.wait_for(|ended| *ended).await),
        }
    }
}

async fn hung_up(stream: &UnixStream) {
    let mut buffer = [0; 256];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// What a worker makes its tasks, networks and volumes with.
#[tonic::async_trait]
pub trait Executor: Send + Sync {
    /// What tasks may use, and what they use.
    fn assigned(&self) -> &Assigned;

    /// Returns after the next new volume.
    async fn volume_made(&self);

    /// Brings the image. May be given up at any time.
    async fn fetch(&self, task: &TaskAssignment) -> Result<Arc<Image>, TaskError>;

    /// How far the image is that is being brought, for a person; nothing where there is nothing to say.
    fn fetching(&self, _task: &TaskAssignment) -> Option<String> {
        None
    }

    /// Makes volumes, and connects the task to its networks.
    async fn build(
        &self,
        task: &Arc<TaskAssignment>,
        image: &Arc<Image>,
    ) -> Result<Built, TaskError>;

    /// Sets the container up, unless it stands already, and runs its program. A program that cannot be run is a
    /// container that has ended.
    async fn start(
        &self,
        task: &Arc<TaskAssignment>,
        attempt: Attempt,
        image: &Arc<Image>,
        built: Built,
    ) -> Result<Found, TaskError>;

    /// Looks what there is of a task's container.
    async fn inspect(&self, task: TaskId, attempt: Attempt) -> Result<Found, TaskError>;

    /// Takes a running container's network over from an earlier agent.
    async fn adopt(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError>;

    /// How a task's health is looked at; `None` where it is not.
    async fn health_check(&self, task: &TaskAssignment) -> Option<Check>;

    /// Returns once a running task listens to others, and after a while in any case.
    async fn listens(&self, _task: &TaskAssignment) {}

    /// Looks at a running task's health once. Nothing is left of the check when this returns or is dropped.
    async fn check(&self, task: &TaskAssignment, check: &Check) -> Outcome;

    /// What a container uses, as far as it is counted; nothing where there is none.
    async fn usage(&self, task: TaskId, attempt: Attempt) -> Result<Usage, TaskError>;

    /// Reads a number that a running task tells, or says why it cannot be read.
    async fn scrape(&self, task: &TaskAssignment, scrape: &Scrape) -> Result<Decimal, String>;

    /// How many connections came to a task since it was connected; `None` where nobody counts.
    async fn arrivals(&self, _task: TaskId) -> Result<Option<u64>, TaskError> {
        Ok(None)
    }

    /// How many connections to a task are open; `None` where nobody can tell.
    async fn open_connections(&self, _task: TaskId) -> Result<Option<u64>, TaskError> {
        Ok(None)
    }

    /// The next services for which connections wait here; see [`crate::network::Networks::demand`].
    async fn demand(&self) -> BTreeSet<ServiceId> {
        std::future::pending().await
    }

    /// Does what shall be done in a container before it is asked to stop. May be given up at any time.
    async fn pre_stop(&self, task: &TaskAssignment);

    /// Asks a container to stop.
    async fn stop(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError>;

    /// Kills a container.
    async fn kill(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError>;

    /// Takes down what a run needed: the container, its own layer, its networks. Logs and the record of its end stay.
    async fn settle(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError>;

    /// Removes every trace of a task.
    async fn remove(&self, task: TaskId) -> Result<(), TaskError>;

    /// Removes a volume with its content.
    async fn remove_volume(&self, id: VolumeId, name: String) -> Result<(), TaskError>;

    /// All named volumes that are on this host.
    async fn volume_reports(&self) -> Result<Vec<VolumeReport>, TaskError>;

    /// Makes the assigned networks true; see [`crate::network::Networks::apply`].
    async fn apply_networks(&self) -> Applied;

    /// Removes networks and connections that no task owns; see [`crate::network::Networks::retain`].
    async fn retain_networks(&self, tasks: BTreeSet<TaskId>) -> Vec<NetworkError>;

    /// Removes the containers of tasks that nobody knows any more.
    async fn retain(&self, known: BTreeSet<TaskId>) -> Result<(), TaskError>;
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TaskError::Stopped(error.to_string()))?
}
