//! Carries a task's steps out on this host: image, volumes, networks, container.
//!
//! Everything may be called twice, and after a restart of the agent in the middle. What a container needs lies in
//! `containers/<task>/<attempt>`: its configuration, its log, its own layer, the record of its end.

mod bundle;
mod capability;
mod container;
mod device;
mod error;
mod inspect;
mod limit;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use swarm_proto::assignment::{NetworkAssignment, TaskAssignment, VolumeReport};
use swarm_proto::id::{Attempt, NetworkId, TaskId, VolumeId};
use swarm_proto::spec::{Mount, MountSource, PullPolicy};
use swarm_runtime::{
    CgroupSpec, Container, ContainerError, CreateOptions, Exec, ExecOptions, ExecStreams,
    ExitRecord, Limits, LogLimits, RootfsSpec, SeccompChoice, ShimProgram,
};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

pub use error::TaskError;

use crate::exec::ExecFailure;
use crate::image::{Image, Images};
use crate::network::{Applied, NetworkError, Networks, TaskNetwork};
use crate::volume::{Fill, Volumes};
use bundle::Surroundings;
use container::{
    Look, container_in, create, disk, look, names, remove, remove_containers, take_down,
};

/// The names under which a container's companion keeps the sockets that answer names: UDP, then TCP.
const DNS_NAMES: [&str; 2] = ["dns-udp", "dns-tcp"];
/// Attempts of a task whose logs are kept.
const KEPT_ATTEMPTS: Attempt = 2;

/// What a task's run is made of, once built.
#[derive(Debug)]
pub struct Built {
    around: Surroundings,
    dns_sockets: Vec<OwnedFd>,
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
pub struct EndWatch(Option<UnixStream>);

impl EndWatch {
    /// Returns when the container has ended. May be dropped and called again.
    pub async fn ended(&mut self) {
        let Some(stream) = &self.0 else { return };
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
}

/// Where things lie and how many may be worked on.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The folder of all containers.
    pub containers: PathBuf,
    /// The parent of all control groups.
    pub cgroup_parent: String,
    /// Containers that are set up at the same time.
    pub starts: usize,
}

/// The means of this host.
pub struct Executor {
    config: ExecutorConfig,
    images: Arc<Images>,
    volumes: Arc<Volumes>,
    networks: Arc<Networks>,
    program: Arc<ShimProgram>,
    starts: Semaphore,
    /// Tasks are connected one at a time anyway; waiting here holds no thread.
    attaching: Semaphore,
    assigned: Mutex<Assigned>,
    /// Networks that tasks are connected to.
    attached: Mutex<BTreeMap<TaskId, BTreeSet<NetworkId>>>,
    /// Told when a volume was made.
    volumes_changed: tokio::sync::Notify,
}

/// What tasks may use.
#[derive(Debug, Clone, Default)]
struct Assigned {
    networks: Arc<BTreeMap<NetworkId, NetworkAssignment>>,
    volumes: Arc<BTreeMap<VolumeId, String>>,
}

impl Executor {
    /// Puts the means together.
    pub fn new(
        config: ExecutorConfig,
        images: Arc<Images>,
        volumes: Arc<Volumes>,
        networks: Arc<Networks>,
        program: ShimProgram,
    ) -> Result<Self, TaskError> {
        let folder = &config.containers;
        fs::create_dir_all(folder).map_err(disk("make", folder))?;
        Ok(Self {
            starts: Semaphore::new(config.starts),
            attaching: Semaphore::new(1),
            config,
            images,
            volumes,
            networks,
            program: Arc::new(program),
            assigned: Mutex::default(),
            attached: Mutex::default(),
            volumes_changed: tokio::sync::Notify::new(),
        })
    }

    /// The networks and volumes (with their names) that tasks may use from now on.
    pub fn set_assigned(
        &self,
        networks: BTreeMap<NetworkId, NetworkAssignment>,
        volumes: BTreeMap<VolumeId, String>,
    ) {
        let assigned = Assigned { networks: Arc::new(networks), volumes: Arc::new(volumes) };
        *self.assigned.lock().unwrap_or_else(PoisonError::into_inner) = assigned;
    }

