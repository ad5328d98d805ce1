//! Takes archives of images in: what `docker save` writes, and tar files of an OCI layout, both perhaps compressed.
//!
//! Files of the archive are put aside as they come, under numbers; what an image names is compared with its digest and
//! becomes a blob, the rest is deleted. A layer stays as it is in the archive, so that the same archive is the same image
//! on every host.

mod spool;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use swarm_proto::id::Digest;

use super::assemble::Naming;
use super::claims::Claim;
use super::manifest::{self, Descriptor, Document, Platform, architecture};
use super::origin::Origins;
use super::pull::blocking;
use super::store::sha256;
use super::{ImageError, Images, Inner, Reference};
use spool::Spool;

/// What Docker's archives and tools call an image in an OCI layout.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// What an OCI layout calls it: often only a tag.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that an archive brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its whole names; none, when the archive says none.
    pub names: Vec<String>,
    /// Its content.
    pub digest: Digest,
}

/// An entry of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `index.json` of an OCI layout.
#[derive(Deserialize)]
struct Layout {
    manifests: Vec<LayoutEntry>,
}

#[derive(Deserialize)]
struct LayoutEntry {
    digest: Digest,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Images {
    /// Takes all images of an archive in. `tag` names one that has no name there.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        tag: Option<String>,
    ) -> Result<Vec<Loaded>, ImageError> {
        let inner = Arc::clone(&self.inner);
        // Not given up when nobody waits any more: what was put aside is cleared away in any case.
        let loading = tokio::spawn(async move { inner.load(archive, tag).await });
        loading.await.map_err(|error| ImageError::Stopped(error.to_string()))?
    }
}

impl Inner {
    async fn load(
        self: Arc<Self>,
        archive: impl Read + Send + 'static,
        tag: Option<String>,
    ) -> Result<Vec<Loaded>, ImageError> {
        let claim = self.claims.begin();
        let inner = Arc::clone(&self);
        let (found, claim) = blocking(move || {
            let spool = Spool::read(&inner.store, inner.reserve, archive)?;
            let mut found = images(&spool)?;
            name(&mut found, tag)?;
            for image in &found {
                image.import(&inner, &spool, &claim)?;
            }
            Ok((found, claim))
        })
        .await?;
        let mut loaded = Vec::new();
        for Found { digest, names, .. } in found {
            let called = names.first().cloned().unwrap_or_else(|| digest.to_string());
            let naming = Naming { names: names.clone(), local: true };
            let origins = Arc::new(Origins::here(called));
            self.assemble(origins, digest.clone(), naming).await?;
            tracing::info!(%digest, ?names, "loaded an image");
            loaded.push(Loaded { names, digest });
        }
        drop(claim);
        Ok(loaded)
    }
}

/// An image in an archive.
struct Found {
    digest: Digest,
    names: Vec<String>,
    /// A manifest that was made here, for an archive that has none.
    made: Option<Vec<u8>>,
    /// Its files that have no digest for a name, with the digests that they have.
    files: BTreeMap<Digest, String>,
}

fn wrong(reason: impl Into<String>) -> ImageError {
    ImageError::Archive { reason: reason.into() }
}

/// The images of an archive.
fn images(spool: &Spool) -> Result<Vec<Found>, ImageError> {
    let docker: Vec<DockerImage> = match spool.document("manifest.json")? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("its manifest.json is not Docker's: {error}")))?,
        None => Vec::new(),
    };
    let layout: Option<Layout> = match spool.document("index.json")? {
        Some(bytes) => Some(
            serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("its index.json is no OCI index: {error}")))?,
        ),
        None => None,
    };
    let found = match layout {
        Some(layout) => of_layout(spool, layout, &docker)?,
        None => docker.iter().map(|image| of_docker(spool, image)).collect::<Result<_, _>>()?,
    };
    if found.is_empty() {
        let reason =
            "it holds no image: neither Docker's manifest.json nor the index.json of an OCI layout";
        return Err(wrong(reason));
    }
    Ok(found)
}

fn of_layout(
    spool: &Spool,
    layout: Layout,
    docker: &[DockerImage],
) -> Result<Vec<Found>, ImageError> {
    let fits = |entry: &LayoutEntry| entry.platform.as_ref().is_none_or(Platform::is_this);
    if !layout.manifests.is_empty() && !layout.manifests.iter().any(fits) {
        return Err(wrong(format!("it has nothing for linux/{}", architecture())));
    }
    let mut found: Vec<Found> = Vec::new();
    for entry in layout.manifests.into_iter().filter(fits) {
        let names = names_in_layout(spool, &entry, docker)?;
        // Docker writes one entry for each name.
        match found.iter_mut().find(|image| image.digest == entry.digest) {
            Some(known) => known.names.extend(names),
            None => found.push(Found {
                digest: entry.digest,
                names,
                made: None,
                files: BTreeMap::new(),
            }),
        }
    }
    for image in &mut found {
        image.names.sort();
        image.names.dedup();
    }
    Ok(found)
}

