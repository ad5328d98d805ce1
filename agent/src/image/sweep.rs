//! Takes away what nothing needs any more: content that a crash, or work that failed, left without anybody who keeps it,
//! and what tenants have not used for long.
//!
//! What is younger than an hour stays: a pull that broke off with its agent goes on with what it had.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::failure::sentence;
use swarm_proto::id::{Digest, Timestamp};

use super::claims::Counts;
use super::pull::blocking;
use super::removal::Content;
use super::room::milliseconds;
use super::store::{MAP, PART, SYNCED, Store};
use super::tenant::{Spare, Tenant};
use super::{ImageError, Images, Inner};
use crate::clock;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// What nobody keeps goes once it is older.
const LEFT_FOR: Duration = Duration::from_hours(1);

/// What tenants let go of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many things.
    pub things: u64,
    /// Bytes that are free again.
    pub freed: u64,
}

impl Images {
    /// Removes what nobody keeps and is older; answers with the bytes that are free again.
    pub async fn sweep(&self, age: Duration) -> Result<u64, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let found = inner.store.found(before(age));
            let found = found.map_err(ImageError::disk("look through", &inner.store.blobs))?;
            inner.remove_unkept(&found)
        })
        .await
    }

    /// Has tenants let go of all that nobody has used for so long.
    pub async fn trim(&self, unused_for: Duration) -> Result<Trimmed, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut trimmed = Trimmed::default();
            for (tenant, spare) in inner.spares(unused_for, None)? {
                if let Some(freed) = inner.let_go(tenant.as_ref(), &spare)? {
                    trimmed.things += 1;
                    trimmed.freed += freed;
                }
            }
            Ok(trimmed)
        })
        .await
    }

    /// Sweeps at once and from time to time, and has tenants let go of what nobody has used for so long.
    pub async fn keep_tidy(&self, unused_for: Duration) {
        loop {
            match self.trim(unused_for).await {
                Ok(Trimmed { things: 0, .. }) => {}
                Ok(Trimmed { things, freed }) => {
                    tracing::info!(things, freed, "removed what builds have not used for long");
                }
                Err(error) => tracing::warn!(error = sentence(&error), "cannot remove old caches"),
            }
            match self.sweep(LEFT_FOR).await {
                Ok(0) => {}
                Ok(freed) => tracing::info!(freed, "removed content that no image has"),
                Err(error) => {
                    tracing::warn!(error = sentence(&error), "cannot look for content without use");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The moment that was so long ago.
fn before(age: Duration) -> Timestamp {
    Timestamp(clock::now().0.saturating_sub(milliseconds(age)))
}

/// Whether something spare may go: nobody has used it since, and nobody counts on it. Where room is wanted, `images` is
/// what images keep anyway.
fn may_go(spare: &Spare, since: Timestamp, busy: &Counts, images: Option<&Content>) -> bool {
    let Content { layers, blobs } = &spare.content;
    let free = !layers.iter().chain(blobs).any(|digest| busy.contains_key(digest));
    let own = layers.is_empty() && blobs.is_empty();
    let frees = images.is_none_or(|kept| own || spare.content.without(kept) != Content::default());
    spare.used_at <= since && free && frees
}

/// Something spare, with who can do without it.
pub(super) type OfTenant = (Arc<dyn Tenant>, Spare);

impl Inner {
    /// What tenants can do without, the least recently used first.
    pub(super) fn spares(
        &self,
        unused_for: Duration,
        images: Option<&Content>,
    ) -> Result<Vec<OfTenant>, ImageError> {
        let since = before(unused_for);
        let mut spares = Vec::new();
        for tenant in self.tenants() {
            let spare = tenant.spare();
            let spare = spare.map_err(ImageError::disk("look through", "the caches of builds"))?;
            let busy = self.claims.hold();
            let going = spare.into_iter().filter(|one| may_go(one, since, &busy, images));
            spares.extend(going.map(|one| (Arc::clone(&tenant), one)));
        }
        spares.sort_by(|(_, a), (_, b)| (a.used_at, &a.name).cmp(&(b.used_at, &b.name)));
        Ok(spares)
    }

    /// Lets something spare go, and then what it alone kept. A crash between leaves that to the next sweep.
    pub(super) fn let_go(
        &self,
        tenant: &dyn Tenant,
        spare: &Spare,
    ) -> Result<Option<u64>, ImageError> {
        let freed = tenant.let_go(spare).map_err(ImageError::disk("remove", &spare.name))?;
        let Some(freed) = freed else { return Ok(None) };
        Ok(Some(freed + self.remove_unkept(&spare.content)?))
    }
}

impl Store {
    /// Blobs and layers that came before, whoever keeps them. Marks of layers that are gone go at once.
    fn found(&self, before: Timestamp) -> io::Result<Content> {
        let mut found = Content::default();
        each(&self.blobs, before, |name, _| {
            let endings = [PART, MAP];
            let hex = endings.into_iter().find_map(|ending| name.strip_suffix(ending));
            found.blobs.extend(digest(hex.unwrap_or(name)));
            Ok(())
        })?;
        each(&self.layers, before, |name, path| {
            if let Some(layer) = name.strip_suffix(SYNCED).and_then(digest)
                && !self.has_layer(&layer)
            {
                return fs::remove_file(path);
            }
            found.layers.extend(digest(name));
            Ok(())
        })?;
        Ok(found)
    }
}

/// What lies in a folder since before. The time is that of its name: its own may be what an archive says.
fn each(
    folder: &Path,
    before: Timestamp,
    mut take: impl FnMut(&str, &Path) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
        if seconds.saturating_mul(1000) <= before.0 {
            take(name, &entry.path())?;
        }
    }
    Ok(())
}

fn digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(letters: &str) -> Content {
        let digests = letters.chars().map(|letter| digest(&letter.to_string().repeat(64)).unwrap());
        Content { layers: digests.clone().collect(), blobs: digests.collect() }
    }

    #[test]
    fn what_is_old_and_nobodys_may_go() {
        let spare = |letters: &str, used_at: u64| Spare {
            name: "x".to_owned(),
            content: of(letters),
            used_at: Timestamp(used_at),
        };
        let busy: Counts = of("b").layers.into_iter().map(|digest| (digest, 1)).collect();
        let table = [
            (spare("a", 10), None, true),
            (spare("a", 11), None, false),
            (spare("ab", 10), None, false),
            (spare("a", 10), Some("a"), false),
            (spare("ac", 10), Some("a"), true),
            (spare("", 10), Some("a"), true),
            (spare("", 11), None, false),
        ];
        for (spare, images, expected) in table {
            let images = images.map(of);
            let goes = may_go(&spare, Timestamp(10), &busy, images.as_ref());
            assert_eq!(goes, expected, "{spare:?} {images:?}");
        }
    }
}
