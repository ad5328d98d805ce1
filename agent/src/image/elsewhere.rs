//! What hosts of the cluster have under a repository's name, this one among them.

use std::collections::BTreeSet;
use std::io;

use futures_util::stream::BoxStream;
use prost::bytes::Bytes;
use swarm_proto::id::Digest;
use swarm_proto::object::ImageHolder;

use super::pushed_name::whole_name;
use super::repository::{RepositoryName, Tag};
use super::store::Record;
use super::{Images, Reference};

/// An image that hosts of the cluster have under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its content.
    pub digest: Digest,
    /// Who has it; nobody where it is this host itself.
    pub holders: Vec<ImageHolder>,
    /// The name was given on a host, not by a registry.
    pub local: bool,
}

/// Whether a name of an image belongs to a repository.
fn is_of(repository: &RepositoryName, name: &str) -> bool {
    let own: Result<Reference, _> = repository.as_str().parse();
    let (Ok(own), Ok(name)) = (own, name.parse::<Reference>()) else { return false };
    (own.registry, own.repository) == (name.registry, name.repository)
}

impl Images {
    /// What a name stands for on this host, or else on others. `all`: also where a registry gave it, not only a person.
    pub async fn find_elsewhere(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        all: bool,
    ) -> Option<Elsewhere> {
        let name = whole_name(repository, tag)?;
        if let Some(digest) = self.inner.given(&name) {
            return Some(Elsewhere { digest, holders: Vec::new(), local: true });
        }
        if let Some(digest) = self.inner.named(&name).filter(|_| all) {
            return Some(Elsewhere { digest, holders: Vec::new(), local: false });
        }
        // Without a digest: it is not to count as one that fetches the image.
        let known = self.inner.find(&name, None).await;
        let digest = known.digest.filter(|_| known.local || all)?;
        Some(Elsewhere { digest, holders: known.holders, local: known.local })
    }

    /// Whether an image of this host that has a name in the repository consists of this, among others.
    pub fn is_part_of(&self, repository: &RepositoryName, digest: &Digest, all: bool) -> bool {
        let has_name = |record: &Record| {
            let mut names = record.references.keys();
            names.any(|name| is_of(repository, name) && (all || record.local.contains(name)))
        };
        let records = self.inner.records();
        let mut holding = records.values().filter(|record| record.blobs.contains(digest));
        holding.any(has_name)
    }

    /// Tags of a repository that images of this host have.
    pub fn held_tags(&self, repository: &RepositoryName, all: bool) -> BTreeSet<Tag> {
        let tag = |name: &String| name.parse::<Reference>().ok()?.tag?.parse().ok();
        let records = self.inner.records();
        let of = |record: &Record| -> Vec<Tag> {
            let names = record.references.keys().filter(|name| is_of(repository, name));
            names.filter(|name| all || record.local.contains(*name)).filter_map(tag).collect()
        };
        records.values().flat_map(of).collect()
    }

    /// Bytes of a blob of this host.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.inner.store.length(digest).ok()
    }

    /// A document of another host, compared with its digest.
    pub async fn document_elsewhere(
        &self,
        holders: &[ImageHolder],
        digest: &Digest,
    ) -> Option<Vec<u8>> {
        let neighbours = self.inner.neighbours.get()?;
        neighbours.copies(holders.to_vec()).document(digest).await
    }

    /// A blob of another host, from an offset on; `None` when nobody gives it.
    pub async fn blob_elsewhere(
        &self,
        holders: &[ImageHolder],
        digest: &Digest,
        offset: u64,
    ) -> Option<BoxStream<'static, io::Result<Bytes>>> {
        let neighbours = self.inner.neighbours.get()?;
        neighbours.copies(holders.to_vec()).stream(digest, offset).await
    }
}
