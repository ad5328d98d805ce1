//! Plays a node of a backup in a lab: tasks are accepted, "run" and end as they would, but there is no container, no
//! network and no image. Session, journal and steps are those of every agent; only the executor pretends.
//!
//! A simulated container is a file in the folder of what runs, `<task>.<attempt>`. That folder lies where `/run` does:
//! what runs outlives the agent and ends with the host's power, as real containers do. A simulated program runs until
//! it is told to stop, then ends at once with success.

mod run;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use swarm_proto::assignment::{TaskAssignment, VolumeReport};
use swarm_proto::id::{Attempt, Digest, TaskId, VolumeId};
use swarm_proto::object::TaskState;
use swarm_proto::rehearsal::SimulatedNode;
use swarm_proto::spec::{Decimal, ImageSpec, MountSource, Scrape};
use swarm_runtime::ExitRecord;
use swarm_runtime::cgroup::Usage;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

pub use run::run;

use crate::clock;
use crate::durable;
use crate::executor::{Assigned, Built, EndWatch, Executor, Found, TaskError, remove};
use crate::health::{Check, Outcome};
use crate::image::{Image, ImageConfig, digest_of};
use crate::network::{Applied, NetworkError};

/// How long a simulated image takes to come.
const FETCH_TIME: Duration = Duration::from_millis(200);
/// How long a simulated container takes to start.
const START_TIME: Duration = Duration::from_millis(100);
/// A shell's code for a program that SIGKILL ended.
const KILLED: i32 = 137;
/// The marker of a node whose backup was taken over once.
const BEGUN: &str = "begun";

/// A container and its attempt.
type Key = (TaskId, Attempt);

/// The means of a simulated node.
pub struct Simulation {
    /// A file for each container that runs.
    running: PathBuf,
    /// A file for each volume.
    volumes: PathBuf,
    containers: Mutex<BTreeMap<Key, Container>>,
    assigned: Assigned,
    volumes_changed: Notify,
}

#[derive(Debug)]
struct Container {
    started_at: u64,
    ended: watch::Sender<bool>,
    exit: Option<ExitRecord>,
}

impl Container {
    fn started(started_at: u64) -> Self {
        Self { started_at, ended: watch::channel(false).0, exit: None }
    }

    fn found(&self) -> Found {
        match &self.exit {
            Some(exit) => Found::Exited(exit.clone()),
            None => Found::Running {
                // No process.
                pid: 0,
                started_at: self.started_at,
                end: EndWatch::simulated(self.ended.subscribe()),
            },
        }
    }
}

impl Simulation {
    /// Goes on where an earlier agent of this node was. `disk` is a folder that stays, `running` one that ends with
    /// the host's power. True when nothing was ever simulated here: then it begins as the backup says.
    pub fn open(
        disk: &Path,
        running: &Path,
        node: &SimulatedNode,
    ) -> Result<(Self, bool), TaskError> {
        let simulation = Self {
            running: running.to_owned(),
            volumes: disk.join("volumes"),
            containers: Mutex::default(),
            assigned: Assigned::default(),
            volumes_changed: Notify::new(),
        };
        for folder in [&simulation.volumes, &simulation.running] {
            fs::create_dir_all(folder).map_err(TaskError::disk("make", folder))?;
        }
        durable::sweep(&simulation.volumes)
            .map_err(TaskError::disk("tidy", &simulation.volumes))?;
        let marker = disk.join(BEGUN);
        let first = !marker.exists();
        if first {
            for volume in &node.volumes {
                simulation.keep_volume(volume)?;
            }
            let runs = node.tasks.iter().filter(|(_, status)| status.state == TaskState::Running);
            for (task, status) in runs {
                let since = status.started_at.unwrap_or(status.since);
                simulation.note_running((*task, status.attempt), since.0)?;
            }
            durable::write(&marker, b"").map_err(TaskError::disk("write", &marker))?;
        }
        simulation.read_running()?;
        Ok((simulation, first))
    }

