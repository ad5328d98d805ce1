//! Builds images on this host, with no daemon: the stages of a Dockerfile into layers of this host's own store, programs
//! in this project's own runtime.
//!
//! A step is worked on above the layers that came before it, in a folder that takes all changes; what is there afterwards
//! is packed as a layer like any that came from a registry, and remembered under everything that it depends on. Nothing is
//! mounted on the host but what a program's own mounts need, for as long as it runs. All of a build lies in one folder,
//! `build/work/<id>`, which goes with it, or at the next start.
//!
//! Programs have a network of their own with a way out, unless they ask for that of the host, or none.

mod archive;
mod attached;
mod attribute;
mod cache;
mod cache_mount;
mod content;
mod context;
mod copy;
mod description;
mod error;
mod layer;
mod mounts;
mod owner;
mod path;
mod progress;
mod run;
mod service;
mod snapshot;
mod step;
mod stub;
#[cfg(test)]
mod tests;
mod walk;
mod work;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use swarm_dockerfile::{Platform, Wishes};
use swarm_proto::id::Digest;
use swarm_proto::spec::{ContentBytes, NetworkMode, Ulimit};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use context::Context;
pub use error::BuildError;
pub use progress::Progress;
pub use service::BuildService;

use crate::executor::{OneShots, take_down};
use crate::image::{Images, Logins, NewImage, Reference, Tenant, architecture, documents};
use cache::Cache;
use cache_mount::CacheMounts;
use work::{Means, Work};

/// Steps of all builds that are worked on at the same time.
const STEPS: usize = 2;
/// A build argument that says when everything was made, as reproducible builds have it.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What is to be built.
#[derive(Debug, Default)]
pub struct BuildRequest {
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// Its name, for messages.
    pub file: String,
    /// The names that the image gets.
    pub names: Vec<Reference>,
    /// The stage to build; the last one, when none is named.
    pub target: Option<String>,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Secrets by their ids.
    pub secrets: BTreeMap<String, Arc<ContentBytes>>,
    /// Nothing that an earlier build made is used.
    pub no_cache: bool,
    /// Registries are asked what names stand for now, also where this host knows.
    pub pull: bool,
    /// No file of the image is younger, in seconds since the epoch; also a build argument's to say.
    pub source_date_epoch: Option<u64>,
    /// Bytes of memory that each program may use.
    pub memory: Option<u64>,
    /// The cluster's logins at the registries of its images.
    pub logins: Logins,
    /// Labels of the image, in place of those of the Dockerfile with the same name.
    pub labels: BTreeMap<String, String>,
    /// What every program has.
    pub steps: StepOptions,
}

/// What every program of a build has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StepOptions {
    /// Lines of `/etc/hosts`: names and their addresses.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// The network of an instruction that does not say it.
    pub network: NetworkMode,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Of its manifest.
    pub digest: Digest,
    /// Bytes of its layers, packed.
    pub size: u64,
}

/// Builds images.
#[derive(Debug)]
pub struct Builder {
    images: Arc<Images>,
    one_shots: OneShots,
    work: PathBuf,
    cache: Arc<Cache>,
    cache_mounts: Arc<CacheMounts>,
    permits: Semaphore,
    next: AtomicU64,
}

impl Builder {
    /// Begins below the agent's folder, and takes away what builds of an earlier agent left.
    pub fn open(
        root: &Path,
        images: Arc<Images>,
        one_shots: OneShots,
    ) -> Result<Arc<Self>, BuildError> {
        let folder = root.join("build");
        let work = folder.join("work");
        fs::create_dir_all(&work).map_err(BuildError::disk("make", &work))?;
        sweep(&work)?;
        one_shots.tidy();
        let cache = Arc::new(Cache::open(folder.join("cache"))?);
        let cache_mounts = CacheMounts::open(folder.join("mounts"))?;
        images.let_in(Arc::clone(&cache) as Arc<dyn Tenant>);
        images.let_in(Arc::clone(&cache_mounts) as Arc<dyn Tenant>);
        Ok(Arc::new(Self {
            images,
            one_shots,
            work,
            cache,
            cache_mounts,
            permits: Semaphore::new(STEPS),
            next: AtomicU64::new(1),
        }))
    }

