//! Pushes an image to a registry, byte for byte as it is held here, so that its digest stays. Only blobs that the registry
//! has not got are sent, a few at once, each anew where it broke off; the manifest comes last.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use swarm_proto::id::Digest;
use tokio::sync::mpsc;

use super::answer::Failure;
use super::archive::MANIFEST_TYPE;
use super::claims::Claim;
use super::manifest::{Descriptor, Manifest};
use super::store::Record;
use super::upload::Destination;
use super::{ImageError, Images, Inner, Reference};

/// Blobs of one image that are sent at the same time.
const UPLOADS: usize = 3;
/// How often a blob is sent once more.
const TRIES: u32 = 4;
/// Repositories of the same registry from which a blob may come, at most.
const MOST_SOURCES: usize = 3;
/// Between two words of how far a blob is.
const TELL: Duration = Duration::from_millis(200);

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobStep {
    /// Others go first.
    Waiting,
    /// So many bytes have gone.
    Sending(u64),
    /// It broke off for this reason, and is sent anew.
    Again(String),
    /// The registry had it.
    There,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

/// Something to tell of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStep {
    /// Which.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// How far it is.
    pub step: BlobStep,
}

/// What the registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The whole name.
    pub target: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
    /// Of the image on this host, where that is for several platforms: only this host's own was sent.
    pub index: Option<Digest>,
}

impl Images {
    /// Sends an image, given by a name, its digest, or the first digits of that, to the registry of its new name.
    pub async fn push(
        &self,
        image: &str,
        target: &str,
        steps: mpsc::Sender<PushStep>,
    ) -> Result<Pushed, ImageError> {
        let target: Reference = target.parse()?;
        let not_pushed = |detail| ImageError::NotPushed { reference: target.to_string(), detail };
        if target.digest.is_some() {
            return Err(not_pushed("a registry gives digests itself: name a tag".to_owned()));
        }
        let inner = &self.inner;
        let claim = inner.claims.begin();
        let record = inner.look_up(image)?;
        let (digest, manifest) = inner.manifest_of(&record)?;
        let document = inner.document_here("manifest", &digest)?;
        let blobs = inner.blobs_to_push(&manifest, &claim)?;
        let destination =
            Destination::new(&inner.registries, &target, &inner.keyring(&self.logins)).await?;
        destination.begin().await.map_err(|failure| destination.conclude(failure))?;
        let push = Push { inner, destination, steps };
        for blob in &blobs {
            push.tell(blob, BlobStep::Waiting).await;
        }
        let work: Vec<_> = blobs.iter().map(|blob| push.blob(blob)).collect();
        let mut sending = stream::iter(work).buffer_unordered(UPLOADS);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        let size = document.len() as u64;
        push.finish(document, &digest).await?;
        tracing::info!(image = %target, %digest, "pushed");
        let index = (record.digest != digest).then_some(record.digest);
        Ok(Pushed { target: target.to_string(), digest, size, index })
    }
}

impl Inner {
    /// The blobs that a manifest names, each once, which must be whole on this host.
    fn blobs_to_push(
        &self,
        manifest: &Manifest,
        claim: &Claim,
    ) -> Result<Vec<Descriptor>, ImageError> {
        let mut seen = BTreeSet::new();
        let all = manifest.layers.iter().chain([&manifest.config]);
        let blobs: Vec<Descriptor> =
            all.filter(|blob| seen.insert(&blob.digest)).cloned().collect();
        for blob in &blobs {
            claim.add(&blob.digest);
            let length = std::fs::metadata(self.store.blob(&blob.digest)).map(|file| file.len());
            if !length.is_ok_and(|length| length == blob.size) {
                return Err(ImageError::Invalid {
                    what: "blob",
                    digest: blob.digest.to_string(),
                    reason: "it is missing, or not whole, on this host's disk".to_owned(),
                });
            }
        }
        Ok(blobs)
    }