    /// Whether a task's container runs.
    pub fn runs(&self, task: TaskId) -> bool {
        self.containers().keys().any(|(known, _)| *known == task)
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<Key, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_running(&self) -> Result<(), TaskError> {
        let fail = || TaskError::disk("read", &self.running);
        for entry in fs::read_dir(&self.running).map_err(fail())? {
            let entry = entry.map_err(fail())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let key = name.rsplit_once('.').and_then(|(task, attempt)| {
                Some((task.parse::<TaskId>().ok()?, attempt.parse::<Attempt>().ok()?))
            });
            let text = fs::read_to_string(entry.path()).map_err(fail())?;
            if let (Some(key), Ok(started_at)) = (key, text.parse()) {
                self.containers().insert(key, Container::started(started_at));
            }
        }
        Ok(())
    }

    fn file(&self, (task, attempt): Key) -> PathBuf {
        self.running.join(format!("{task}.{attempt}"))
    }

    fn note_running(&self, key: Key, started_at: u64) -> Result<(), TaskError> {
        let file = self.file(key);
        fs::write(&file, started_at.to_string()).map_err(TaskError::disk("write", &file))
    }

    /// Ends a container. One that is not there, or has ended, is left.
    fn end(&self, key: Key, code: i32) -> Result<(), TaskError> {
        if let Some(container) = self.containers().get_mut(&key)
            && container.exit.is_none()
        {
            container.exit = Some(ExitRecord {
                code,
                signal: None,
                oom_killed: false,
                started_at_ms: Some(container.started_at),
                finished_at_ms: clock::now().0,
                message: None,
            });
            container.ended.send_replace(true);
        }
        remove(&self.file(key))
    }

    fn forget(&self, gone: impl Fn(&Key) -> bool) -> Result<(), TaskError> {
        let keys: Vec<Key> = self.containers().keys().filter(|key| gone(key)).copied().collect();
        for key in keys {
            remove(&self.file(key))?;
            self.containers().remove(&key);
        }
        Ok(())
    }

    fn volume_file(&self, id: VolumeId) -> PathBuf {
        self.volumes.join(id.to_string())
    }

    fn keep_volume(&self, volume: &VolumeReport) -> Result<(), TaskError> {
        let path = self.volume_file(volume.id);
        let text = serde_json::to_vec(volume).map_err(std::io::Error::from);
        text.and_then(|text| durable::write(&path, &text)).map_err(TaskError::disk("write", &path))
    }

    /// Makes the named volumes that a task mounts and that are not there.
    fn make_volumes(&self, task: &TaskAssignment) -> Result<(), TaskError> {
        let names = self.assigned.volumes();
        for mount in &task.container.mounts {
            let MountSource::Volume { volume: key, .. } = &mount.source else { continue };
            let known = task.volumes.get(key).and_then(|id| Some((*id, names.get(id)?)));
            let (id, name) = known.ok_or_else(|| TaskError::NoVolume(key.clone()))?;
            if self.volume_file(id).exists() {
                continue;
            }
            let created_at = clock::now();
            self.keep_volume(&VolumeReport {
                id,
                name: name.clone(),
                created_at,
                filled_from: None,
            })?;
            self.volumes_changed.notify_one();
        }
        Ok(())
    }
}

/// The content that a name stands for where no registry is asked: always the same for the same name.
fn pretended(reference: &str) -> Digest {
    digest_of(Sha256::new().chain_update(reference))
}

fn image(spec: &ImageSpec) -> Image {
    let digest = spec.digest.clone().unwrap_or_else(|| pretended(&spec.reference));
    Image { digest, config: ImageConfig::default(), layers: Vec::new() }
}

#[tonic::async_trait]
impl Executor for Simulation {
    fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    async fn volume_made(&self) {
        self.volumes_changed.notified().await;
    }

    async fn fetch(&self, task: &TaskAssignment) -> Result<Arc<Image>, TaskError> {
        sleep(FETCH_TIME).await;
        Ok(Arc::new(image(&task.container.image)))
    }

    async fn build(&self, task: &Arc<TaskAssignment>, _: &Arc<Image>) -> Result<Built, TaskError> {
        self.make_volumes(task)?;
        self.assigned.attach(task);
        Ok(Built::nothing())
    }

    async fn start(
        &self,
        task: &Arc<TaskAssignment>,
        attempt: Attempt,
        _: &Arc<Image>,
        _: Built,
    ) -> Result<Found, TaskError> {
        let key = (task.id, attempt);
        if !self.containers().contains_key(&key) {
            sleep(START_TIME).await;
            let started_at = clock::now().0;
            self.note_running(key, started_at)?;
            self.containers().insert(key, Container::started(started_at));
        }
        self.inspect(task.id, attempt).await
    }

    async fn inspect(&self, task: TaskId, attempt: Attempt) -> Result<Found, TaskError> {
        Ok(self.containers().get(&(task, attempt)).map_or(Found::Absent, Container::found))
    }

    async fn adopt(&self, task: &TaskAssignment, _: Attempt) -> Result<(), TaskError> {
        self.assigned.attach(task);
        Ok(())
    }

    // What is only pretended is as healthy as it can be.
    async fn health_check(&self, _: &TaskAssignment) -> Option<Check> {
        None
    }

    async fn check(&self, _: &TaskAssignment, _: &Check) -> Outcome {
        Outcome { passed: true, output: String::new() }
    }

    // Nothing is known of what is only pretended, so no service is scaled by it.
    async fn usage(&self, _: TaskId, _: Attempt) -> Result<Usage, TaskError> {
        Ok(Usage::default())
    }

    async fn scrape(&self, task: &TaskAssignment, _: &Scrape) -> Result<Decimal, String> {
        Err(format!("{} is simulated", task.name))
    }

    async fn pre_stop(&self, _: &TaskAssignment) {}

    async fn stop(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError> {
        self.end((task.id, attempt), 0)
    }

    async fn kill(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        self.end((task, attempt), KILLED)
    }

    async fn settle(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        self.forget(|key| *key == (task, attempt))?;
        self.assigned.detach(task);
        Ok(())
    }

    async fn remove(&self, task: TaskId) -> Result<(), TaskError> {
        self.forget(|(known, _)| *known == task)?;
        self.assigned.detach(task);
        Ok(())
    }

    async fn remove_volume(&self, id: VolumeId, _: String) -> Result<(), TaskError> {
        remove(&self.volume_file(id))
    }

    async fn volume_reports(&self) -> Result<Vec<VolumeReport>, TaskError> {
        let fail = || TaskError::disk("read", &self.volumes);
        let mut reports = Vec::new();
        for entry in fs::read_dir(&self.volumes).map_err(fail())? {
            let bytes = fs::read(entry.map_err(fail())?.path()).map_err(fail())?;
            reports.push(serde_json::from_slice(&bytes).map_err(|error| fail()(error.into()))?);
        }
        Ok(reports)
    }

    async fn apply_networks(&self) -> Applied {
        let networks = self.assigned.networks();
        let standing = networks.iter().map(|(id, network)| (*id, network.version)).collect();
        Applied { standing, failures: Vec::new() }
    }

    async fn retain_networks(&self, _: BTreeSet<TaskId>) -> Vec<NetworkError> {
        Vec::new()
    }

    async fn retain(&self, known: BTreeSet<TaskId>) -> Result<(), TaskError> {
        // No controller has told of any task yet: what the backup says runs.
        if known.is_empty() {
            return Ok(());
        }
        self.forget(|(task, _)| !known.contains(task))
    }
}

#[cfg(test)]
mod tests;
