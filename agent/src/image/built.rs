//! Images that are made on this host: layers that are written here, and the record that makes an image of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use swarm_dockerfile::Image as Description;
use swarm_proto::id::Digest;

use super::archive::{CONFIG_TYPE, MANIFEST_TYPE};
use super::claims::Claim;
use super::manifest;
use super::pull::blocking;
use super::store::{Record, Store, digest_of, sha256};
use super::{Image, ImageError, Images, Reference, name_of};
use crate::{clock, durable, tree};

const BUFFER: usize = 128 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A layer as a manifest names it, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// Of the blob, as it lies in a registry.
    pub digest: Digest,
    /// Of the archive in it.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// OCI's name for its form.
    pub media_type: String,
}

/// What an image consists of.
#[derive(Debug, Clone)]
pub struct ImageParts {
    /// Its configuration, as it came.
    pub config: Vec<u8>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerBlob>,
}

/// An image that was made here, to be kept.
#[derive(Debug)]
pub struct NewImage {
    /// Its name; it has none but its digest without.
    pub name: Option<Reference>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerBlob>,
}

impl Images {
    /// The content that a name last stood for on this host.
    pub fn known(&self, reference: &Reference) -> Option<Digest> {
        self.inner.named(&name_of(reference))
    }

    /// What an image of this host consists of.
    pub async fn parts(&self, digest: &Digest) -> Result<ImageParts, ImageError> {
        let (store, digest) = (Arc::clone(&self.inner.store), digest.clone());
        blocking(move || store.parts(&digest)).await
    }

    /// Writes a new layer, which the claim counts on from the beginning: `write` gets where its plain archive goes.
    pub async fn add_layer(
        &self,
        claim: &Arc<Claim>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Result<LayerBlob, ImageError> {
        self.inner.make_room("a new layer", 1).await?;
        let (store, claim) = (Arc::clone(&self.inner.store), Arc::clone(claim));
        let reserve = self.inner.reserve;
        blocking(move || store.add_layer(&claim, write, reserve)).await
    }

    /// What a work that is begun now counts on: nothing yet.
    pub fn claim(&self) -> Claim {
        self.inner.claims.begin()
    }

    /// Whether a layer is here both packed and unpacked.
    pub fn has_layer(&self, layer: &LayerBlob) -> bool {
        let store = &self.inner.store;
        store.has_layer(&layer.diff_id) && store.blob(&layer.digest).exists()
    }

    /// Where a layer lies unpacked.
    pub fn layer_folder(&self, diff_id: &Digest) -> PathBuf {
        self.inner.store.layer(diff_id)
    }

    /// Keeps an image whose layers are all here. A name stands for the newest content.
    pub async fn keep_built(&self, image: NewImage) -> Result<Arc<Image>, ImageError> {
        let NewImage { name, manifest, config, layers } = image;
        let (digest, config_digest) = (sha256(&manifest), sha256(&config));
        let claim = self.inner.claims.begin();
        claim.add(&digest);
        claim.add(&config_digest);
        let (run, diff_ids) = manifest::parse_config(&config_digest, &config)?;
        let store = Arc::clone(&self.inner.store);
        let (of_manifest, of_config) = (digest.clone(), config_digest.clone());
        blocking(move || {
            store.write_blob(&config_digest, &config)?;
            store.write_blob(&of_manifest, &manifest)
        })
        .await?;
        let name = match name {
            Some(name) => name_of(&name),
            None => digest.to_string(),
        };
        let of_layers = layers.iter().map(|layer| layer.digest.clone());
        let record = Record {
            blobs: [digest.clone(), of_config].into_iter().chain(of_layers).collect(),
            digest,
            references: [(name.clone(), clock::now())].into(),
            local: [name].into(),
            config: run,
            layers: diff_ids,
            size: layers.iter().map(|layer| layer.size).sum(),
            created_at: clock::now(),
        };
        self.inner.keep(record).await
    }
}

/// The bytes of an image's configuration and manifest.
pub(crate) fn documents(
    mut image: Description,
    layers: &[LayerBlob],
) -> serde_json::Result<(Vec<u8>, Vec<u8>)> {
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = serde_json::to_vec(&image)?;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({ "mediaType": layer.media_type, "digest": layer.digest.to_string(), "size": layer.size })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": sha256(&config).to_string(),
            "size": config.len(),
        },
        "layers": layers,
    });
    Ok((config, serde_json::to_vec(&manifest)?))
}

