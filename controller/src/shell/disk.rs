//! The controller's disk: the log, its hard state and its snapshots, behind a trait that tests may fake.

mod record;
mod sled_store;
mod snapshot;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use record::RecordError;
pub use sled_store::{LOCK_PATIENCE, SledStore};

use crate::core::DiskBatch;

/// Why the disk cannot be used. On any of these the process stops.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process has the log open.
    #[error("{} is in use by another controller", path.display())]
    Locked {
        /// The log's folder.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the log in {} failed", path.display())]
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
    /// A record of the log is damaged.
    #[error("the log in {} is damaged", path.display())]
    Record {
        /// The log's folder.
        path: PathBuf,
        /// How.
        source: RecordError,
    },
    /// Entries are missing, or something else does not fit together.
    #[error(
        "the log in {} is damaged: {reason}\n\nhint: remove this controller from the cluster, delete the folder and join it again",
        path.display()
    )]
    Damaged {
        /// The log's folder.
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

/// Where batches go. Written batches are atomic each, in order, and durable on return when one of them asks for it.
pub trait Store: Send {
    /// Writes batches with one sync.
    fn write(&mut self, batches: &[DiskBatch]) -> Result<(), DiskError>;

    /// Removes a slice of what compaction left; false when nothing is left.
    fn sweep(&mut self) -> Result<bool, DiskError>;
}
