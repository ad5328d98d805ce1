//! Takes names and images away: by a person's wish, by age, or for want of room. What something needs stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::Digest;

use super::pull::blocking;
use super::removal::Content;
use super::room::milliseconds;
use super::store::Record;
use super::{ImageError, Images, Inner, Reference};
use crate::clock;

/// Images that stacks need, each with by whom, in words.
pub type Needed = BTreeMap<Digest, String>;

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of images that stay.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub removed: Vec<Digest>,
    /// Bytes that are free again.
    pub freed: u64,
}

/// An image, or one name of it, that shall go.
#[derive(Debug, Clone)]
pub(super) struct Doomed {
    pub(super) digest: Digest,
    pub(super) name: Option<String>,
}

impl Images {
    /// Takes a name away, and with the last one the image; given by its digest, the image with all its names.
    pub async fn remove(&self, image: &str, needed: &Needed) -> Result<Removed, ImageError> {
        let record = self.inner.look_up(image)?;
        let name = image.parse().ok().map(|reference: Reference| reference.to_string());
        let name = name.filter(|name| record.references.contains_key(name));
        self.inner.remove(&Doomed { digest: record.digest, name }, needed).await
    }

    /// Takes away all images that nothing needs and that came longer ago; those with names that were given on hosts only
    /// with `local`, for no registry may have them.
    pub async fn prune(
        &self,
        age: Duration,
        local: bool,
        needed: &Needed,
    ) -> Result<Removed, ImageError> {
        let before = clock::now().0.saturating_sub(milliseconds(age));
        let goes =
            |record: &Record| record.came_at().0 <= before && (local || record.local.is_empty());
        let mut old: Vec<Digest> = {
            let records = self.inner.records();
            records.values().filter(|record| goes(record)).map(|r| r.digest.clone()).collect()
        };
        old.sort();
        let mut all = Removed::default();
        for digest in old {
            match self.inner.remove(&Doomed { digest, name: None }, needed).await {
                Ok(removed) => {
                    all.removed.extend(removed.removed);
                    all.freed += removed.freed;
                }
                Err(ImageError::InUse { .. } | ImageError::NotHere { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl Inner {
    pub(super) async fn remove(
        self: &Arc<Self>,
        doomed: &Doomed,
        needed: &Needed,
    ) -> Result<Removed, ImageError> {
        let _writing = self.writing.lock().await;
        if let Some(record) = self.untag(doomed)? {
            self.write(vec![record]).await?;
            return Ok(Removed {
                untagged: doomed.name.iter().cloned().collect(),
                ..Removed::default()
            });
        }
        let record = self.take_record(doomed, needed)?;
        let inner = Arc::clone(self);
        let (removed, freed) = blocking(move || inner.delete(record)).await?;
        self.tell();
        Ok(Removed { removed: vec![removed], freed, ..Removed::default() })
    }

    /// The record without the name, where the image has others.
    fn untag(&self, doomed: &Doomed) -> Result<Option<Record>, ImageError> {
        let Doomed { digest, name } = doomed;
        let mut records = self.records();
        let record = records.get_mut(digest).ok_or_else(|| doomed.not_here())?;
        let Some(name) = name.as_ref().filter(|_| record.references.len() > 1) else {
            return Ok(None);
        };
        record.references.remove(name).ok_or_else(|| doomed.not_here())?;
        record.local.remove(name);
        Ok(Some(record.clone()))
    }

    /// The record, from now on nobody else's. Tasks are looked at while nobody can find the image: one that found it
    /// before is among them, one that comes later fetches it anew.
    fn take_record(&self, doomed: &Doomed, needed: &Needed) -> Result<Record, ImageError> {
        let mut records = self.records();
        let record = records.get(&doomed.digest).ok_or_else(|| doomed.not_here())?;
        let tasks = self.tasks_of(record);
        let by_task = tasks.first().map(|task| format!("task {task} runs it"));
        if let Some(by) = by_task.or_else(|| needed.get(&doomed.digest).cloned()) {
            return Err(ImageError::InUse { image: doomed.text(), by });
        }
        records.remove(&doomed.digest).ok_or_else(|| doomed.not_here())
    }

    /// Deletes an image whose record nobody finds any more; answers with the bytes that are free again.
    fn delete(&self, record: Record) -> Result<(Digest, u64), ImageError> {
        let digest = record.digest.clone();
        let failed = |error| ImageError::disk("remove an image from", &self.store.records)(error);
        if let Err(error) = self.store.retire(&digest) {
            self.records().insert(digest, record);
            return Err(failed(error));
        }
        let freed = self.remove_unkept(&Content::of(&record))?;
        self.store.forget(&digest).map_err(failed)?;
        tracing::info!(%digest, freed, "removed an image");
        Ok((digest, freed))
    }
}

impl Doomed {
    fn text(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.digest.to_string())
    }

    fn not_here(&self) -> ImageError {
        ImageError::NotHere { image: self.text() }
    }
}
