//! Makes one image whole: documents, blobs and layers from wherever they come, then its record.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use swarm_proto::id::Digest;

use super::claims::Claim;
use super::manifest::{self, Descriptor, Document, Manifest, architecture};
use super::origin::{Origins, Registry};
use super::pull::blocking;
use super::registry::Source;
use super::store::{LARGEST_DOCUMENT, Record};
use super::{Image, ImageError, Inner, Known, Logins, Reference, name_of, room};
use crate::clock;

/// How often it is asked who holds an image that no registry has.
const ASKED: u32 = 3;
const ASK_PAUSE: Duration = Duration::from_millis(1_500);
/// The kernel stacks no more.
const MOST_LAYERS: usize = 500;

/// What an image is to be called.
#[derive(Debug, Clone, Default)]
pub(super) struct Naming {
    /// Whole names.
    pub(super) names: Vec<String>,
    /// They are given on a host, not by a registry.
    pub(super) local: bool,
}

/// Compares a part's size with what was told of it: who lies about that is not to be trusted with the rest.
fn has_size(what: &'static str, told: &Descriptor, size: u64) -> Result<(), ImageError> {
    if told.size == size {
        return Ok(());
    }
    let reason = format!("it has {size} bytes, and what names it says {}", told.size);
    Err(ImageError::Invalid { what, digest: told.digest.to_string(), reason })
}

