//! Images on disk: `blobs/sha256/<digest>` as they came, `layers/<diff id>` unpacked, `images/<digest>.json` a record
//! of each image whose layers are all there. Blobs stay after they are unpacked, one of each for all images: other hosts
//! copy them, and `image save` writes them. That costs their (mostly compressed) size again beside the unpacked layers.
//!
//! A layer counts as whole once it has its name. It is synced afterwards, without anybody waiting; `<diff id>.synced`
//! says so. After a reboot, layers without that mark are made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use swarm_proto::id::{Digest, Timestamp};

use super::manifest::{self, Descriptor, Document, architecture};
use super::repositories::Repositories;
use super::{ImageConfig, ImageError, compression, room, unpack};
use crate::{durable, tree};

/// No configuration is larger, nor any other document of an image.
pub(super) const LARGEST_DOCUMENT: u64 = 8 << 20;

/// An image that is whole on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What a deploy pinned: the digest of the manifest or of the index.
    pub(super) digest: Digest,
    /// The names that stood for it, each with the time when it last did.
    pub(super) references: BTreeMap<String, Timestamp>,
    /// Those of them that were given on a host, not by a registry.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) local: BTreeSet<String>,
    /// How it wants to be run.
    pub(super) config: ImageConfig,
    /// Its layers' uncompressed digests, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// All its blobs: index, manifest, configuration and layers. Empty in a record of an earlier version.
    #[serde(default)]
    pub(super) blobs: Vec<Digest>,
    /// Compressed bytes.
    pub(super) size: u64,
    /// When it came.
    pub(super) created_at: Timestamp,
}

impl Record {
    /// When it came, or got its last name.
    pub(super) fn came_at(&self) -> Timestamp {
        self.references.values().copied().max().unwrap_or_default().max(self.created_at)
    }
}

/// The folders.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) blobs: PathBuf,
    pub(super) layers: PathBuf,
    pub(super) records: PathBuf,
    /// Of this host's registry, which has its blobs among the others.
    pub(super) repositories: Repositories,
}