    /// The networks that tasks may be connected to.
    pub fn networks(&self) -> Arc<BTreeMap<NetworkId, NetworkAssignment>> {
        self.assigned().networks
    }

    fn assigned(&self) -> Assigned {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some task of this host is connected to a network.
    pub fn uses(&self, network: NetworkId) -> bool {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.values().any(|networks| networks.contains(&network))
    }

    fn note_attached(&self, task: &TaskAssignment) {
        let networks = task.attachments.iter().map(|attachment| attachment.network).collect();
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.insert(task.id, networks);
    }

    async fn detach(&self, task: TaskId) -> Result<(), TaskError> {
        self.networks.detach(task).await?;
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
        Ok(())
    }

    /// Returns after the next new volume.
    pub async fn volume_made(&self) {
        self.volumes_changed.notified().await;
    }

    /// Where a task's logs and records lie.
    pub fn task_folder(&self, task: TaskId) -> PathBuf {
        self.config.containers.join(task.to_string())
    }

    fn folder(&self, task: TaskId, attempt: Attempt) -> PathBuf {
        self.task_folder(task).join(attempt.to_string())
    }

    /// Brings the image. May be given up at any time.
    pub async fn fetch(&self, task: &TaskAssignment) -> Result<Arc<Image>, TaskError> {
        Ok(self.images.ensure(&task.container.image).await?)
    }

    /// Makes volumes, and connects the task to its networks.
    pub async fn build(
        &self,
        task: &Arc<TaskAssignment>,
        image: &Arc<Image>,
    ) -> Result<Built, TaskError> {
        let volumes = Arc::clone(&self.volumes);
        let own = self.task_folder(task.id).join("volumes");
        let (task, image) = (Arc::clone(task), Arc::clone(image));
        let (of_task, assigned) = (Arc::clone(&task), self.assigned());
        let networks = Arc::clone(&assigned.networks);
        let names = assigned.volumes;
        let (sources, made) =
            blocking(move || sources(&volumes, &names, &own, &of_task, &image)).await?;
        if made {
            self.volumes_changed.notify_one();
        }
        self.note_attached(&task);
        let permit = self.attaching.acquire().await;
        let _permit = permit.map_err(|error| TaskError::Stopped(error.to_string()))?;
        let TaskNetwork { namespace, dns_sockets, resolv_conf, hosts, addresses } =
            self.networks.attach(&task, &networks).await?;
        let around = Surroundings { namespace, resolv_conf, hosts, addresses, sources };
        Ok(Built { around, dns_sockets })
    }

    /// Sets the container up, unless it stands already, and runs its program. A program that cannot be run is a
    /// container that has ended.
    pub async fn start(
        &self,
        task: &Arc<TaskAssignment>,
        attempt: Attempt,
        image: &Arc<Image>,
        built: Built,
    ) -> Result<Found, TaskError> {
        let permit = self.starts.acquire().await;
        let _permit = permit.map_err(|error| TaskError::Stopped(error.to_string()))?;
        let folder = self.folder(task.id, attempt);
        let options = self.options(task, attempt, image, &folder);
        let program = Arc::clone(&self.program);
        let (task, image) = (Arc::clone(task), Arc::clone(image));
        let found = blocking(move || {
            let container = match container_in(&folder)? {
                Some(container) => container,
                None => create(&program, options, &task, &image, built)?,
            };
            match container.start() {
                Ok(()) | Err(ContainerError::Start { .. }) => look(&container),
                Err(error) => Err(error.into()),
            }
        });
        found.await.and_then(Look::into_found)
    }

    fn options(
        &self,
        task: &TaskAssignment,
        attempt: Attempt,
        image: &Image,
        folder: &Path,
    ) -> CreateOptions {
        let spec = &task.container;
        let user = spec.user.clone().or_else(|| {
            let of_image = image.config.user.clone();
            (!of_image.is_empty()).then_some(of_image)
        });
        CreateOptions {
            id: format!("{}.{attempt}", task.id),
            dir: folder.to_owned(),
            rootfs: RootfsSpec {
                lower_dirs: image.layers.iter().rev().cloned().collect(),
                upper_dir: Some(folder.join("upper")),
                work_dir: Some(folder.join("work")),
                read_only: spec.read_only,
            },
            user,
            init: spec.init,
            seccomp: if spec.privileged {
                SeccompChoice::Unconfined
            } else {
                SeccompChoice::Default
            },
            log: LogLimits::default(),
            passed_fds: Vec::new(),
            cgroup: CgroupSpec {
                parent: self.config.cgroup_parent.clone(),
                name: format!("{}.{attempt}", task.id),
                limits: Limits {
                    nano_cpus: spec.resources.limit_millicpus.map(|m| m.saturating_mul(1_000_000)),
                    memory_bytes: spec.resources.limit_memory,
                    pids: spec.resources.limit_pids,
                    ..Limits::default()
                },
            },
        }
    }

    /// Looks what there is of a task's container.
    pub async fn inspect(&self, task: TaskId, attempt: Attempt) -> Result<Found, TaskError> {
        let folder = self.folder(task, attempt);
        let found = blocking(move || match container_in(&folder)? {
            Some(container) => look(&container),
            None => Ok(Look::Absent),
        });
        found.await.and_then(Look::into_found)
    }

    /// Takes a running container's network over from an earlier agent.
    pub async fn adopt(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError> {
        let folder = self.folder(task.id, attempt);
        let sockets = blocking(move || {
            let mut kept = Container::open(&folder)?.take_fds()?;
            kept.sort_by_key(|(name, _)| DNS_NAMES.iter().position(|known| known == name));
            Ok(kept.into_iter().map(|(_, socket)| socket).collect())
        });
        let sockets = sockets.await?;
        self.note_attached(task);
        self.networks.adopt(task, &self.networks(), sockets).await?;
        Ok(())
    }

    /// Asks a container to stop.
    pub async fn stop(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError> {
        let here = swarm_proto::spec::ImageSpec {
            pull_policy: PullPolicy::Never,
            ..task.container.image.clone()
        };
        let image = self.images.ensure(&here).await;
        let config = image.map(|image| image.config.clone()).unwrap_or_default();
        let signal = merge::stop_signal(&task.container, &config).unwrap_or_else(|reason| {
            tracing::warn!(task = %task.name, %reason, "SIGTERM is sent instead");
            nix::sys::signal::Signal::SIGTERM as i32
        });
        self.signal(task.id, attempt, signal, false).await
    }

    /// Kills a container.
    pub async fn kill(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        self.signal(task, attempt, nix::sys::signal::Signal::SIGKILL as i32, true).await
    }

    async fn signal(
        &self,
        task: TaskId,
        attempt: Attempt,
        signal: i32,
        all: bool,
    ) -> Result<(), TaskError> {
        let folder = self.folder(task, attempt);
        blocking(move || match container_in(&folder)? {
            Some(container) => Ok(container.kill(signal, all)?),
            None => Ok(()),
        })
        .await
    }

    /// Runs a further program in a task's newest container.
    pub async fn exec(
        &self,
        task: TaskId,
        options: ExecOptions,
    ) -> Result<(Exec, ExecStreams), ExecFailure> {
        let (folder, program) = (self.task_folder(task), Arc::clone(&self.program));
        let done = tokio::task::spawn_blocking(move || {
            let attempts =
                names(&folder)?.into_iter().filter_map(|name| name.parse::<Attempt>().ok());
            let newest = attempts.max().ok_or(ExecFailure::Absent)?;
            match Container::open(&folder.join(newest.to_string())) {
                Ok(container) => Ok(container.exec(&program, options)?),
                Err(ContainerError::NotFound(_)) => Err(ExecFailure::Absent),
                Err(error) => Err(TaskError::from(error).into()),
            }
        });
        done.await.map_err(|error| TaskError::Stopped(error.to_string()))?
    }

    /// Takes down what a run needed: the container, its own layer, its networks. Logs and the record of its end stay.
    pub async fn settle(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        let (folder, all) = (self.folder(task, attempt), self.task_folder(task));
        blocking(move || {
            take_down(&folder)?;
            let Some(old) = attempt.checked_sub(KEPT_ATTEMPTS) else { return Ok(()) };
            remove(&all.join(old.to_string()))
        })
        .await?;
        self.detach(task).await
    }

    /// Removes every trace of a task.
    pub async fn remove(&self, task: TaskId) -> Result<(), TaskError> {
        let folder = self.task_folder(task);
        blocking(move || remove_containers(&folder)).await?;
        self.detach(task).await
    }

    /// Removes a volume with its content.
    pub async fn remove_volume(&self, id: VolumeId, name: String) -> Result<(), TaskError> {
        let volumes = Arc::clone(&self.volumes);
        blocking(move || Ok(volumes.remove(id, &name)?)).await
    }

    /// All named volumes that are on this host.
    pub async fn volume_reports(&self) -> Result<Vec<VolumeReport>, TaskError> {
        let volumes = Arc::clone(&self.volumes);
        blocking(move || Ok(volumes.reports()?)).await
    }

    /// Makes the networks true; see [`Networks::apply`].
    pub async fn apply_networks(&self) -> Applied {
        self.networks.apply(self.networks().as_ref().clone()).await
    }

    /// Removes networks and connections that no task owns; see [`Networks::retain`].
    pub async fn retain_networks(&self, tasks: BTreeSet<TaskId>) -> Vec<NetworkError> {
        self.networks.retain(self.networks().keys().copied().collect(), tasks).await
    }

    /// Removes the containers of tasks that nobody knows any more.
    pub async fn retain(&self, known: BTreeSet<TaskId>) -> Result<(), TaskError> {
        let all = self.config.containers.clone();
        blocking(move || {
            for name in names(&all)? {
                if name.parse().is_ok_and(|id: TaskId| known.contains(&id)) {
                    continue;
                }
                tracing::info!(container = %name, "removing what no task owns");
                remove_containers(&all.join(name))?;
            }
            Ok(())
        })
        .await
    }
}

/// Where the content of each mount lies, made as needed. True when a named volume was made.
fn sources(
    volumes: &Volumes,
    names: &BTreeMap<VolumeId, String>,
    own: &Path,
    task: &TaskAssignment,
    image: &Image,
) -> Result<(BTreeMap<String, PathBuf>, bool), TaskError> {
    let (mut sources, mut made_any) = (BTreeMap::new(), false);
    let spec = &task.container;
    let of_image = image.config.volumes.iter();
    let of_image =
        of_image.filter(|path| !spec.mounts.iter().any(|mount| same(&mount.target, path)));
    let of_image = of_image.map(|path| Mount {
        target: path.clone(),
        source: MountSource::Anonymous,
        read_only: false,
    });
    for (number, mount) in spec.mounts.iter().cloned().chain(of_image).enumerate() {
        let fill = Fill { image, reference: &spec.image.reference, path: &mount.target };
        let source = match &mount.source {
            MountSource::Tmpfs { .. } => continue,
            MountSource::Bind { path } => bind_source(path)?,
            MountSource::Anonymous => Volumes::anonymous(own, &number.to_string(), Some(fill))?,
            MountSource::Volume { volume, no_copy } => {
                let known = task.volumes.get(volume).and_then(|id| Some((*id, names.get(id)?)));
                let (id, name) = known.ok_or_else(|| TaskError::NoVolume(volume.clone()))?;
                let fill = (!no_copy).then_some(fill);
                let (path, made) = volumes.ensure(id, name, fill)?;
                made_any |= made;
                path
            }
        };
        sources.insert(mount.target, source);
    }
    Ok((sources, made_any))
}

fn same(left: &str, right: &str) -> bool {
    left.trim_end_matches('/') == right.trim_end_matches('/')
}

fn bind_source(path: &str) -> Result<PathBuf, TaskError> {
    let source = PathBuf::from(path);
    if !source.is_absolute() {
        return Err(TaskError::Unfit(format!("mount source `{path}` is not an absolute path")));
    }
    match fs::metadata(&source) {
        Ok(_) => Ok(source),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(TaskError::Unfit(format!("mount source `{path}` does not exist on this host")))
        }
        Err(error) => Err(TaskError::Disk { action: "look at", path: source, source: error }),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TaskError::Stopped(error.to_string()))?
}
