//! What hosts of the cluster have under a repository's name, as far as somebody asked for its manifest here: a blob's
//! request says nothing of the image that it belongs to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use hyper::body::Bytes;
use swarm_proto::id::Digest;
use swarm_proto::object::ImageHolder;

use super::range::Part;
use crate::image::{DocumentView, Images, RepositoryName, Tag};

/// Documents and blobs that are remembered.
const MOST: usize = 16_384;
/// Tags that are remembered.
const MOST_TAGS: usize = 1024;
/// How often a blob that breaks off is gone on with.
const TRIES: usize = 4;

/// A document or a blob.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Bytes; `None`: not known before it is there.
    pub(super) size: Option<u64>,
    holders: Arc<Vec<ImageHolder>>,
    /// Only for who may see what a registry gave.
    only_known: bool,
}

type Key = (RepositoryName, Digest);

#[derive(Default)]
struct Memory {
    held: BTreeMap<Key, Held>,
    order: VecDeque<Key>,
    /// Tags that somebody asked for, each with whether only some may see it.
    tags: VecDeque<(RepositoryName, Tag, bool)>,
}

/// See the module.
pub(super) struct Elsewhere {
    images: Images,
    memory: Mutex<Memory>,
}

impl Elsewhere {
    pub(super) fn new(images: Images) -> Self {
        Self { images, memory: Mutex::default() }
    }

    /// The document that a tag stands for on hosts, with its digest. `all`: also where a registry gave the name.
    pub(super) async fn tagged(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        all: bool,
    ) -> Option<(Digest, Vec<u8>)> {
        let found = self.images.find_elsewhere(repository, tag, all).await?;
        let held = Held { size: None, holders: Arc::new(found.holders), only_known: !found.local };
        let bytes = self.read(repository, &found.digest, &held).await?;
        self.remember_tag((repository.clone(), tag.clone(), held.only_known));
        Some((found.digest, bytes))
    }

    fn remember_tag(&self, tag: (RepositoryName, Tag, bool)) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.tags.retain(|known| *known != tag);
        memory.tags.push_back(tag);
        if memory.tags.len() > MOST_TAGS {
            memory.tags.pop_front();
        }
    }

    /// Tags that images of this host have, and those that others were seen to have.
    pub(super) fn tags(&self, repository: &RepositoryName, all: bool) -> BTreeSet<Tag> {
        let mut tags = self.images.held_tags(repository, all);
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let seen =
            memory.tags.iter().filter(|(of, _, hidden)| of == repository && (all || !hidden));
        tags.extend(seen.map(|(_, tag, _)| tag.clone()));
        tags
    }

    /// A document by its digest.
    pub(super) async fn document(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        all: bool,
    ) -> Option<Vec<u8>> {
        if self.images.is_part_of(repository, digest, all) {
            return self.images.stored_document(digest).await;
        }
        let held = self.held(repository, digest, all)?;
        self.read(repository, digest, &held).await
    }

    async fn read(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        held: &Held,
    ) -> Option<Vec<u8>> {
        if held.holders.is_empty() {
            return self.images.stored_document(digest).await;
        }
        let bytes = self.images.document_elsewhere(&held.holders, digest).await?;
        let view = DocumentView::read(&bytes, None).ok()?;
        self.remember(repository, digest, Held { size: None, ..held.clone() });
        for part in view.blobs.iter().chain(&view.manifests) {
            let held = Held { size: Some(part.size), ..held.clone() };
            self.remember(repository, &part.digest, held);
        }
        Some(bytes)
    }

    /// What is remembered.
    pub(super) fn held(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        all: bool,
    ) -> Option<Held> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let held = memory.held.get(&(repository.clone(), digest.clone()))?;
        (all || !held.only_known).then(|| held.clone())
    }

    fn remember(&self, repository: &RepositoryName, digest: &Digest, held: Held) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.clone(), digest.clone());
        if memory.held.insert(key.clone(), held).is_none() {
            memory.order.push_back(key);
        }
        if memory.order.len() > MOST
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.held.remove(&oldest);
        }
    }

    /// A part of a blob, from one host after the other where they break off; `None`: nobody gives it.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        held: &Held,
        part: Part,
    ) -> Option<BoxStream<'static, io::Result<Bytes>>> {
        let first = self.images.blob_elsewhere(&held.holders, digest, part.from).await?;
        let way = Way {
            images: self.images.clone(),
            holders: Arc::clone(&held.holders),
            digest: digest.clone(),
            at: part.from,
            end: part.from + part.length,
            stream: first,
            tries: 0,
        };
        Some(try_unfold(way, Way::next).boxed())
    }
}

/// A blob on its way through this host.
struct Way {
    images: Images,
    holders: Arc<Vec<ImageHolder>>,
    digest: Digest,
    at: u64,
    end: u64,
    stream: BoxStream<'static, io::Result<Bytes>>,
    tries: usize,
}

impl Way {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if self.at == self.end {
                return Ok(None);
            }
            let broken = match self.stream.next().await {
                Some(Ok(mut bytes)) => {
                    bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
                    self.at += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Some(Err(error)) => error,
                None => io::ErrorKind::UnexpectedEof.into(),
            };
            self.tries += 1;
            let next = self.images.blob_elsewhere(&self.holders, &self.digest, self.at).await;
            self.stream = match next {
                Some(stream) if self.tries < TRIES => stream,
                _ => return Err(broken),
            };
        }
    }
}
