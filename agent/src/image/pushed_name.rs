//! An image for this machine that is pushed with a tag becomes one of the host's, under that name, as if it had been loaded;
//! the tag takes the name with it.

use std::sync::Arc;

use serde::Deserialize;
use swarm_proto::id::Digest;

use super::assemble::Naming;
use super::hosting::hosting;
use super::manifest::{self, Document, Manifest, architecture};
use super::origin::Origins;
use super::pull::blocking;
use super::repository::{HostedTag, RepositoryName, Tag};
use super::store::Store;
use super::{Doomed, ImageError, Images, Inner, Needed, Reference};

/// Configurations of images that can be run.
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What a repository's tag is called on hosts.
pub(super) fn whole_name(repository: &RepositoryName, tag: &Tag) -> Option<String> {
    let reference: Result<Reference, _> = format!("{repository}:{tag}").parse();
    reference.ok().map(|reference| reference.to_string())
}

impl Images {
    /// Makes an image of the host of what a tag stands for, where it is one that runs on this machine; false where not.
    /// It goes on when nobody waits for it any more.
    pub async fn name_hosted(
        &self,
        name: RepositoryName,
        tag: Tag,
        digest: Digest,
    ) -> Result<bool, ImageError> {
        let inner = Arc::clone(&self.inner);
        let naming = tokio::spawn(async move { inner.name_hosted(&name, &tag, digest).await });
        naming.await.map_err(|error| ImageError::Stopped(error.to_string()))?
    }
}

impl Inner {
    async fn name_hosted(
        self: Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Digest,
    ) -> Result<bool, ImageError> {
        let Some(name) = whole_name(repository, tag) else { return Ok(false) };
        let claim = self.claims.begin();
        claim.add(&digest);
        let (store, of) = (Arc::clone(&self.store), digest.clone());
        if !blocking(move || Ok(store.runs_here(&of))).await? {
            return Ok(false);
        }
        let had = self.given(&name).as_ref() == Some(&digest);
        let naming = Naming { names: vec![name.clone()], local: true };
        self.assemble(Arc::new(Origins::here(name)), digest.clone(), naming).await?;
        if !had {
            let (inner, repository, tag) = (Arc::clone(&self), repository.clone(), tag.clone());
            let noted =
                hosting(move || Ok(inner.store.repositories.names_image(&repository, &tag)?));
            if let Err(error) = noted.await {
                tracing::warn!(%error, "the image keeps its name when the tag goes");
            }
        }
        tracing::info!(%repository, %tag, %digest, "pushed into this host's registry");
        Ok(true)
    }

    /// Takes away the name that the push of a tag gave, unless a task uses the image.
    pub(super) async fn unname(
        self: &Arc<Self>,
        repository: &RepositoryName,
        tag: &Tag,
        stood: &HostedTag,
    ) {
        let Some(name) = whole_name(repository, tag).filter(|_| stood.names_image) else { return };
        if self.given(&name).as_ref() != Some(&stood.digest) {
            return;
        }
        let doomed = Doomed { digest: stood.digest.clone(), name: Some(name) };
        match self.remove(&doomed, &Needed::new()).await {
            Ok(_) | Err(ImageError::NotHere { .. }) => {}
            Err(error @ ImageError::InUse { .. }) => tracing::info!(%error, "the name stays"),
            Err(error) => tracing::warn!(%error, "cannot take the name of an image away"),
        }
    }
}

#[derive(Deserialize)]
struct ConfigPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Store {
    /// Whether a document is an image for this machine, or an index with one.
    fn runs_here(&self, digest: &Digest) -> bool {
        let Some(manifest) = self.own_manifest(digest) else { return false };
        let is_image = CONFIG_TYPES.contains(&manifest.config.media_type.as_str());
        let config = self.read_blob(&manifest.config.digest).filter(|_| is_image);
        let platform = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        platform.is_some_and(|platform: ConfigPlatform| {
            platform.os == "linux" && platform.architecture == architecture()
        })
    }

    fn own_manifest(&self, digest: &Digest) -> Option<Manifest> {
        let read = |digest: &Digest| manifest::parse(digest, &self.read_blob(digest)?).ok();
        let entries = match read(digest)? {
            Document::Manifest(manifest) => return Some(manifest),
            Document::Index(entries) => entries,
        };
        let chosen = manifest::choose(digest.as_str(), entries, architecture()).ok()?;
        match read(&chosen.digest)? {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        }
    }
}