    /// Other repositories of a registry that seem to have a blob, as images of this host are called so.
    fn sources(&self, target: &Reference, blob: &Digest) -> Vec<String> {
        let of = |record: &Record| -> Vec<Reference> {
            record.references.keys().filter_map(|name| name.parse().ok()).collect()
        };
        let records = self.records();
        let holding = records.values().filter(|record| record.blobs.contains(blob));
        let names = holding.flat_map(of).filter(|name| name.registry == target.registry);
        let others: BTreeSet<String> = names.map(|name| name.repository).collect();
        others.into_iter().filter(|name| *name != target.repository).take(MOST_SOURCES).collect()
    }
}

/// Before one more try, longer after each.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(300) * 3_u32.pow(tries - 1)
}

struct Push<'a> {
    inner: &'a Inner,
    destination: Destination,
    steps: mpsc::Sender<PushStep>,
}

impl Push<'_> {
    async fn tell(&self, blob: &Descriptor, step: BlobStep) {
        let step = PushStep { digest: blob.digest.clone(), size: blob.size, step };
        // An error means that nobody listens any more.
        let _ = self.steps.send(step).await;
    }

    /// Brings a blob there, however often it breaks off.
    async fn blob(&self, blob: &Descriptor) -> Result<(), ImageError> {
        let mut tries = 0;
        loop {
            let reason = match self.try_blob(blob, tries == 0).await {
                Ok(step) => {
                    self.tell(blob, step).await;
                    return Ok(());
                }
                Err(Failure::Transient(reason)) => reason,
                Err(failure) => return Err(self.destination.conclude(failure)),
            };
            tries += 1;
            if tries == TRIES {
                return Err(self.destination.conclude(Failure::Transient(reason)));
            }
            self.tell(blob, BlobStep::Again(reason)).await;
            tokio::time::sleep(pause(tries)).await;
        }
    }

    async fn try_blob(&self, blob: &Descriptor, first: bool) -> Result<BlobStep, Failure> {
        let (digest, destination) = (&blob.digest, &self.destination);
        if destination.has(digest).await? {
            return Ok(if first { BlobStep::There } else { BlobStep::Sent });
        }
        if first {
            for repository in self.inner.sources(destination.target(), digest) {
                if destination.mount(digest, &repository).await {
                    return Ok(BlobStep::Mounted);
                }
            }
        }
        let gone = |error: std::io::Error| Failure::Broken(format!("blob `{digest}`: {error}"));
        let file = std::fs::File::open(self.inner.store.blob(digest)).map_err(gone)?;
        let sent = Arc::new(AtomicU64::new(0));
        let sending = destination.send(digest, file, blob.size, &sent);
        tokio::select! {
            done = sending => done.map(|()| BlobStep::Sent),
            never = self.tell_on(blob, &sent) => match never {},
        }
    }

    /// Tells again and again how many bytes of a blob have gone.
    async fn tell_on(&self, blob: &Descriptor, sent: &AtomicU64) -> Infallible {
        loop {
            self.tell(blob, BlobStep::Sending(sent.load(Ordering::Relaxed))).await;
            tokio::time::sleep(TELL).await;
        }
    }

    /// Names the whole, and sees that the registry has what is here.
    async fn finish(&self, document: Vec<u8>, digest: &Digest) -> Result<(), ImageError> {
        let parsed: Value = serde_json::from_slice(&document).unwrap_or_default();
        let media_type = parsed.get("mediaType").and_then(Value::as_str).unwrap_or(MANIFEST_TYPE);
        let mut tries = 0;
        let answered = loop {
            match self.destination.finish(document.clone(), media_type).await {
                Err(Failure::Transient(_)) if tries + 1 < TRIES => {
                    tries += 1;
                    tokio::time::sleep(pause(tries)).await;
                }
                other => break other.map_err(|failure| self.destination.conclude(failure))?,
            }
        };
        if answered != *digest {
            let reason = format!("it has `{answered}` under that name and not `{digest}`");
            return Err(self.destination.conclude(Failure::Broken(reason)));
        }
        Ok(())
    }
}
