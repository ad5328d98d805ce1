//! The means of a real host: images, volumes, networks, and containers run by this project's own runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_proto::assignment::{TaskAssignment, VolumeReport};
use swarm_proto::id::{Attempt, ServiceId, TaskId, VolumeId};
use swarm_proto::spec::{Decimal, Mount, MountSource, Resources, Scrape, Seccomp};
use swarm_runtime::cgroup::Usage;
use swarm_runtime::{
    CgroupSpec, Container, ContainerError, CreateOptions, Exec, ExecOptions, ExecStreams, Fence,
    Limits, RootfsSpec, SeccompChoice, ShimProgram,
};
use tokio::sync::Semaphore;

use super::bundle::Surroundings;
use super::container::{
    Look, container_in, create, look, names, remove, remove_containers, take_down,
};
use super::{
    Assigned, Built, DNS_NAMES, Executor, Found, TaskError, blocking, files, logging, merge,
    resource,
};
use crate::exec::ExecFailure;
use crate::health::{Check, Outcome};
use crate::image::{Image, Images, so_far};
use crate::network::{Applied, NetworkError, Networks, TaskNetwork};
use crate::resources::ResourceDevices;
use crate::volume::{Fill, Volumes};

/// Attempts of a task whose logs are kept.
const KEPT_ATTEMPTS: Attempt = 2;

/// Where things lie and how many may be worked on.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The folder of all containers.
    pub containers: PathBuf,
    /// The parent of all control groups.
    pub cgroup_parent: String,
    /// Device nodes that containers get with a resource.
    pub resource_devices: ResourceDevices,
    /// Containers that are set up at the same time.
    pub starts: usize,
    /// Says how long tasks may run without the word of a leader.
    pub lease_file: PathBuf,
}

/// The means of this host.
pub struct HostExecutor {
    pub(super) config: ExecutorConfig,
    pub(super) images: Arc<Images>,
    volumes: Arc<Volumes>,
    pub(super) networks: Arc<Networks>,
    pub(super) program: Arc<ShimProgram>,
    starts: Semaphore,
    /// Tasks are connected one at a time anyway; waiting here holds no thread.
    attaching: Semaphore,
    assigned: Arc<Assigned>,
    /// Told when a volume was made.
    volumes_changed: tokio::sync::Notify,
}

impl HostExecutor {
    /// Puts the means together.
    pub fn new(
        config: ExecutorConfig,
        images: Arc<Images>,
        volumes: Arc<Volumes>,
        networks: Arc<Networks>,
        program: ShimProgram,
    ) -> Result<Self, TaskError> {
        let folder = &config.containers;
        fs::create_dir_all(folder).map_err(TaskError::disk("make", folder))?;
        Ok(Self {
            starts: Semaphore::new(config.starts),
            attaching: Semaphore::new(1),
            config,
            images,
            volumes,
            networks,
            program: Arc::new(program),
            assigned: Arc::default(),
            volumes_changed: tokio::sync::Notify::new(),
        })
    }

    async fn detach(&self, task: TaskId) -> Result<(), TaskError> {
        self.networks.detach(task).await?;
        self.assigned.detach(task);
        Ok(())
    }

    /// Where a task's logs and records lie.
    pub fn task_folder(&self, task: TaskId) -> PathBuf {
        self.config.containers.join(task.to_string())
    }

    pub(super) fn folder(&self, task: TaskId, attempt: Attempt) -> PathBuf {
        self.task_folder(task).join(attempt.to_string())
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
            seccomp: match &spec.security.seccomp {
                Seccomp::Unconfined => SeccompChoice::Unconfined,
                Seccomp::Default if spec.privileged => SeccompChoice::Unconfined,
                Seccomp::Default | Seccomp::Profile(_) => SeccompChoice::Default,
            },
            groups: spec.groups.clone(),
            stdin_open: spec.stdin_open,
            log: logging::options(task),
            passed_fds: Vec::new(),
            cgroup: CgroupSpec {
                parent: self.config.cgroup_parent.clone(),
                name: format!("{}.{attempt}", task.id),
                limits: limits(&spec.resources),
            },
            fence: task.lease.map(|lease| Fence {
                file: self.config.lease_file.clone(),
                after: lease.saturating_add(spec.stop_grace_period),
            }),
        }
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
}

#[tonic::async_trait]
impl Executor for HostExecutor {
    fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    async fn volume_made(&self) {
        self.volumes_changed.notified().await;
    }

    async fn fetch(&self, task: &TaskAssignment) -> Result<Arc<Image>, TaskError> {
        Ok(self.images.ensure(&task.container.image).await?)
    }

    fn fetching(&self, task: &TaskAssignment) -> Option<String> {
        let layers = self.images.progress(task.container.image.digest.as_ref()?)?;
        Some(so_far(&layers))
    }

    async fn build(
        &self,
        task: &Arc<TaskAssignment>,
        image: &Arc<Image>,
    ) -> Result<Built, TaskError> {
        let volumes = Arc::clone(&self.volumes);
        let folder = self.task_folder(task.id);
        let (task, image) = (Arc::clone(task), Arc::clone(image));
        let (of_task, networks) = (Arc::clone(&task), self.assigned.networks());
        let names = self.assigned.volumes();
        let assigned = Arc::clone(&self.assigned);
        let (sources, made, files) = blocking(move || {
            let own = folder.join("volumes");
            let (sources, made) = sources(&volumes, &names, &own, &of_task, &image)?;
            Ok((sources, made, files::make(&folder, &of_task, assigned.contents())?))
        })
        .await?;
        if made {
            self.volumes_changed.notify_one();
        }
        self.assigned.attach(&task);
        let permit = self.attaching.acquire().await;
        let _permit = permit.map_err(|error| TaskError::Stopped(error.to_string()))?;
        let TaskNetwork { namespace, dns_sockets, resolv_conf, hosts, addresses } =
            self.networks.attach(&task, &networks).await?;
        let devices = resource::devices(&task, &self.config.resource_devices);
        let around =
            Surroundings { namespace, resolv_conf, hosts, addresses, sources, files, devices };
        Ok(Built::of(around, dns_sockets))
    }