impl Store {
    fn parts(&self, digest: &Digest) -> Result<ImageParts, ImageError> {
        let absent = |digest: &Digest| ImageError::Invalid {
            what: "image",
            digest: digest.to_string(),
            reason: "its description is not on this host any more; pull it again".to_owned(),
        };
        let read = |digest: &Digest| self.read_blob(digest).ok_or_else(|| absent(digest));
        let (_, manifest) = manifest::own(digest, read)?;
        let config = read(&manifest.config.digest)?;
        let (_, diff_ids) = manifest::parse_config(&manifest.config.digest, &config)?;
        let layers = manifest.layers.into_iter().zip(diff_ids);
        let layers = layers.map(|(layer, diff_id)| {
            let path = self.blob(&layer.digest);
            let size = fs::metadata(&path).map_err(ImageError::disk("look at", &path))?.len();
            let media_type = media_type(&path).map_err(ImageError::disk("read", &path))?;
            Ok(LayerBlob { digest: layer.digest, diff_id, size, media_type })
        });
        Ok(ImageParts { layers: layers.collect::<Result<_, ImageError>>()?, config })
    }

    /// Packs a layer aside, gives it its name, and unpacks it as any other that came.
    fn add_layer(
        &self,
        claim: &Claim,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        reserve: Option<u64>,
    ) -> Result<LayerBlob, ImageError> {
        let aside = durable::unfinished(&self.blobs);
        let packed = self.pack(&aside, claim, write);
        if packed.is_err()
            && let Err(error) = tree::remove_path(&aside)
        {
            tracing::warn!(%error, path = %aside.display(), "cannot remove an unfinished layer");
        }
        let layer = packed.map_err(ImageError::disk("write a new layer into", &self.blobs))?;
        match self.unpack(&layer.digest, &layer.media_type, &layer.diff_id, reserve) {
            // Another step has made the same at the same time.
            Err(_) if self.has_layer(&layer.diff_id) => Ok(layer),
            other => other.map(|()| layer),
        }
    }

    fn pack(
        &self,
        aside: &std::path::Path,
        claim: &Claim,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<LayerBlob> {
        let file = Hashing::new(BufWriter::with_capacity(BUFFER, File::create_new(aside)?));
        // Neither a time nor a name: the same files make the same bytes.
        let gzip = GzBuilder::new().mtime(0).write(file, Compression::default());
        let mut plain = Hashing::new(gzip);
        write(&mut plain)?;
        let diff_id = digest_of(plain.hash);
        let Hashing { inner, hash, length } = plain.inner.finish()?;
        let digest = digest_of(hash);
        inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        claim.add(&digest);
        claim.add(&diff_id);
        durable::rename(aside, &self.blob(&digest))?;
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
        Ok(LayerBlob { digest, diff_id, size: length, media_type })
    }
}

/// By its first bytes: what manifests say is often wrong, and Docker has names of its own.
fn media_type(blob: &std::path::Path) -> io::Result<String> {
    let mut start = Vec::new();
    File::open(blob)?.take(4).read_to_end(&mut start)?;
    let form = match start.as_slice() {
        start if start.starts_with(GZIP) => "+gzip",
        start if start.starts_with(ZSTD) => "+zstd",
        _ => "",
    };
    Ok(format!("application/vnd.oci.image.layer.v1.tar{form}"))
}

/// Hashes and counts what goes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.length += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
