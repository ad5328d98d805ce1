//! What this host's registry keeps: its blobs are among those of all images, and none of them is anybody's alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::{Digest, Timestamp};

use super::removal::Content;
use super::repositories::RepositoryError;
use super::repository::{DocumentView, HostedManifest, HostedTag, Repository, RepositoryName, Tag};
use super::room::{self, milliseconds};
use super::{ImageError, Images, Inner};
use crate::{clock, durable};

/// Why the host's registry cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum HostingError {
    /// The repository's records.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The blobs.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// A blob of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostedBlob {
    /// Its bytes.
    pub size: u64,
}

impl Images {
    /// Names of all repositories, in order.
    pub fn repositories(&self) -> Vec<RepositoryName> {
        self.inner.store.repositories.hold().keys().cloned().collect()
    }

    /// The tags of a repository; `None`: there is no such repository.
    pub fn hosted_tags(&self, name: &RepositoryName) -> Option<Vec<Tag>> {
        let index = self.inner.store.repositories.hold();
        Some(index.get(name)?.tags.keys().cloned().collect())
    }

    /// What a tag stands for.
    pub fn hosted_tag(&self, name: &RepositoryName, tag: &Tag) -> Option<Digest> {
        let index = self.inner.store.repositories.hold();
        Some(index.get(name)?.tags.get(tag)?.digest.clone())
    }

    /// A manifest of a repository.
    pub fn hosted_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Option<HostedManifest> {
        let index = self.inner.store.repositories.hold();
        index.get(name)?.manifests.get(digest).cloned()
    }

    /// The manifests of a repository that say something about another, by their digests; `None`: there is no such
    /// repository.
    pub fn hosted_referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Option<Vec<(Digest, HostedManifest)>> {
        let index = self.inner.store.repositories.hold();
        let all = index.get(name)?.manifests.iter();
        let about = all.filter(|(_, manifest)| manifest.subject.as_ref() == Some(subject));
        Some(about.map(|(digest, manifest)| (digest.clone(), manifest.clone())).collect())
    }

    /// A blob of a repository.
    pub fn hosted_blob(&self, name: &RepositoryName, digest: &Digest) -> Option<HostedBlob> {
        let is_there = {
            let index = self.inner.store.repositories.hold();
            index.get(name)?.blobs.contains_key(digest)
        };
        let size = is_there.then(|| self.inner.store.length(digest).ok()).flatten()?;
        Some(HostedBlob { size })
    }

