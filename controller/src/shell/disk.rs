//! The controller's disk: the log, its hard state and its snapshots, behind a trait that tests may fake.

mod frame;
mod index;
mod log;
mod making;
mod record;
mod released;
mod room;
pub mod seal;
mod segment;
mod snapshot;
mod spare;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use frame::FrameError;
pub use record::RecordError;
pub use store::{DiskStore, LOCK_PATIENCE};

use super::seal::SealError;
use crate::core::{DiskBatch, Shortage};

/// Why the disk cannot be used. On any of these the process stops, but for [`DiskError::Full`].
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is no room for more. Nothing is lost by it, and trying again is sound.
    #[error("{0}{ROOM}")]
    Full(Shortage),
    /// Another process has the log open.
    #[error("{} is in use by another controller", path.display())]
    Locked {
        /// The log's folder.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the database in {} failed", path.display())]
    Database {
        /// The log's folder.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file could not be read, written or synced.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `sync`, `read`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key of what is wrapped cannot be used.
    #[error(transparent)]
    Key(#[from] SealError),
    /// A segment of the log holds something that was not written.
    #[error("the log in {} is damaged: {cause}{REJOIN}", path.display())]
    Frame {
        /// The segment.
        path: PathBuf,
        /// How.
        cause: FrameError,
    },
    /// A record of the log cannot be read.
    #[error("the log in {} is damaged: {cause}{REJOIN}", path.display())]
    Record {
        /// The segment.
        path: PathBuf,
        /// How.
        cause: RecordError,
    },
    /// Entries are missing, or something else does not fit together.
    #[error("the log in {} is damaged: {reason}{REJOIN}", path.display())]
    Damaged {
        /// The log's folder or the segment.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The core wrote entries that do not follow each other.
    #[error("entry {found} was written where entry {expected} should follow")]
    Gap {
        /// The next entry of the log.
        expected: u64,
        /// The one that came.
        found: u64,
    },
}

/// What helps when the log is damaged.
const REJOIN: &str =
    "\n\nhint: remove this controller from the cluster, delete the folder and join it again";

/// What helps when the disk is full.
const ROOM: &str = "\n\nhint: make room there, then start the controller again";

/// Told of the want of room before each further try; false gives up.
pub type Wait<'a> = dyn FnMut(&Shortage) -> bool + 'a;

/// Where batches go. Written batches are atomic each, in order, and durable on return; but a snapshot that takes nothing
/// away but what it compacts may come later than the rest of its batch.
pub trait Store: Send {
    /// Writes batches with one sync. Without room it waits, and is of no more use once it has given up.
    fn write_patiently(
        &mut self,
        batches: &[DiskBatch],
        wait: &mut Wait<'_>,
    ) -> Result<(), DiskError>;

    /// The same, but fails when there is no room.
    fn write(&mut self, batches: &[DiskBatch]) -> Result<(), DiskError> {
        self.write_patiently(batches, &mut |_| false)
    }

    /// Goes on with what is done beside the writes; whether anything is left.
    fn rest(&mut self) -> Result<bool, DiskError>;

    /// Why little more can be written soon, if so: what is under way has room for a while.
    fn shortage(&mut self) -> Result<Option<Shortage>, DiskError>;
}