impl Store {
    /// Makes what is missing and takes away what an earlier run left unfinished.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        let registry = root.join("registry");
        let repositories = Repositories::open(&registry);
        let store = Self {
            blobs: root.join("blobs/sha256"),
            layers: root.join("layers"),
            records: root.join("images"),
            repositories: repositories.map_err(ImageError::disk("read", &registry))?,
        };
        for folder in [&store.blobs, &store.layers, &store.records] {
            fs::create_dir_all(folder).map_err(ImageError::disk("make", folder))?;
            durable::sweep(folder).map_err(ImageError::disk("clean", folder))?;
        }
        // Programs in them may be set-user-id: nobody of this host may come by one.
        fs::set_permissions(&store.layers, fs::Permissions::from_mode(0o700))
            .map_err(ImageError::disk("set the mode of", &store.layers))?;
        store.finish_removals().map_err(ImageError::disk("clean", &store.records))?;
        store.drop_unsynced().map_err(ImageError::disk("check", &store.layers))?;
        Ok(store)
    }

    /// After a reboot, a layer that was never synced may have holes.
    fn drop_unsynced(&self) -> io::Result<()> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let noted = self.layers.join("boot");
        if fs::read_to_string(&noted).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        for entry in fs::read_dir(&self.layers)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !synced_mark(&entry.path()).exists() {
                tree::remove_path(&entry.path())?;
            }
        }
        durable::write(&noted, boot.as_bytes())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Where a download of the blob grows; one that broke off is resumed.
    pub(super) fn partial_blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!("{}{PART}", digest.hex()))
    }

    /// Beside it, which pieces it has.
    pub(super) fn map_of_blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!("{}{MAP}", digest.hex()))
    }

    pub(super) fn record(&self, digest: &Digest) -> PathBuf {
        self.records.join(format!("{}.{RECORD}", digest.hex()))
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    pub(super) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer(diff_id).is_dir()
    }

    /// A document's content, if it is here, whole, and no larger than documents are.
    pub(super) fn read_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.blob(digest)).ok()?;
        file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).ok()?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return None;
        }
        (sha256(&bytes) == *digest).then_some(bytes)
    }

    /// A blob's bytes.
    pub(super) fn length(&self, digest: &Digest) -> Result<u64, ImageError> {
        let path = self.blob(digest);
        Ok(fs::metadata(&path).map_err(ImageError::disk("look at", &path))?.len())
    }

    /// Keeps a small blob, after comparing its digest.
    pub(super) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        let found = sha256(bytes);
        if found != *digest {
            let expected = digest.to_string();
            return Err(ImageError::Corrupt { expected, found: found.to_string() });
        }
        let path = self.blob(digest);
        durable::write(&path, bytes).map_err(ImageError::disk("write", path))
    }

    /// Unpacks a layer's blob, comparing the digest of what comes out. So many bytes of the disk stay free; `None` is the
    /// usual.
    pub(super) fn unpack(
        &self,
        blob: &Digest,
        media_type: &str,
        diff_id: &Digest,
        reserve: Option<u64>,
    ) -> Result<(), ImageError> {
        if self.has_layer(diff_id) {
            return Ok(());
        }
        let aside = durable::unfinished(&self.layers);
        fs::create_dir(&aside).map_err(ImageError::disk("make", &aside))?;
        let unpacked = self.unpack_into(&aside, blob, media_type, reserve);
        let done = unpacked.and_then(|found| {
            if found != *diff_id {
                let expected = diff_id.to_string();
                return Err(ImageError::Corrupt { expected, found: found.to_string() });
            }
            let layer = self.layer(diff_id);
            fs::rename(&aside, &layer).map_err(ImageError::disk("name", layer))
        });
        if done.is_err()
            && let Err(error) = tree::remove_path(&aside)
        {
            tracing::warn!(%error, path = %aside.display(), "cannot remove an unfinished layer");
        }
        done
    }

    /// The digest of what came out.
    fn unpack_into(
        &self,
        folder: &Path,
        blob: &Digest,
        media_type: &str,
        reserve: Option<u64>,
    ) -> Result<Digest, ImageError> {
        let path = self.blob(blob);
        let file = fs::File::open(&path).map_err(ImageError::disk("read", &path))?;
        let root = tree::open_root(folder).map_err(ImageError::disk("open", folder))?;
        rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755))
            .map_err(|error| ImageError::disk("set the mode of", folder)(error.into()))?;
        let invalid = |error: &io::Error| ImageError::Invalid {
            what: "layer",
            digest: blob.to_string(),
            reason: error.to_string(),
        };
        let plain = compression::reader(media_type, file).map_err(|error| invalid(&error))?;
        let mut hashed = Hashed { inner: plain, hash: Sha256::new() };
        let mut guarded = room::Guarded::new(&mut hashed, blob.as_str(), folder, reserve);
        // What follows the archive's end is part of the digest too.
        let unpacked = unpack::unpack(&mut guarded, root)
            .and_then(|()| io::copy(&mut guarded, &mut io::sink()));
        let refused = guarded.refused.take();
        match unpacked {
            Ok(_) => Ok(digest_of(hashed.hash)),
            Err(error) => Err(refused.unwrap_or_else(|| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    ImageError::disk("unpack into", folder)(error)
                }
                _ => invalid(&error),
            })),
        }
    }

    /// Brings layers to the disk and marks them so. Slow; nobody waits for it.
    pub(super) fn sync(&self, layers: &[Digest]) -> io::Result<()> {
        let pending = |id: &&Digest| !synced_mark(&self.layer(id)).exists();
        let pending: Vec<&Digest> = layers.iter().filter(pending).collect();
        if pending.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(tree::open_root(&self.layers)?)?;
        pending.iter().try_for_each(|id| durable::write(&synced_mark(&self.layer(id)), b""))
    }

    /// All records whose layers are still there.
    pub(super) fn records(&self) -> Result<Vec<Record>, ImageError> {
        let fail = |error| ImageError::disk("read", &self.records)(error);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.records).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_none_or(|ending| ending != RECORD) {
                continue;
            }
            let content = fs::read(&path).map_err(ImageError::disk("read", &path))?;
            match serde_json::from_slice::<Record>(&content).map(|record| self.with_blobs(record)) {
                Ok(record) if record.layers.iter().all(|id| self.has_layer(id)) => {
                    records.push(record);
                }
                Ok(_) => tracing::info!(path = %path.display(), "an image lacks layers"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot read an image record");
                }
            }
        }
        Ok(records)
    }

    /// The record with all blobs, of which one of an earlier version tells nothing.
    pub(super) fn with_blobs(&self, mut record: Record) -> Record {
        if record.blobs.is_empty() {
            record.blobs = self.blobs_of(&record.digest);
        }
        record
    }

    /// An image's blobs, as far as its documents are here.
    fn blobs_of(&self, digest: &Digest) -> Vec<Digest> {
        let document = self.read_blob(digest).map(|bytes| manifest::parse(digest, &bytes));
        let mut blobs = vec![digest.clone()];
        match document {
            Some(Ok(Document::Manifest(manifest))) => {
                blobs.extend([&manifest.config].into_iter().chain(&manifest.layers).map(digest_in));
            }
            Some(Ok(Document::Index(entries))) => {
                let chosen = manifest::choose(digest.as_str(), entries, architecture());
                // An index names manifests alone, so this ends; a wrong one is passed over.
                if let Ok(chosen) = chosen.as_ref()
                    && chosen.digest != *digest
                {
                    blobs.extend(self.blobs_of(&chosen.digest));
                }
            }
            _ => {}
        }
        blobs
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), ImageError> {
        let path = self.record(&record.digest);
        let content = serde_json::to_vec(record).map_err(|error| ImageError::Invalid {
            what: "record",
            digest: record.digest.to_string(),
            reason: error.to_string(),
        })?;
        durable::write(&path, &content).map_err(ImageError::disk("write", path))
    }
}

fn digest_in(descriptor: &Descriptor) -> Digest {
    descriptor.digest.clone()
}

/// Ends the name of a record's file.
pub(super) const RECORD: &str = "json";
/// Ends the name of a blob that is not whole.
pub(super) const PART: &str = ".part";
/// Ends the name of what tells which pieces of it are there, where they do not come in order.
pub(super) const MAP: &str = ".pieces";
/// Ends the name of a layer's mark.
pub(super) const SYNCED: &str = ".synced";

pub(super) fn synced_mark(layer: &Path) -> PathBuf {
    layer.with_extension(&SYNCED[1..])
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

/// The digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(bytes);
    digest_of(hash)
}

/// A finished hash as a digest.
pub(crate) fn digest_of(hash: Sha256) -> Digest {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text.parse().expect("made in a digest's form")
}