    /// A document of this host, compared with its digest.
    pub async fn stored_document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let (store, digest) = (Arc::clone(&self.inner.store), digest.clone());
        tokio::task::spawn_blocking(move || store.read_blob(&digest)).await.ok().flatten()
    }

    /// Sees that so many bytes have room, and takes unused images away where there is none.
    pub async fn make_room_for(&self, what: &str, bytes: u64) -> Result<(), ImageError> {
        self.inner.make_room(what, bytes).await
    }

    /// Refuses once less is free than images leave.
    pub fn check_room(&self, what: &str) -> Result<(), ImageError> {
        room::check(what, &self.inner.store.blobs, self.inner.reserve)
    }

    /// Makes a file a blob of the repository. It is on the disk, on the same one, and was compared with the digest.
    pub async fn host_upload(
        &self,
        name: RepositoryName,
        digest: Digest,
        file: PathBuf,
    ) -> Result<(), HostingError> {
        let claim = self.claim();
        claim.add(&digest);
        let inner = Arc::clone(&self.inner);
        hosting(move || {
            let _claim = claim;
            let repositories = &inner.store.repositories;
            let target = inner.store.blob(&digest);
            let adopt = || {
                repositories.note(&digest)?;
                durable::rename(&file, &target)
            };
            adopt().map_err(ImageError::disk("name", &target))?;
            repositories.add_blob(&name, &digest, clock::now())?;
            inner.forget_note(&digest)
        })
        .await
    }

    /// Makes a blob of other repositories, or of a certain one, one of this one's, too; false where they have none.
    pub async fn mount_blob(
        &self,
        name: RepositoryName,
        digest: Digest,
        from: Option<RepositoryName>,
    ) -> Result<bool, HostingError> {
        let claim = self.claim();
        claim.add(&digest);
        let inner = Arc::clone(&self.inner);
        hosting(move || {
            let _claim = claim;
            let has = {
                let index = inner.store.repositories.hold();
                match &from {
                    Some(from) => index.get(from).is_some_and(|it| it.blobs.contains_key(&digest)),
                    None => index.values().any(|it| it.blobs.contains_key(&digest)),
                }
            };
            let has = has && inner.store.blob(&digest).exists();
            if has {
                inner.store.repositories.add_blob(&name, &digest, clock::now())?;
            }
            Ok(has)
        })
        .await
    }

    /// What a document names that the repository does not have.
    pub fn missing_in(&self, name: &RepositoryName, view: &DocumentView) -> Vec<Digest> {
        let index = self.inner.store.repositories.hold();
        let repository = index.get(name);
        let has_blob = |digest: &Digest| repository.is_some_and(|it| it.blobs.contains_key(digest));
        let has_manifest =
            |digest: &Digest| repository.is_some_and(|it| it.manifests.contains_key(digest));
        let blobs = view.blobs.iter().filter(|part| !has_blob(&part.digest));
        let manifests = view.manifests.iter().filter(|part| !has_manifest(&part.digest));
        blobs.chain(manifests).map(|part| part.digest.clone()).collect()
    }

    /// Keeps a manifest whose parts are there, and lets the tag stand for it.
    pub async fn host_manifest(
        &self,
        name: RepositoryName,
        (digest, bytes): (Digest, Vec<u8>),
        view: &DocumentView,
        tag: Option<Tag>,
    ) -> Result<(), HostingError> {
        let claim = self.claim();
        claim.add(&digest);
        let manifest = HostedManifest {
            media_type: view.media_type.clone(),
            size: bytes.len() as u64,
            subject: view.subject.clone(),
            content: view.content().into_iter().cloned().collect(),
            at: clock::now(),
        };
        let inner = Arc::clone(&self.inner);
        hosting(move || {
            let _claim = claim;
            let repositories = &inner.store.repositories;
            repositories.note(&digest).map_err(ImageError::disk("write", &inner.store.blobs))?;
            inner.store.write_blob(&digest, &bytes)?;
            let names_image = tag.as_ref().is_some_and(|tag| {
                let index = repositories.hold();
                let known = index.get(&name).and_then(|it| it.tags.get(tag));
                known.is_some_and(|known| known.names_image)
            });
            let stands = HostedTag { digest: digest.clone(), names_image };
            let tag = tag.as_ref().map(|tag| (tag, stands));
            repositories.add_manifest(&name, &digest, manifest, tag)?;
            inner.forget_note(&digest)
        })
        .await
    }

    /// Takes a tag away, and the name that its push gave; false: there is none.
    pub async fn remove_hosted_tag(
        &self,
        name: RepositoryName,
        tag: Tag,
    ) -> Result<bool, HostingError> {
        let (inner, of, which) = (Arc::clone(&self.inner), name.clone(), tag.clone());
        let gone = hosting(move || Ok(inner.store.repositories.remove_tag(&of, &which)?)).await?;
        let Some(stood) = gone else { return Ok(false) };
        self.inner.unname(&name, &tag, &stood).await;
        Ok(true)
    }

    /// Takes a manifest away with its tags; false: there is none.
    pub async fn remove_hosted_manifest(
        &self,
        name: RepositoryName,
        digest: Digest,
    ) -> Result<bool, HostingError> {
        let (inner, of, which) = (Arc::clone(&self.inner), name.clone(), digest.clone());
        let gone = hosting(move || {
            let repositories = &inner.store.repositories;
            let known =
                repositories.hold().get(&of).and_then(|it| it.manifests.get(&which).cloned());
            let gone = repositories.remove_manifest(&of, &which)?;
            // What it alone named is kept for a while, for a push under way may name it next.
            for blob in known.iter().flat_map(|known| &known.content) {
                let is_left = {
                    let index = repositories.hold();
                    let left = |it: &Repository| it.blobs.contains_key(blob) && !it.names(blob);
                    index.get(&of).is_some_and(left)
                };
                if is_left {
                    repositories.add_blob(&of, blob, clock::now())?;
                }
            }
            Ok(gone)
        });
        let Some(tags) = gone.await? else { return Ok(false) };
        for (tag, stood) in &tags {
            self.inner.unname(&name, tag, stood).await;
        }
        self.free([digest].into()).await?;
        Ok(true)
    }

    /// Takes a blob away from a repository; false: it has none of that digest.
    pub async fn remove_hosted_blob(
        &self,
        name: RepositoryName,
        digest: Digest,
    ) -> Result<bool, HostingError> {
        let (inner, which) = (Arc::clone(&self.inner), digest.clone());
        let gone =
            hosting(move || Ok(inner.store.repositories.remove_blob(&name, &which)?)).await?;
        if gone {
            self.free([digest].into()).await?;
        }
        Ok(gone)
    }

    /// Takes blobs away that no manifest has named for so long.
    pub async fn trim_hosted(&self, age: Duration) -> Result<(), HostingError> {
        let before = clock::now().0.saturating_sub(milliseconds(age));
        for name in self.repositories() {
            let old = {
                let index = self.inner.store.repositories.hold();
                let before = Timestamp(before);
                index.get(&name).map(|it| it.unnamed_since(before)).unwrap_or_default()
            };
            for digest in old {
                tracing::info!(repository = %name, %digest, "no manifest names this blob: it goes");
                self.remove_hosted_blob(name.clone(), digest).await?;
            }
        }
        Ok(())
    }

    /// Ends what an earlier run began to free, or did not come to name. Everybody who keeps content was let in before.
    pub(crate) fn free_noted(&self) -> Result<(), ImageError> {
        let inner = &self.inner;
        let notes = inner.store.repositories.notes();
        let notes = notes.map_err(ImageError::disk("read", &inner.store.blobs))?;
        if notes.is_empty() { Ok(()) } else { inner.free(&notes) }
    }

    async fn free(&self, blobs: BTreeSet<Digest>) -> Result<(), HostingError> {
        let inner = Arc::clone(&self.inner);
        hosting(move || Ok(inner.free(&blobs)?)).await
    }
}

pub(super) async fn hosting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostingError> + Send + 'static,
) -> Result<T, HostingError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| HostingError::Image(ImageError::Stopped(error.to_string())))?
}

impl Inner {
    fn forget_note(&self, digest: &Digest) -> Result<(), HostingError> {
        let forgotten = self.store.repositories.forget_note(digest);
        Ok(forgotten.map_err(ImageError::disk("change", &self.store.blobs))?)
    }

    /// Deletes blobs that are nobody's any more, with the notes that say so.
    fn free(&self, blobs: &BTreeSet<Digest>) -> Result<(), ImageError> {
        let failed = |error| ImageError::disk("free blobs in", &self.store.blobs)(error);
        self.remove_unkept(&Content { layers: BTreeSet::new(), blobs: blobs.clone() })?;
        let forget = |digest| self.store.repositories.forget_note(digest);
        blobs.iter().try_for_each(forget).map_err(failed)
    }
}

/// Where uploads grow: on the disk of the blobs, whose names they get.
pub(crate) fn uploads_folder(agent: &Path) -> PathBuf {
    agent.join("registry/uploads")
}