fn names_in_layout(
    spool: &Spool,
    entry: &LayoutEntry,
    docker: &[DockerImage],
) -> Result<Vec<String>, ImageError> {
    if let Some(name) = entry.annotations.get(FULL_NAME) {
        return Ok(vec![whole(name)?]);
    }
    let document = spool.blob_document(&entry.digest)?;
    let manifest = document.map(|bytes| manifest::parse(&entry.digest, &bytes)).transpose()?;
    if let Some(Document::Manifest(manifest)) = manifest {
        let config = format!("blobs/sha256/{}", manifest.config.digest.hex());
        let tags = docker.iter().filter(|image| image.config == config);
        let tags: Vec<&String> =
            tags.filter_map(|image| image.repo_tags.as_ref()).flatten().collect();
        if !tags.is_empty() {
            return tags.into_iter().map(|tag| whole(tag)).collect();
        }
    }
    // Only a tag says nothing of the image.
    let name = entry.annotations.get(REF_NAME).filter(|name| name.contains([':', '/']));
    name.map(|name| whole(name)).into_iter().collect()
}

/// An image of an archive without an OCI layout: its manifest is made here.
fn of_docker(spool: &Spool, image: &DockerImage) -> Result<Found, ImageError> {
    let mut files = BTreeMap::new();
    let mut describe = |file: &str, media_type: &str| {
        let (digest, size, compressed) = spool.describe(file)?;
        files.insert(digest.clone(), file.to_owned());
        let gzip = if compressed { "+gzip" } else { "" };
        let media_type = format!("{media_type}{gzip}");
        Ok::<_, ImageError>(
            json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size }),
        )
    };
    let config = describe(&image.config, CONFIG_TYPE)?;
    let layers: Result<Vec<_>, _> =
        image.layers.iter().map(|layer| describe(layer, LAYER_TYPE)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers?,
    });
    let made = manifest.to_string().into_bytes();
    let tags = image.repo_tags.iter().flatten();
    let names = tags.map(|tag| whole(tag)).collect::<Result<_, _>>()?;
    Ok(Found { digest: sha256(&made), names, made: Some(made), files })
}

fn whole(name: &str) -> Result<String, ImageError> {
    let reference: Reference = name.parse()?;
    Ok(Reference { digest: None, ..reference }.to_string())
}

/// Gives a person's name to the one image that has none.
fn name(found: &mut [Found], tag: Option<String>) -> Result<(), ImageError> {
    let Some(tag) = tag else { return Ok(()) };
    let tag = whole(&tag)?;
    let mut nameless: Vec<&mut Found> =
        found.iter_mut().filter(|image| image.names.is_empty()).collect();
    match nameless.as_mut_slice() {
        [] => Err(wrong(format!("it names its images itself, so none can be called `{tag}`"))),
        [one] => {
            one.names.push(tag);
            Ok(())
        }
        more => Err(wrong(format!("{} images have no name: not all can be `{tag}`", more.len()))),
    }
}

impl Found {
    /// Makes blobs of the files that the image names.
    fn import(&self, inner: &Inner, spool: &Spool, claim: &Claim) -> Result<(), ImageError> {
        let store = &inner.store;
        claim.add(&self.digest);
        if let Some(made) = &self.made {
            store.write_blob(&self.digest, made)?;
        } else {
            spool.import(store, &self.digest, None)?;
        }
        let (manifest_digest, manifest) = self.manifest(inner, spool, claim)?;
        let parts = [&manifest.config].into_iter().chain(&manifest.layers);
        for Descriptor { digest, .. } in parts {
            claim.add(digest);
            let file = self.files.get(digest).map(String::as_str);
            if !spool.import(store, digest, file)? {
                return Err(wrong(format!("image `{manifest_digest}` lacks the blob `{digest}`")));
            }
        }
        Ok(())
    }

    fn manifest(
        &self,
        inner: &Inner,
        spool: &Spool,
        claim: &Claim,
    ) -> Result<(Digest, manifest::Manifest), ImageError> {
        let store = &inner.store;
        let read = |digest: &Digest| {
            let bytes = store.read_blob(digest);
            let bytes = bytes.ok_or_else(|| wrong(format!("it lacks the manifest `{digest}`")))?;
            manifest::parse(digest, &bytes)
        };
        let entries = match read(&self.digest)? {
            Document::Manifest(manifest) => return Ok((self.digest.clone(), manifest)),
            Document::Index(entries) => entries,
        };
        let chosen = manifest::choose("in the archive", entries, architecture())?.digest;
        claim.add(&chosen);
        spool.import(store, &chosen, None)?;
        match read(&chosen)? {
            Document::Manifest(manifest) => Ok((chosen, manifest)),
            Document::Index(_) => Err(wrong("it has an index inside of an index")),
        }
    }
}
