//! Room on the disk: what an image needs is compared with what is free before it comes.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::Digest;

use super::manifest::Descriptor;
use super::pull::blocking;
use super::removal::Content;
use super::store::Store;
use super::{Doomed, ImageError, Inner, Needed};

/// What images leave free where the configuration says nothing: this part of the disk, and at most so much.
const RESERVED_PART: u64 = 20;
const MOST_RESERVED: u64 = 1 << 30;
/// For want of room, caches go that no build has used for longer, then images that no task uses and that came longer ago.
const UNUSED_FOR: Duration = Duration::from_hours(1);
/// What a compressed layer unpacks to, at a guess.
const UNPACKED: u64 = 3;
/// Between two looks at the disk while something is written.
const LOOK_EVERY: u64 = 64 << 20;

/// Bytes that an image needs beyond what is here: its blobs, and their layers at a guess.
pub(super) fn needed(store: &Store, layers: &[Descriptor], diff_ids: &[Digest]) -> u64 {
    let each = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        let blob = if store.blob(&layer.digest).exists() { 0 } else { layer.size };
        let plain = layer.digest == *diff_id;
        let unpacked = if plain { layer.size } else { layer.size.saturating_mul(UNPACKED) };
        blob.saturating_add(if store.has_layer(diff_id) { 0 } else { unpacked })
    });
    each.fold(0, u64::saturating_add)
}

/// What a disk has, in bytes.
struct Room {
    free: u64,
    reserve: u64,
}

fn look(folder: &Path, reserve: Option<u64>) -> Result<Room, ImageError> {
    let told = rustix::fs::statvfs(folder);
    let told = told.map_err(|error| ImageError::disk("look at", folder)(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    let usual = || (bytes(told.f_blocks) / RESERVED_PART).min(MOST_RESERVED);
    Ok(Room { free: bytes(told.f_bavail), reserve: reserve.unwrap_or_else(usual) })
}

/// Refuses when less is free than images must leave.
pub(super) fn check(what: &str, folder: &Path, reserve: Option<u64>) -> Result<(), ImageError> {
    let room = look(folder, reserve)?;
    if room.free > room.reserve {
        return Ok(());
    }
    Err(no_room(what, 1, folder, &room))
}

/// A stream that is written to a disk as it is read: it breaks off before the disk is full.
pub(super) struct Guarded<'a, R> {
    inner: R,
    what: &'a str,
    folder: &'a Path,
    reserve: Option<u64>,
    since: u64,
    /// Why it broke off.
    pub(super) refused: Option<ImageError>,
}

impl<'a, R: Read> Guarded<'a, R> {
    /// `what` is told where there is no room.
    pub(super) fn new(inner: R, what: &'a str, folder: &'a Path, reserve: Option<u64>) -> Self {
        Self { inner, what, folder, reserve, since: LOOK_EVERY, refused: None }
    }
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.since += length as u64;
        if self.since >= LOOK_EVERY {
            self.since = 0;
            if let Err(error) = check(self.what, self.folder, self.reserve) {
                self.refused = Some(error);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(length)
    }
}

fn no_room(image: &str, needed: u64, folder: &Path, room: &Room) -> ImageError {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    ImageError::NoRoom {
        image: image.to_owned(),
        needed: mib(needed),
        path: folder.to_owned(),
        free: room.free >> 20,
        reserve: mib(room.reserve),
    }
}

impl Inner {
    /// Sees that there is room, and takes unused caches and images away where there is none.
    pub(super) async fn make_room(
        self: &Arc<Self>,
        image: &str,
        needed: u64,
    ) -> Result<(), ImageError> {
        if needed == 0 {
            return Ok(());
        }
        let folder = &self.store.blobs;
        let short = |room: &Room| room.free.saturating_sub(needed) < room.reserve;
        if !short(&look(folder, self.reserve)?) {
            return Ok(());
        }
        if !self.spare_room(&short).await? {
            return Ok(());
        }
        for doomed in self.unused(UNUSED_FOR) {
            tracing::info!(image = %doomed.digest, "takes an unused image away: the disk is full");
            match self.remove(&doomed, &Needed::new()).await {
                Ok(_) | Err(ImageError::InUse { .. } | ImageError::NotHere { .. }) => {}
                Err(error) => return Err(error),
            }
            if !short(&look(folder, self.reserve)?) {
                return Ok(());
            }
        }
        Err(no_room(image, needed, folder, &look(folder, self.reserve)?))
    }

    /// Has tenants let go of one thing after another while room is short; answers with whether it still is.
    async fn spare_room(
        self: &Arc<Self>,
        short: &(dyn Fn(&Room) -> bool + Sync),
    ) -> Result<bool, ImageError> {
        let images = {
            let mut images = Content::default();
            self.records().values().for_each(|record| images.add(Content::of(record)));
            images
        };
        for (tenant, spare) in self.spares(UNUSED_FOR, Some(&images))? {
            tracing::info!(cache = spare.name, "lets an unused cache go: the disk is full");
            let inner = Arc::clone(self);
            blocking(move || inner.let_go(tenant.as_ref(), &spare)).await?;
            if !short(&look(&self.store.blobs, self.reserve)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Images that no task uses, that came longer ago, and that a registry had; the oldest first.
    fn unused(&self, age: Duration) -> Vec<Doomed> {
        let before = crate::clock::now().0.saturating_sub(milliseconds(age));
        let records = self.records();
        let mut old: Vec<_> = records
            .values()
            .filter(|record| record.local.is_empty() && record.came_at().0 <= before)
            .collect();
        old.sort_by_key(|record| (record.came_at(), record.digest.clone()));
        old.into_iter().map(|record| Doomed { digest: record.digest.clone(), name: None }).collect()
    }
}

pub(super) fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
