//! All that keeps content in the store: records of images, the host's registry, work under way, and tenants, which are
//! others that have blobs or layers there. Whoever takes content away asks here, and nowhere else.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError};

use swarm_proto::id::{Digest, Timestamp};

use super::claims::Counts;
use super::pull::blocking;
use super::removal::Content;
use super::store::{Record, Store};
use super::{ImageError, Images, Inner};
use crate::tree::bytes_of;

/// Somebody else than images who keeps content in the store.
///
/// It is asked while nobody can begin to count on content. So it may ask neither images nor claims, and is quick.
pub trait Tenant: Send + Sync {
    /// All that it keeps now. An error: that cannot be told, and nothing is taken away.
    fn content(&self) -> io::Result<Content>;

    /// What it can do without.
    fn spare(&self) -> io::Result<Vec<Spare>> {
        Ok(Vec::new())
    }

    /// Lets go of something spare; answers with the bytes that it freed itself, or with nothing where it is in use.
    fn let_go(&self, _spare: &Spare) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

/// Something that its tenant can do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    /// Its name for the tenant.
    pub name: String,
    /// What it keeps in the store.
    pub content: Content,
    /// When it was used last.
    pub used_at: Timestamp,
}

impl Images {
    /// From now on content stays that somebody else keeps. To be called before anything can be taken away.
    pub fn let_in(&self, tenant: Arc<dyn Tenant>) {
        let mut tenants = self.inner.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.push(tenant);
    }

    /// Removes what nobody keeps; answers with the bytes that are free again.
    pub(super) async fn remove_unkept(&self, content: Content) -> Result<u64, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.remove_unkept(&content)).await
    }
}

impl Inner {
    pub(super) fn tenants(&self) -> Vec<Arc<dyn Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that is kept, as long as neither records nor claims change. An image that lacks a layer since a power cut counts,
    /// too: its blobs make it whole again.
    fn kept(
        &self,
        records: &HashMap<Digest, Record>,
        counts: &Counts,
    ) -> Result<Content, ImageError> {
        let mut kept = self
            .store
            .recorded()
            .map_err(|error| ImageError::disk("read", &self.store.records)(error))?;
        for record in records.values() {
            kept.add(Content::of(record));
        }
        kept.layers.extend(counts.keys().cloned());
        kept.blobs.extend(counts.keys().cloned());
        // Whoever adds to a repository claims it first, so nothing comes between.
        kept.add(Content::of_repositories(&self.store.repositories.hold()));
        for tenant in self.tenants() {
            kept.add(
                tenant.content().map_err(ImageError::disk("ask who uses", &self.store.blobs))?,
            );
        }
        Ok(kept)
    }

    /// Removes what nobody keeps; answers with the bytes that are free again.
    pub(super) fn remove_unkept(&self, content: &Content) -> Result<u64, ImageError> {
        let failed = |error| ImageError::disk("remove content from", &self.store.blobs)(error);
        let aside = {
            let records = self.records();
            let counts = self.claims.hold();
            let going = content.without(&self.kept(&records, &counts)?);
            self.store.set_aside(&going).map_err(failed)?
        };
        let freed = aside.iter().map(|path| bytes_of(path)).sum();
        Store::delete(&aside).map_err(failed)?;
        Ok(freed)
    }
}
