//! Images: fetched once, verified, unpacked once, shared by all tasks that run them.

mod built;
mod compression;
mod entry;
mod error;
mod flight;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod unpack;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use swarm_proto::id::{Digest, Timestamp};
use swarm_proto::spec::{ImageSpec, PullPolicy};
use tokio::sync::Semaphore;

pub use built::{ImageParts, LayerBlob, NewImage};
pub use error::ImageError;
pub use manifest::{ImageConfig, ImageHealth, architecture};
pub use reference::{ParseReferenceError, Reference};
pub use registry::{Endpoint, Registries};

pub(crate) use compression::{reader as plain_reader, reader_of as plain_reader_of};
pub(crate) use store::digest_of;
pub(crate) use unpack::unpack_archive;

use flight::Flights;
use manifest::{Descriptor, Document, Manifest};
use pull::blocking;
use registry::{SharedSource, Source};
use store::{Record, Store};

use crate::clock;

/// Layers that come over the network at the same time, over all images.
const DOWNLOADS: usize = 3;
/// Layers that are unpacked at the same time: this fills the processors of a small host.
const UNPACKS: usize = 2;

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

/// All images of this host.
pub struct Images {
    inner: Arc<Inner>,
    pulls: Flights<Digest, Arc<Image>>,
}

struct Inner {
    store: Arc<Store>,
    registries: Registries,
    records: Mutex<HashMap<Digest, Record>>,
    layers: Flights<Digest, ()>,
    downloads: Semaphore,
    unpacks: Semaphore,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl Images {
    /// Opens the images under the agent's folder.
    pub fn open(root: &Path, registries: Registries) -> Result<Self, ImageError> {
        let store = Store::open(root)?;
        let records = store.records()?;
        let records = records.into_iter().map(|record| (record.digest.clone(), record)).collect();
        let inner = Inner {
            store: Arc::new(store),
            registries,
            records: Mutex::new(records),
            layers: Flights::new(),
            downloads: Semaphore::new(DOWNLOADS),
            unpacks: Semaphore::new(UNPACKS),
        };
        Ok(Self { inner: Arc::new(inner), pulls: Flights::new() })
    }

    /// Asks the registry what a name stands for. Only when no registry answers does an image count that came under
    /// this name before; one that was built here counts too where the registry has none of the name.
    pub async fn resolve(&self, reference: &str) -> Result<Digest, ImageError> {
        let reference: Reference = reference.parse()?;
        if let Some(digest) = &reference.digest {
            return Ok(digest.clone());
        }
        let asked = match Source::new(&self.inner.registries, &reference) {
            Ok(source) => source.digest().await,
            Err(error) => Err(error),
        };
        match asked {
            Err(error @ ImageError::Unavailable { .. }) => {
                let known = self.inner.named(&reference.to_string()).ok_or(error)?;
                tracing::warn!(%reference, "no registry answers; the image on this host is taken");
                Ok(known)
            }
            Err(error @ (ImageError::NotFound { .. } | ImageError::Denied { .. })) => {
                let known = self.inner.named(&reference.to_string());
                known.filter(|digest| self.inner.is_built(digest)).ok_or(error)
            }
            other => other,
        }
    }

    /// Makes an image ready to run.
    pub async fn ensure(&self, spec: &ImageSpec) -> Result<Arc<Image>, ImageError> {
        let reference: Reference = spec.reference.parse()?;
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
        let inner = Arc::clone(&self.inner);
        let key = digest.clone();
        self.pulls.join(key, move || async move { inner.pull(reference, digest).await }).await
    }

    /// All images that are whole on this host, one line for each name.
    pub fn list(&self) -> Vec<ListedImage> {
        let mut listed = Vec::new();
        for record in self.inner.records().values() {
            let line = |reference: &str| ListedImage {
                reference: reference.to_owned(),
                digest: record.digest.clone(),
                size: record.size,
                created_at: record.created_at,
            };
            listed.extend(record.references.keys().map(|name| line(name)));
            if record.references.is_empty() {
                listed.push(line(""));
            }
        }
        listed.sort_by(|a, b| (&a.reference, &a.digest).cmp(&(&b.reference, &b.digest)));
        listed
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

    /// The content that a name last stood for on this host.
    fn named(&self, reference: &str) -> Option<Digest> {
        let records = self.records();
        let times = records.values().filter_map(|r| Some((r.references.get(reference)?, r)));
        times.max_by_key(|(time, _)| **time).map(|(_, record)| record.digest.clone())
    }

    /// Whether an image was made on this host.
    fn is_built(&self, digest: &Digest) -> bool {
        self.records().get(digest).is_some_and(|record| record.built)
    }

    async fn pull(
        self: Arc<Self>,
        reference: Reference,
        digest: Digest,
    ) -> Result<Arc<Image>, ImageError> {
        tracing::info!(image = %reference, %digest, "pulling");
        let source = Arc::new(Source::new(&self.registries, &reference)?);
        let manifest = self.manifest(&source, &reference, &digest).await?;
        let config = self.small(&source, &manifest.config).await?;
        let (config, layers) = manifest::parse_config(&manifest.config.digest, &config)?;
        if layers.len() != manifest.layers.len() {
            return Err(ImageError::Invalid {
                what: "configuration",
                digest: manifest.config.digest.to_string(),
                reason: format!(
                    "it names {} layers, the manifest {}",
                    layers.len(),
                    manifest.layers.len()
                ),
            });
        }
        let work = manifest.layers.iter().zip(&layers).map(|(descriptor, diff_id)| {
            self.layer(source.clone(), &reference, descriptor.clone(), diff_id.clone())
        });
        try_join_all(work).await?;
        let record = Record {
            digest,
            references: [(name_of(&reference), clock::now())].into(),
            config,
            layers,
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            created_at: clock::now(),
            built: false,
        };
        self.keep(record).await
    }

    /// The manifest for this machine, by way of an index where there is one.
    async fn manifest(
        &self,
        source: &Source,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Manifest, ImageError> {
        let bytes = self.document(source, digest).await?;
        let index = match manifest::parse(digest, &bytes)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let chosen = manifest::choose(&reference.to_string(), index, architecture())?;
        let bytes = self.document(source, &chosen.digest).await?;
        match manifest::parse(&chosen.digest, &bytes)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(ImageError::Invalid {
                what: "manifest",
                digest: chosen.digest.to_string(),
                reason: "an index inside of an index".to_owned(),
            }),
        }
    }

    async fn document(&self, source: &Source, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.store.read_blob(digest) {
            return Ok(bytes);
        }
        let bytes = source.manifest(digest).await?;
        self.store.write_blob(digest, &bytes)?;
        Ok(bytes.to_vec())
    }

    /// A small blob's content, such as the configuration.
    async fn small(
        &self,
        source: &SharedSource,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        const LARGEST: u64 = 8 << 20;
        let digest = &descriptor.digest;
        let invalid = |reason: &str| ImageError::Invalid {
            what: "configuration",
            digest: digest.to_string(),
            reason: reason.to_owned(),
        };
        if descriptor.size > LARGEST {
            return Err(invalid("it is larger than 8 MiB"));
        }
        if let Some(bytes) = self.store.read_blob(digest) {
            return Ok(bytes);
        }
        pull::blob(&self.store, source, source.reference(), descriptor).await?;
        self.store.read_blob(digest).ok_or_else(|| invalid("it changed on the disk"))
    }

    async fn layer(
        self: &Arc<Self>,
        source: SharedSource,
        reference: &Reference,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> Result<(), ImageError> {
        let (inner, reference) = (Arc::clone(self), reference.clone());
        let key = diff_id.clone();
        let begin = move || async move {
            if inner.store.has_layer(&diff_id) {
                return Ok(());
            }
            let permit =
                inner.downloads.acquire().await.map_err(|e| ImageError::Stopped(e.to_string()))?;
            pull::blob(&inner.store, &source, &reference, &descriptor).await?;
            drop(permit);
            let _permit =
                inner.unpacks.acquire().await.map_err(|e| ImageError::Stopped(e.to_string()))?;
            let store = Arc::clone(&inner.store);
            let Descriptor { digest, media_type, .. } = descriptor;
            blocking(move || store.unpack(&digest, &media_type, &diff_id)).await
        };
        self.layers.join(key, begin).await
    }

    /// Writes the record. A name stands for one content only: the newest.
    async fn keep(&self, mut record: Record) -> Result<Arc<Image>, ImageError> {
        let mut changed = Vec::new();
        {
            let mut records = self.records();
            for other in records.values_mut().filter(|other| other.digest != record.digest) {
                let before = other.references.len();
                other.references.retain(|name, _| !record.references.contains_key(name));
                if other.references.len() != before {
                    changed.push(other.clone());
                }
            }
            if let Some(known) = records.get(&record.digest) {
                for (name, time) in &known.references {
                    record.references.entry(name.clone()).or_insert(*time);
                }
            }
            records.insert(record.digest.clone(), record.clone());
        }
        let image = self.image(&record);
        changed.push(record);
        let store = Arc::clone(&self.store);
        let layers = changed.last().map(|record| record.layers.clone()).unwrap_or_default();
        blocking(move || changed.iter().try_for_each(|record| store.write_record(record))).await?;
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.sync(&layers) {
                tracing::warn!(%error, "cannot sync new layers");
            }
        });
        Ok(image)
    }
}

/// The name without the content that it is pinned to.
fn name_of(reference: &Reference) -> String {
    match reference.tag {
        Some(_) => Reference { digest: None, ..reference.clone() }.to_string(),
        None => reference.to_string(),
    }
}