impl Inner {
    /// Fetches an image from other hosts, or else from its registry.
    pub(super) async fn pull(
        self: Arc<Self>,
        reference: Reference,
        digest: Digest,
        logins: &Arc<Logins>,
    ) -> Result<Arc<Image>, ImageError> {
        tracing::info!(image = %reference, %digest, "pulling");
        // Before it is asked who holds it: whoever asks later is told of this host, and waits for what it claims.
        let claim = self.claims.begin();
        claim.add(&digest);
        let mut asked = 0;
        loop {
            let known = self.find(&name_of(&reference), Some(&digest)).await;
            let nobody = known.holders.is_empty() && self.neighbours.get().is_some();
            let pulled = self.pull_from(known, &reference, digest.clone(), logins).await;
            asked += 1;
            let unknown = pulled.as_ref().is_err_and(|error| error.inner().is_unknown());
            if !(nobody && unknown) || asked == ASKED {
                return pulled;
            }
            // A leader that is new is still being told who holds what.
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    async fn pull_from(
        self: &Arc<Self>,
        known: Known,
        reference: &Reference,
        digest: Digest,
        logins: &Arc<Logins>,
    ) -> Result<Arc<Image>, ImageError> {
        let copies = self.neighbours.get().map(|neighbours| neighbours.copies(known.holders));
        let keyring = self.keyring(logins);
        let registry = match Source::new(&self.registries, reference, keyring) {
            Ok(source) => Registry::Source(Box::new(source)),
            Err(error) => Registry::Unready(error),
        };
        let copies = copies.unwrap_or_default();
        let origins = Origins { reference: reference.to_string(), copies, registry };
        let naming = Naming { names: vec![name_of(reference)], local: known.local };
        self.assemble(Arc::new(origins), digest, naming).await
    }

    /// Makes an image whole, and known under these names.
    pub(super) async fn assemble(
        self: &Arc<Self>,
        origins: Arc<Origins>,
        digest: Digest,
        naming: Naming,
    ) -> Result<Arc<Image>, ImageError> {
        let claim = self.claims.begin();
        let (of, manifest) = self.manifest(&origins, &digest, &claim).await?;
        for digest in manifest.layers.iter().map(|layer| &layer.digest) {
            claim.add(digest);
        }
        claim.add(&manifest.config.digest);
        let config = self.small(&origins, &manifest.config).await?;
        let (config, layers) = manifest::parse_config(&manifest.config.digest, &config)?;
        if layers.len() > MOST_LAYERS {
            return Err(ImageError::Invalid {
                what: "configuration",
                digest: manifest.config.digest.to_string(),
                reason: format!("it has {} layers, more than {MOST_LAYERS}", layers.len()),
            });
        }
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
        for layer in &layers {
            claim.add(layer);
        }
        // What is yet to come is measured as it comes.
        for layer in &manifest.layers {
            if self.store.blob(&layer.digest).exists() {
                has_size("layer", layer, self.store.length(&layer.digest)?)?;
            }
        }
        let needed = room::needed(&self.store, &manifest.layers, &layers);
        self.make_room(&origins.reference, needed).await?;
        // Hosts that begin together begin with different layers, and then have something for each other.
        let first = origins.copies.first_of(layers.len());
        let order = (0..layers.len()).map(|turn| (first + turn) % layers.len());
        let work = order.map(|at| {
            self.layer(Arc::clone(&origins), manifest.layers[at].clone(), layers[at].clone())
        });
        try_join_all(work).await?;
        let mut blobs = vec![digest.clone(), of, manifest.config.digest];
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        blobs.dedup();
        let now = clock::now();
        let Naming { names, local } = naming;
        let record = Record {
            digest,
            local: names.iter().filter(|_| local).cloned().collect(),
            references: names.into_iter().map(|name| (name, now)).collect(),
            config,
            layers,
            blobs,
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            created_at: now,
        };
        self.keep(record).await
    }

    /// The manifest for this machine with its digest, by way of an index where there is one.
    async fn manifest(
        &self,
        origins: &Origins,
        digest: &Digest,
        claim: &Claim,
    ) -> Result<(Digest, Manifest), ImageError> {
        claim.add(digest);
        let bytes = self.document(origins, digest).await?;
        let index = match manifest::parse(digest, &bytes)? {
            Document::Manifest(manifest) => return Ok((digest.clone(), manifest)),
            Document::Index(index) => index,
        };
        let chosen = manifest::choose(&origins.reference, index, architecture())?;
        claim.add(&chosen.digest);
        let bytes = self.document(origins, &chosen.digest).await?;
        has_size("manifest", &chosen, bytes.len() as u64)?;
        let manifest = manifest::parse_named(&chosen.digest, &bytes)?;
        Ok((chosen.digest, manifest))
    }

    async fn document(&self, origins: &Origins, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.store.read_blob(digest) {
            return Ok(bytes);
        }
        let bytes = origins.manifest(digest).await?;
        self.store.write_blob(digest, &bytes)?;
        Ok(bytes)
    }

    /// A small blob's content, such as the configuration.
    async fn small(
        self: &Arc<Self>,
        origins: &Arc<Origins>,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        let digest = &descriptor.digest;
        let invalid = |reason: &str| ImageError::Invalid {
            what: "configuration",
            digest: digest.to_string(),
            reason: reason.to_owned(),
        };
        if descriptor.size > LARGEST_DOCUMENT {
            return Err(invalid("it is larger than 8 MiB"));
        }
        self.blob(origins, descriptor).await?;
        // Before it is read: it may be as large as an archive.
        has_size("configuration", descriptor, self.store.length(digest)?)?;
        self.store.read_blob(digest).ok_or_else(|| invalid("it changed on the disk"))
    }

    /// Brings a blob, once for all images that need it at this moment. What failed for another one may be had from this
    /// one's registry.
    async fn blob(
        self: &Arc<Self>,
        origins: &Arc<Origins>,
        descriptor: &Descriptor,
    ) -> Result<(), ImageError> {
        let mut tries = 0;
        loop {
            let mut is_own = false;
            let begin = || {
                is_own = true;
                let (inner, origins) = (Arc::clone(self), Arc::clone(origins));
                let descriptor = descriptor.clone();
                async move {
                    let (turns, rate) = (&inner.downloads, &inner.pulls);
                    origins.blob(&inner.store, &descriptor, turns, rate).await
                }
            };
            let done = self.blobs.join(descriptor.digest.clone(), begin).await;
            tries += 1;
            if done.is_ok() || is_own || tries == 2 {
                return done;
            }
        }
    }

    async fn layer(
        self: &Arc<Self>,
        origins: Arc<Origins>,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> Result<(), ImageError> {
        let inner = Arc::clone(self);
        let key = diff_id.clone();
        let begin = move || async move {
            // Other hosts ask for the blob, so it is wanted even where the layer is unpacked.
            let whole = inner.store.blob(&descriptor.digest).exists();
            if inner.store.has_layer(&diff_id) && whole {
                return Ok(());
            }
            inner.blob(&origins, &descriptor).await?;
            let _permit =
                inner.unpacks.acquire().await.map_err(|e| ImageError::Stopped(e.to_string()))?;
            let store = Arc::clone(&inner.store);
            let Descriptor { digest, media_type, .. } = descriptor;
            let reserve = inner.reserve;
            blocking(move || store.unpack(&digest, &media_type, &diff_id, reserve)).await
        };
        self.layers.join(key, begin).await
    }

    /// Writes the record. A name stands for one content only: the newest.
    pub(super) async fn keep(&self, mut record: Record) -> Result<Arc<Image>, ImageError> {
        let _writing = self.writing.lock().await;
        let mut changed = Vec::new();
        {
            let mut records = self.records();
            for other in records.values_mut().filter(|other| other.digest != record.digest) {
                let before = other.references.len();
                other.references.retain(|name, _| !record.references.contains_key(name));
                other.local.retain(|name| !record.references.contains_key(name));
                if other.references.len() != before {
                    changed.push(other.clone());
                }
            }
            if let Some(known) = records.get(&record.digest) {
                for (name, time) in &known.references {
                    if !record.references.contains_key(name) {
                        record.references.insert(name.clone(), *time);
                        record.local.extend(known.local.get(name).cloned());
                    }
                }
            }
            records.insert(record.digest.clone(), record.clone());
        }
        let image = self.image(&record);
        let layers = record.layers.clone();
        changed.push(record);
        self.write(changed).await?;
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.sync(&layers) {
                tracing::warn!(%error, "cannot sync new layers");
            }
        });
        Ok(image)
    }

    /// Writes changed records, and tells of them.
    pub(super) async fn write(&self, changed: Vec<Record>) -> Result<(), ImageError> {
        let store = Arc::clone(&self.store);
        blocking(move || changed.iter().try_for_each(|record| store.write_record(record))).await?;
        self.tell();
        Ok(())
    }
}