    /// A folder for a build's context.
    pub fn context(self: &Arc<Self>) -> Result<Context, BuildError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", std::process::id());
        Context::make(self.work.join(&id), id)
    }

    /// Builds an image. Whatever comes of it, only layers, records of the cache and caches stay, and the image under its
    /// names. It must be polled until it is done: `cancelled` ends it early.
    pub async fn build(
        self: &Arc<Self>,
        mut request: BuildRequest,
        context: Context,
        progress: mpsc::Sender<Progress>,
        cancelled: CancellationToken,
    ) -> Result<BuiltImage, BuildError> {
        if let Some(text) = request.build_args.get(EPOCH).filter(|text| !text.is_empty()) {
            let seconds = text.parse().map_err(|_| {
                BuildError::Unsupported(format!(
                    "{EPOCH} is `{text}`, which is no number of seconds"
                ))
            })?;
            request.source_date_epoch = Some(seconds);
        }
        let dockerfile = swarm_dockerfile::read(&request.dockerfile, &request.file)?;
        let wishes = Wishes {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            secrets: Some(request.secrets.keys().cloned().collect()),
            platform: Platform {
                os: "linux".to_owned(),
                architecture: architecture().to_owned(),
                variant: None,
            },
        };
        let plan = swarm_dockerfile::plan(&dockerfile, &wishes)?;
        let names = std::mem::take(&mut request.names);
        let labels = std::mem::take(&mut request.labels);
        let (folder, id) = (context.folder().to_owned(), context.id().to_owned());
        let means =
            Means { folder: folder.clone(), id, context: context.files(), progress, cancelled };
        let work = Arc::new(Work::new(Arc::clone(self), request, plan, means));
        let built = match work.build().await {
            Ok(done) => self.keep(&done, &names, labels).await,
            Err(error) => Err(error),
        };
        let removed = blocking(move || attached::remove(&folder)).await;
        context.let_go();
        let built = built?;
        removed?;
        Ok(built)
    }

    async fn keep(
        &self,
        done: &work::Done,
        names: &[Reference],
        labels: BTreeMap<String, String>,
    ) -> Result<BuiltImage, BuildError> {
        let mut image = done.end.image.clone();
        image.config.labels.extend(labels);
        let (config, manifest) = documents(image, &done.layers)
            .map_err(|source| BuildError::Description { what: "configuration", source })?;
        let name = names.iter().cloned().map(Some);
        let names: Vec<_> = if names.is_empty() { vec![None] } else { name.collect() };
        let mut digest = None;
        for name in names {
            let (config, manifest) = (config.clone(), manifest.clone());
            let image = NewImage { name, manifest, config, layers: done.layers.clone() };
            digest = Some(self.images.keep_built(image).await?.digest.clone());
        }
        let size = done.layers.iter().map(|layer| layer.size).sum();
        let digest = digest.ok_or(BuildError::Cancelled)?;
        Ok(BuiltImage { digest, size })
    }
}

/// Ends and removes what is left of builds that an earlier agent did not finish.
fn sweep(work: &Path) -> Result<(), BuildError> {
    let listed = |folder: &Path| -> Result<Vec<PathBuf>, BuildError> {
        let entries = fs::read_dir(folder).map_err(BuildError::disk("list", folder))?;
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(BuildError::disk("list", folder))
    };
    for build in listed(work)? {
        for step in listed(&build)? {
            let container = run::container_folder(&step);
            if container.is_dir() {
                take_down(&container)?;
            }
        }
        attached::remove(&build)?;
    }
    Ok(())
}

/// Runs blocking work aside.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| BuildError::Stopped(error.to_string()))?
}