    async fn start(
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

    async fn inspect(&self, task: TaskId, attempt: Attempt) -> Result<Found, TaskError> {
        let folder = self.folder(task, attempt);
        let found = blocking(move || match container_in(&folder)? {
            Some(container) => look(&container),
            None => Ok(Look::Absent),
        });
        found.await.and_then(Look::into_found)
    }

    async fn adopt(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError> {
        let (all, folder) = (self.task_folder(task.id), self.folder(task.id, attempt));
        let (assigned, of_task) = (Arc::clone(&self.assigned), task.clone());
        let sockets = blocking(move || {
            files::take_back(&all, &of_task, assigned.contents());
            let mut kept = Container::open(&folder)?.take_fds()?;
            kept.sort_by_key(|(name, _)| DNS_NAMES.iter().position(|known| known == name));
            Ok(kept.into_iter().map(|(_, socket)| socket).collect())
        });
        let sockets = sockets.await?;
        self.assigned.attach(task);
        self.networks.adopt(task, &self.assigned.networks(), sockets).await?;
        Ok(())
    }

    async fn health_check(&self, task: &TaskAssignment) -> Option<Check> {
        Check::of(task.container.health.as_ref(), &self.image_config(task).await)
    }

    async fn listens(&self, task: &TaskAssignment) {
        self.wait_for_listener(task).await;
    }

    async fn check(&self, task: &TaskAssignment, check: &Check) -> Outcome {
        self.look_at_health(task, check).await
    }

    async fn usage(&self, task: TaskId, attempt: Attempt) -> Result<Usage, TaskError> {
        self.read_usage(task, attempt).await
    }

    async fn scrape(&self, task: &TaskAssignment, scrape: &Scrape) -> Result<Decimal, String> {
        self.read_metric(task, scrape).await
    }

    async fn arrivals(&self, task: TaskId) -> Result<Option<u64>, TaskError> {
        Ok(self.networks.arrivals(task).await?)
    }

    async fn open_connections(&self, task: TaskId) -> Result<Option<u64>, TaskError> {
        Ok(self.networks.open_connections(task).await?)
    }

    async fn demand(&self) -> BTreeSet<ServiceId> {
        self.networks.demand().await
    }

    async fn pre_stop(&self, task: &TaskAssignment) {
        for hook in &task.container.pre_stop {
            self.run_hook(task, hook).await;
        }
    }

    async fn stop(&self, task: &TaskAssignment, attempt: Attempt) -> Result<(), TaskError> {
        let config = self.image_config(task).await;
        let signal = merge::stop_signal(&task.container, &config).unwrap_or_else(|reason| {
            tracing::warn!(task = %task.name, %reason, "SIGTERM is sent instead");
            nix::sys::signal::Signal::SIGTERM as i32
        });
        self.signal(task.id, attempt, signal, false).await
    }

    async fn kill(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        self.signal(task, attempt, nix::sys::signal::Signal::SIGKILL as i32, true).await
    }

    async fn settle(&self, task: TaskId, attempt: Attempt) -> Result<(), TaskError> {
        let (folder, all) = (self.folder(task, attempt), self.task_folder(task));
        blocking(move || {
            take_down(&folder)?;
            files::unmake(&all.join(files::NAME))?;
            let Some(old) = attempt.checked_sub(KEPT_ATTEMPTS) else { return Ok(()) };
            remove(&all.join(old.to_string()))
        })
        .await?;
        self.detach(task).await
    }

    async fn remove(&self, task: TaskId) -> Result<(), TaskError> {
        let folder = self.task_folder(task);
        blocking(move || remove_containers(&folder)).await?;
        self.detach(task).await
    }

    async fn remove_volume(&self, id: VolumeId, name: String) -> Result<(), TaskError> {
        let volumes = Arc::clone(&self.volumes);
        blocking(move || Ok(volumes.remove(id, &name)?)).await
    }

    async fn volume_reports(&self) -> Result<Vec<VolumeReport>, TaskError> {
        let volumes = Arc::clone(&self.volumes);
        blocking(move || Ok(volumes.reports()?)).await
    }

    async fn apply_networks(&self) -> Applied {
        self.networks.apply(self.assigned.networks()).await
    }

    async fn retain_networks(&self, tasks: BTreeSet<TaskId>) -> Vec<NetworkError> {
        self.networks.retain(self.assigned.networks().keys().copied().collect(), tasks).await
    }

    async fn retain(&self, known: BTreeSet<TaskId>) -> Result<(), TaskError> {
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

fn limits(resources: &Resources) -> Limits {
    Limits {
        nano_cpus: resources.limit_millicpus.map(|m| m.saturating_mul(1_000_000)),
        cpu_shares: resources.cpu_shares,
        cpu_quota_us: resources.cpu_quota,
        cpu_period_us: resources.cpu_period,
        cpuset: resources.cpuset.clone(),
        memory_bytes: resources.limit_memory,
        swap_bytes: resources.limit_swap,
        memory_reservation_bytes: resources.soft_memory,
        swappiness: resources.swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        pids: resources.limit_pids,
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
            MountSource::Tmpfs(_) => continue,
            MountSource::Bind { path } => bind_source(path)?,
            MountSource::Anonymous => Volumes::anonymous(own, &number.to_string(), Some(fill))?,
            MountSource::Volume { volume, no_copy, .. } => {
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
