//! Room on the file system that the disk lies on.

use std::io::{Error, ErrorKind};
use std::path::Path;

use super::DiskError;
use crate::core::Shortage;

/// Whether a file could not be written for want of room: trying again later is sound, as nothing was synced.
pub(super) fn is_want(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The want of room in a folder as it is now.
pub(super) fn shortage(folder: &Path) -> Shortage {
    Shortage { path: folder.display().to_string(), free: free(folder) }
}

/// Refuses unless so many bytes are free in a folder.
pub(super) fn check(folder: &Path, bytes: u64) -> Result<(), DiskError> {
    if free(folder) < bytes { Err(DiskError::Full(shortage(folder))) } else { Ok(()) }
}

/// Bytes that are free in a folder. Where nobody knows, writing tells.
fn free(folder: &Path) -> u64 {
    let told = rustix::fs::statvfs(folder);
    told.map_or(u64::MAX, |told| told.f_bavail.saturating_mul(told.f_frsize))
}
