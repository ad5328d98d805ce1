//! The small things beside the log, in sled: which snapshot the log begins with. Version 0.1.0 kept the log here too.
//!
//! sled's own flush does not sync on Linux, so the file is also held open here and synced after each flush.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::{Batch, Db};

use super::released::{self, Assembler};
use super::snapshot::{SnapshotName, sync_dir};
use super::{DiskError, room};
use crate::core::DiskEntry;

const SNAPSHOT: &[u8] = b"ms";
const HARD_STATE: &[u8] = b"mh";
const COMPACTED: &[u8] = b"mc";

/// Version 0.1.0 wrote values of 8 KiB, 17 of them in a leaf. sled moves what is larger than a quarter of a segment
/// into files that it never syncs, so segments must be large; each costs as much memory, so not larger.
const SEGMENT: usize = 2 << 20;
/// All is read once, at the start.
const CACHE: u64 = 4 << 20;

/// See the module.
pub(super) struct Index {
    path: PathBuf,
    db: Db,
    /// The same file that sled writes: a sync is per inode, whoever asks.
    file: File,
}

/// A log as version 0.1.0 kept it.
pub(super) struct Released {
    /// Its hard state.
    pub(super) hard_state: Option<Vec<u8>>,
    /// Its entries, contiguous.
    pub(super) entries: Vec<DiskEntry>,
}

impl Index {
    /// Opens or makes it; waits at most `patience` for another process to let go of it.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, DiskError> {
        let db = open_database(path, patience)?;
        let failed = |source| DiskError::File { action: "sync", path: path.to_owned(), source };
        let file = File::open(path.join("db")).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync_dir(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), db, file })
    }

    /// Which snapshot the log begins with.
    pub(super) fn snapshot(&self) -> Result<Option<SnapshotName>, DiskError> {
        let Some(value) = self.value(SNAPSHOT)? else { return Ok(None) };
        let name = SnapshotName::decode(&value);
        Ok(Some(name.ok_or_else(|| self.damaged("the name of the snapshot has the wrong form"))?))
    }

    /// Notes which snapshot the log begins with, durable on return.
    pub(super) fn set_snapshot(&self, name: &SnapshotName) -> Result<(), DiskError> {
        let mut writes = Batch::default();
        writes.insert(SNAPSHOT, released::seal(SNAPSHOT, &name.encode()));
        self.write(writes)
    }

    /// Refuses while there is so little room that a write might fail in the middle, which sled would not survive.
    pub(super) fn check_room(&self) -> Result<(), DiskError> {
        room::check(&self.path, 2 * SEGMENT as u64)
    }

    /// The log of version 0.1.0, if one is here.
    pub(super) fn released(&self) -> Result<Option<Released>, DiskError> {
        let hard_state = self.value(HARD_STATE)?;
        let compacted = match self.value(COMPACTED)? {
            Some(value) => {
                let value = value.try_into();
                let value =
                    value.map_err(|_| self.damaged("the compaction mark has the wrong form"))?;
                Some(u64::from_be_bytes(value))
            }
            None => None,
        };
        let mut assembler = Assembler::default();
        let mut entries: Vec<DiskEntry> = Vec::new();
        for record in self.db.scan_prefix([released::PREFIX]) {
            let (key, value) = record.map_err(|error| self.failed(error))?;
            let fed = assembler.feed(&key, &value);
            entries.extend(fed.map_err(|cause| self.damaged(&cause.to_string()))?);
        }
        assembler.finish().map_err(|cause| self.damaged(&cause.to_string()))?;
        let there = hard_state.is_some() || compacted.is_some() || !entries.is_empty();
        entries.retain(|entry| entry.index > compacted.unwrap_or(0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1) {
            return Err(self.damaged(&format!("entry {} is missing", pair[0].index + 1)));
        }
        Ok(there.then_some(Released { hard_state, entries }))
    }

    /// Removes the log of version 0.1.0, wholly or not at all.
    pub(super) fn forget_released(&self) -> Result<(), DiskError> {
        let mut writes = Batch::default();
        for record in self.db.scan_prefix([released::PREFIX]) {
            writes.remove(record.map_err(|error| self.failed(error))?.0);
        }
        writes.remove(HARD_STATE);
        writes.remove(COMPACTED);
        self.write(writes)
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(value) = self.db.get(key).map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(key);
        let payload = released::unseal(key, &value)
            .ok_or_else(|| self.damaged(&format!("the record `{name}` has a wrong check sum")))?;
        Ok(Some(payload.to_vec()))
    }

    fn write(&self, writes: Batch) -> Result<(), DiskError> {
        self.db.apply_batch(writes).map_err(|error| self.failed(error))?;
        self.db.flush().map_err(|error| self.failed(error))?;
        let path = || self.path.join("db");
        self.file.sync_data().map_err(|source| DiskError::File {
            action: "sync",
            path: path(),
            source,
        })
    }

    fn failed(&self, source: sled::Error) -> DiskError {
        DiskError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn damaged(&self, reason: &str) -> DiskError {
        DiskError::Damaged { path: self.path.clone(), reason: reason.to_owned() }
    }
}

fn open_database(path: &Path, patience: Duration) -> Result<Db, DiskError> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT)
        .cache_capacity(CACHE)
        .flush_every_ms(None);
    let patience = Instant::now() + patience;
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            Err(error) if !is_lock(&error) => {
                return Err(DiskError::Database { path: path.to_owned(), source: error.into() });
            }
            Err(_) if Instant::now() >= patience => {
                return Err(DiskError::Locked { path: path.to_owned() });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// sled wraps the lock's error in one of another kind, with the first one's text.
fn is_lock(error: &sled::Error) -> bool {
    let sled::Error::Io(error) = error else { return false };
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

#[cfg(test)]
impl Index {
    /// Writes a log as version 0.1.0 did.
    pub(super) fn write_released(&self, hard_state: &[u8], compacted: u64, entries: &[DiskEntry]) {
        let mut writes = Batch::default();
        for (key, value) in entries.iter().flat_map(released::written::encode) {
            writes.insert(&key, value);
        }
        writes.insert(HARD_STATE, released::seal(HARD_STATE, hard_state));
        writes.insert(COMPACTED, released::seal(COMPACTED, &compacted.to_be_bytes()));
        self.write(writes).unwrap();
    }
}
