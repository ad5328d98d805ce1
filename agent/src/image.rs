//! Images: fetched once, verified, unpacked once, shared by all tasks that run them.

mod answer;
mod archive;
mod assemble;
mod built;
mod challenge;
mod claims;
mod compression;
mod conversation;
mod elsewhere;
mod entry;
mod error;
mod export;
mod flight;
mod gather;
mod held;
mod hosting;
mod import;
mod keyring;
mod login;
mod manifest;
mod origin;
mod pieces;
mod progress;
mod pull;
mod push;
mod pushed_name;
mod rate;
pub mod readers;
mod reference;
mod registry;
mod removal;
mod repositories;
mod repository;
mod room;
mod scattered;
mod sharing;
mod store;
mod sweep;
mod tenant;
mod unpack;
mod upload;
mod withdraw;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use swarm_proto::id::{Digest, Timestamp};
use swarm_proto::object::HeldImage;
use swarm_proto::spec::{ImageSpec, PullPolicy};
use tokio::sync::{Semaphore, watch};

pub use archive::Loaded;
pub(crate) use built::documents;
pub use built::{ImageParts, LayerBlob, NewImage};
pub use claims::Claim;
pub use elsewhere::Elsewhere;
pub use error::ImageError;
pub use export::Export;
pub use held::{Details, LayerDetails};
pub use hosting::{HostedBlob, HostingError};
pub use import::Import;
pub use keyring::Logins;
pub use login::LoginCheck;
pub use manifest::{ImageConfig, ImageHealth, architecture};
pub use progress::{LayerProgress, so_far};
pub use push::{BlobStep, PushStep, Pushed};
pub use reference::{ParseReferenceError, Reference};
pub use registry::{Endpoint, Registries};
pub use removal::Content;
pub use repositories::RepositoryError;
pub use repository::{
    DocumentView, HostedManifest, HostedTag, ParseNameError, Part, RepositoryName, Tag, ViewError,
};
pub use sharing::{Directory, Known, Neighbours};
pub use sweep::Trimmed;
pub use tenant::{Spare, Tenant};
pub use withdraw::{Needed, Removed};

pub(crate) use compression::{reader as plain_reader, reader_of as plain_reader_of};
pub(crate) use hosting::uploads_folder;
pub(crate) use rate::{Rate, SLOWEST};
pub(crate) use sharing::coming;
pub(crate) use store::digest_of;
pub(crate) use unpack::unpack_archive;

use claims::Claims;
use flight::Flights;
use keyring::Keyring;
use registry::Source;
use store::{Record, Store};
use withdraw::Doomed;

/// Layers that come over the network at the same time, over all images.
const DOWNLOADS: usize = 3;
/// Layers that are unpacked at the same time: as many as there are processors, within these bounds. Each needs about
/// 1 MiB of memory.
const LEAST_UNPACKS: usize = 2;
const MOST_UNPACKS: usize = 4;

/// An image that is ready to run.
#[derive(Debug)]
pub struct Image {
    /// What a deploy pinned.
    pub digest: Digest,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
}

/// An image as `image ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// One of its names; empty when each now stands for something else.
    pub reference: String,
    /// Its content.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// When it came.
    pub created_at: Timestamp,
}

/// A task of this host with the image that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The task's name.
    pub task: String,
    /// The image.
    pub image: ImageSpec,
}

/// Tells which tasks use which images now.
pub type Users = Box<dyn Fn() -> Vec<ImageUser> + Send + Sync>;

/// What images may take of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the disk that they leave free; by default a twentieth of it, at most 1 GiB.
    pub reserve: Option<u64>,
    /// Bytes per second that come from registries, all downloads together.
    pub pull_rate: Option<u64>,
    /// Bytes per second that other hosts copy, all together.
    pub share_rate: Option<u64>,
}

/// All images of this host.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
    /// What came with the request that is carried out.
    logins: Arc<Logins>,
    /// By digest and name: each that is asked for becomes one of the image's.
    pulls: Arc<Flights<(Digest, String), Arc<Image>>>,
}

struct Inner {
    store: Arc<Store>,
    registries: Registries,
    records: Mutex<HashMap<Digest, Record>>,
    /// Held while files of records change.
    writing: tokio::sync::Mutex<()>,
    blobs: Flights<Digest, ()>,
    layers: Flights<Digest, ()>,
    claims: Arc<Claims>,
    tenants: RwLock<Vec<Arc<dyn Tenant>>>,
    downloads: Semaphore,
    unpacks: Semaphore,
    neighbours: OnceLock<Neighbours>,
    users: OnceLock<Users>,
    /// Bytes of the disk that images leave free; `None` is the usual.
    reserve: Option<u64>,
    /// What comes from registries.
    pulls: Arc<Rate>,
    /// What other hosts copy.
    shares: Arc<Rate>,
    held: watch::Sender<Vec<HeldImage>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl Images {
    /// Opens the images under the agent's folder.
    pub fn open(root: &Path, registries: Registries) -> Result<Self, ImageError> {
        Self::open_with(root, registries, Limits::default())
    }

    /// Opens the images under the agent's folder, which keep within these limits.
    pub fn open_with(
        root: &Path,
        registries: Registries,
        limits: Limits,
    ) -> Result<Self, ImageError> {
        let store = Store::open(root)?;
        let records = store.records()?;
        let records = records.into_iter().map(|record| (record.digest.clone(), record)).collect();
        let inner = Inner {
            store: Arc::new(store),
            registries,
            records: Mutex::new(records),
            writing: tokio::sync::Mutex::default(),
            blobs: Flights::new(),
            layers: Flights::new(),
            claims: Arc::default(),
            tenants: RwLock::default(),
            downloads: Semaphore::new(DOWNLOADS),
            unpacks: Semaphore::new(unpacks()),
            neighbours: OnceLock::new(),
            users: OnceLock::new(),
            reserve: limits.reserve,
            pulls: Arc::new(Rate::new(limits.pull_rate)),
            shares: Arc::new(Rate::new(limits.share_rate)),
            held: watch::Sender::default(),
        };
        inner.tell();
        let (inner, pulls) = (Arc::new(inner), Arc::new(Flights::new()));
        Ok(Self { inner, logins: Arc::default(), pulls })
    }

    /// The same images, for a request with which logins came.
    #[must_use]
    pub fn with_logins(&self, logins: Logins) -> Self {
        Self { logins: Arc::new(logins), ..self.clone() }
    }

    /// From now on images are copied from other hosts. Called once.
    pub fn share_with(&self, neighbours: Neighbours) {
        let _ = self.inner.neighbours.set(neighbours);
    }

    /// The other hosts, once they are known.
    pub fn neighbours(&self) -> Option<&Neighbours> {
        self.inner.neighbours.get()
    }

    /// From now on it is known which tasks use which images. Called once.
    pub fn used_by(&self, users: Users) {
        let _ = self.inner.users.set(users);
    }

    /// What this host holds, for others to copy, and each change of it.
    pub fn held(&self) -> watch::Receiver<Vec<HeldImage>> {
        self.inner.held.subscribe()
    }

    /// Opens a blob that is whole on this host.
    pub fn open_blob(&self, digest: &Digest) -> Option<File> {
        File::open(self.inner.store.blob(digest)).ok()
    }

    /// How fast other hosts may copy.
    pub(crate) fn shares(&self) -> Arc<Rate> {
        Arc::clone(&self.inner.shares)
    }

    /// How many bytes have come of a blob that is not whole here, but that a pull under way is to bring.
    pub fn coming(&self, digest: &Digest) -> Option<u64> {
        let store = &self.inner.store;
        if store.blob(digest).exists() || !self.inner.claims.has(digest) {
            return None;
        }
        Some(scattered::arrived(&store.partial_blob(digest)))
    }

    /// Asks the registry what a name stands for. A name without a registry that was given on this host stands for
    /// what it was given to. Else, only when no registry answers does an image count that came under this name before,
    /// and when none knows the name, one that it was given to here.
    pub async fn resolve(&self, reference: &str) -> Result<Digest, ImageError> {
        let reference: Reference = reference.parse()?;
        if let Some(digest) = &reference.digest {
            return Ok(digest.clone());
        }
        let name = reference.to_string();
        let given = self.inner.given(&name);
        if let Some(given) = given.as_ref().filter(|_| reference.is_of_default_registry()) {
            return Ok(given.clone());
        }
        let keyring = self.inner.keyring(&self.logins);
        let asked = match Source::new(&self.inner.registries, &reference, keyring) {
            Ok(source) => source.digest().await,
            Err(error) => Err(error),
        };
        match asked {
            Err(error @ ImageError::Unavailable { .. }) => {
                let known = self.inner.named(&name).ok_or(error)?;
                tracing::warn!(%reference, "no registry answers; the image on this host is taken");
                Ok(known)
            }
            Err(error @ (ImageError::NotFound { .. } | ImageError::Denied { .. })) => {
                given.ok_or(error)
            }
            other => other,
        }
    }

    /// Makes an image ready to run.
    pub async fn ensure(&self, spec: &ImageSpec) -> Result<Arc<Image>, ImageError> {
        let reference = wanted(spec)?;
        let digest = match spec.digest.clone().or_else(|| reference.digest.clone()) {
            Some(digest) => digest,
            None => self.resolve(&spec.reference).await?,
        };
        if let Some(image) = self.inner.ready(&digest, &name_of(&reference)) {
            return Ok(image);
        }
        if spec.pull_policy == PullPolicy::Never {
            return Err(ImageError::Absent { reference: reference.to_string(), digest });
        }
        let (inner, logins) = (Arc::clone(&self.inner), Arc::clone(&self.logins));
        let key = (digest.clone(), name_of(&reference));
        let pull = move || async move { inner.pull(reference, digest, &logins).await };
        self.pulls.join(key, pull).await
    }
}

impl Inner {
    fn records(&self) -> MutexGuard<'_, HashMap<Digest, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, record: &Record) -> Arc<Image> {
        let mut layers: Vec<PathBuf> = Vec::new();
        for id in record.layers.iter().rev() {
            // The same layer again changes nothing below itself, and overlayfs refuses it.
            let layer = self.store.layer(id);
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        layers.reverse();
        let (digest, config) = (record.digest.clone(), record.config.clone());
        Arc::new(Image { digest, config, layers })
    }

    /// An image that is known by this name and whose layers are all still on the disk.
    fn ready(&self, digest: &Digest, name: &str) -> Option<Arc<Image>> {
        let records = self.records();
        let record = records.get(digest).filter(|record| record.references.contains_key(name))?;
        record.layers.iter().all(|id| self.store.has_layer(id)).then(|| self.image(record))
    }

    /// What the name was given to on a host, where it was not a registry that gave it.
    fn given(&self, name: &str) -> Option<Digest> {
        let records = self.records();
        let found = records.values().find(|record| record.local.contains(name))?;
        Some(found.digest.clone())
    }

    /// Who may open what, for a conversation with a registry.
    fn keyring(&self, logins: &Arc<Logins>) -> Keyring {
        Keyring {
            logins: Arc::clone(logins),
            directory: self.neighbours.get().map(|others| Arc::clone(&others.directory)),
            file: self.registries.logins.clone(),
        }
    }

    /// What the cluster knows of an image; nothing where no other host can be asked.
    async fn find(&self, name: &str, digest: Option<&Digest>) -> Known {
        match self.neighbours.get() {
            Some(neighbours) => neighbours.directory.find(name, digest).await,
            None => Known::default(),
        }
    }

    /// The content that a name last stood for on this host.
    fn named(&self, reference: &str) -> Option<Digest> {
        let records = self.records();
        let times = records.values().filter_map(|r| Some((r.references.get(reference)?, r)));
        times.max_by_key(|(time, _)| **time).map(|(_, record)| record.digest.clone())
    }
}

fn unpacks() -> usize {
    let processors = std::thread::available_parallelism().map_or(LEAST_UNPACKS, usize::from);
    processors.clamp(LEAST_UNPACKS, MOST_UNPACKS)
}

/// What is asked for. A name without a tag stands for its digest alone where there is one, and for no tag.
fn wanted(spec: &ImageSpec) -> Result<Reference, ImageError> {
    let reference: Reference = spec.reference.parse()?;
    let Some(digest) = &spec.digest else { return Ok(reference) };
    let pinned = Reference::parse_pinned(&spec.reference, digest)?;
    Ok(if pinned.tag.is_none() { pinned } else { reference })
}

/// The name without the content that it is pinned to.
fn name_of(reference: &Reference) -> String {
    match reference.tag {
        Some(_) => Reference { digest: None, ..reference.clone() }.to_string(),
        None => reference.to_string(),
    }
}
