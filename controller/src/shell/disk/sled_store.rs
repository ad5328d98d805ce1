//! The log in sled: one tree, one atomic batch for all that waits, one sync of the database file.
//!
//! sled's own flush does not sync on Linux, so the file is also held open here and synced after each flush.
//! Any error is final: the caller stops the process, and a failed sync is never tried again.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::{Batch, Db};

use super::record::{self, Assembler};
use super::snapshot::{SnapshotDir, SnapshotName, sync_dir};
use super::{DiskError, Store};
use crate::core::{DiskBatch, DiskEntry, DiskSnapshot, Recovered};

const HARD_STATE: &[u8] = b"mh";
const SNAPSHOT: &[u8] = b"ms";
const COMPACTED: &[u8] = b"mc";

/// Entries that one write removes on the side: many at once would stall it and grow the file.
const SLICE: usize = 256;

/// How long the lock of a dying process is waited for.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A leaf of the tree holds up to 17 values of 8 KiB. sled moves what is larger than a quarter of a segment into files
/// that it never syncs, so segments must be large; each costs as much memory, so not larger.
const SEGMENT: usize = 2 << 20;
/// All is read once, at the start.
const CACHE: u64 = 4 << 20;

/// The log and its snapshots in one folder.
pub struct SledStore {
    path: PathBuf,
    db: Db,
    /// The same file that sled writes: a sync is per inode, whoever asks.
    file: File,
    snapshots: SnapshotDir,
    snapshot: Option<SnapshotName>,
    layout: Layout,
}

impl SledStore {
    /// Opens or makes the log in `path`, checks all of it and reads it.
    pub fn open(path: &Path) -> Result<(Self, Recovered), DiskError> {
        Self::open_within(path, LOCK_PATIENCE)
    }

    fn open_within(path: &Path, patience: Duration) -> Result<(Self, Recovered), DiskError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::File { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        let database = path.join("log");
        let db = open_database(&database, patience)?;
        let file = File::open(database.join("db")).map_err(failed("open", &database))?;
        file.sync_all().map_err(failed("sync", &database))?;
        for folder in [database.as_path(), path, path.parent().unwrap_or(path)] {
            sync_dir(folder).map_err(failed("sync", folder))?;
        }
        let folder = path.join("snapshots");
        let snapshots = SnapshotDir::open(folder.clone()).map_err(failed("make", &folder))?;
        let layout = Layout::default();
        let mut store = Self { path: path.to_owned(), db, file, snapshots, snapshot: None, layout };
        let recovered = store.load()?;
        Ok((store, recovered))
    }

    /// Opens a log that `init` or `join` has made. A log that has gone must not begin anew under the same raft id:
    /// it has promised things that are forgotten now.
    pub fn open_existing(path: &Path, patience: Duration) -> Result<(Self, Recovered), DiskError> {
        if path.join("log/db").exists() {
            return Self::open_within(path, patience);
        }
        Err(DiskError::Damaged {
            path: path.to_owned(),
            reason: String::from("there is no log, though this host joined a cluster"),
        })
    }

    fn load(&mut self) -> Result<Recovered, DiskError> {
        self.check_blobs()?;
        let hard_state = self.meta(HARD_STATE)?;
        let compacted = match self.meta(COMPACTED)? {
            Some(value) => {
                let value = value.try_into().map_err(|_| self.damaged("compaction mark"))?;
                u64::from_be_bytes(value)
            }
            None => 0,
        };
        let snapshot = match self.meta(SNAPSHOT)? {
            Some(value) => Some(
                SnapshotName::decode(&value).ok_or_else(|| self.damaged("name of the snapshot"))?,
            ),
            None => None,
        };
        self.snapshots
            .retain(snapshot.as_ref())
            .map_err(|source| self.file_error("clean", "snapshots", source))?;
        let content = match &snapshot {
            Some(name) => {
                let content = self.snapshots.read(name);
                Some(content.map_err(|source| self.file_error("read", "snapshots", source))?)
            }
            None => None,
        };
        let entries = self.load_entries(compacted)?;
        self.check_contiguous(&entries, snapshot.as_ref())?;
        let named = snapshot.as_ref().map(|name| (name.index, name.term)).zip(content);
        let snapshot_content = named.map(|((index, term), content)| (index, term, content));
        self.snapshot = snapshot;
        Ok(Recovered { hard_state, snapshot: snapshot_content, entries })
    }

    fn load_entries(&mut self, compacted: u64) -> Result<Vec<DiskEntry>, DiskError> {
        let mut layout = Layout { compacted, floor: compacted, ..Layout::default() };
        let mut assembler = Assembler::default();
        let mut entries: Vec<DiskEntry> = Vec::new();
        for record in self.db.scan_prefix([record::PREFIX]) {
            let (key, value) = record.map_err(|error| self.database_error(error))?;
            let found = assembler.feed(&key, &value).map_err(|error| self.record_error(error))?;
            let Some((entry, parts)) = found else { continue };
            if entry.index <= compacted {
                layout.doomed.push_back((entry.index, parts));
                continue;
            }
            if entries.is_empty() {
                layout.compacted = entry.index - 1;
            }
            layout.live.push_back(parts);
            entries.push(entry);
        }
        assembler.finish().map_err(|error| self.record_error(error))?;
        self.layout = layout;
        Ok(entries)
    }

    fn check_contiguous(
        &self,
        entries: &[DiskEntry],
        snapshot: Option<&SnapshotName>,
    ) -> Result<(), DiskError> {
        if let Some(pair) = entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1) {
            let reason = format!("entry {} is missing", pair[0].index + 1);
            return Err(self.damage(reason));
        }
        let start = snapshot.map_or(0, |name| name.index);
        match entries.first() {
            Some(first) if first.index > start + 1 => {
                Err(self.damage(format!("entry {} is missing", start + 1)))
            }
            Some(_) if entries.last().is_some_and(|last| last.index < start) => {
                Err(self.damage(format!("the log ends before its snapshot at entry {start}")))
            }
            _ => Ok(()),
        }
    }

    fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(value) = self.db.get(key).map_err(|error| self.database_error(error))? else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(key);
        let payload = record::unseal(key, &value)
            .ok_or_else(|| self.damage(format!("the record `{name}` has a wrong check sum")))?;
        Ok(Some(payload.to_vec()))
    }

    /// sled moves large values to files of their own that it never syncs; ours must not be among them.
    fn check_blobs(&self) -> Result<(), DiskError> {
        let blobs = self.path.join("log/blobs");
        let mut found = match fs::read_dir(&blobs) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.file_error("read", "log/blobs", source)),
        };
        match found.next() {
            None => Ok(()),
            Some(_) => Err(self.damage(String::from("values were written outside of the log"))),
        }
    }

    fn stage(&mut self, batch: &DiskBatch, writes: &mut Batch) -> Result<(), DiskError> {
        if let Some(from) = batch.truncate_from {
            self.layout.truncate(from, writes);
        }
        if let Some(snapshot) = &batch.snapshot {
            self.stage_snapshot(snapshot, writes)?;
        }
        if let Some(index) = batch.compact_to.filter(|index| *index > self.layout.compacted) {
            self.layout.compact(index);
            self.layout.floor = self.layout.compacted;
            let value = self.layout.floor.to_be_bytes();
            writes.insert(COMPACTED, record::seal(COMPACTED, &value));
        }
        for entry in &batch.entries {
            self.layout.append(entry, writes)?;
        }
        if let Some(state) = &batch.hard_state {
            writes.insert(HARD_STATE, record::seal(HARD_STATE, state));
        }
        Ok(())
    }

    fn stage_snapshot(
        &mut self,
        snapshot: &DiskSnapshot,
        writes: &mut Batch,
    ) -> Result<(), DiskError> {
        let content = snapshot.encode();
        let name = SnapshotName::of(snapshot.index, snapshot.term, &content);
        self.snapshots
            .write(&name, &content)
            .map_err(|source| self.file_error("write", "snapshots", source))?;
        writes.insert(SNAPSHOT, record::seal(SNAPSHOT, &name.encode()));
        self.snapshot = Some(name);
        Ok(())
    }

    fn apply(&self, writes: Batch) -> Result<(), DiskError> {
        self.db.apply_batch(writes).map_err(|error| self.database_error(error))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.db.flush().map_err(|error| self.database_error(error))?;
        self.file.sync_data().map_err(|source| self.file_error("sync", "log/db", source))
    }

    fn database_error(&self, source: sled::Error) -> DiskError {
        DiskError::Database { path: self.path.clone(), source: Box::new(source) }
    }

    fn record_error(&self, source: record::RecordError) -> DiskError {
        DiskError::Record { path: self.path.clone(), source }
    }

    fn file_error(&self, action: &'static str, name: &str, source: io::Error) -> DiskError {
        DiskError::File { action, path: self.path.join(name), source }
    }

    fn damaged(&self, what: &str) -> DiskError {
        self.damage(format!("the {what} has the wrong form"))
    }

    fn damage(&self, reason: String) -> DiskError {
        DiskError::Damaged { path: self.path.clone(), reason }
    }
}

impl Store for SledStore {
    fn write(&mut self, batches: &[DiskBatch]) -> Result<(), DiskError> {
        let snapshot = self.snapshot.clone();
        let mut writes = Batch::default();
        for batch in batches {
            self.stage(batch, &mut writes)?;
        }
        self.layout.sweep(&mut writes);
        self.apply(writes)?;
        if !batches.iter().any(|batch| batch.must_sync) {
            return Ok(());
        }
        self.sync()?;
        if self.snapshot != snapshot {
            self.snapshots
                .retain(self.snapshot.as_ref())
                .map_err(|source| self.file_error("clean", "snapshots", source))?;
            self.check_blobs()?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<bool, DiskError> {
        if self.layout.doomed.is_empty() {
            return Ok(false);
        }
        let mut writes = Batch::default();
        self.layout.sweep(&mut writes);
        self.apply(writes)?;
        Ok(true)
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

/// What the tree holds of the log, so that removals name exactly the keys that exist.
#[derive(Debug, Default)]
struct Layout {
    /// The entry before the first live one.
    compacted: u64,
    /// No entry up to here may come back: a restart takes them for compacted.
    floor: u64,
    /// Parts of each entry from `compacted + 1` on.
    live: VecDeque<u16>,
    /// Compacted entries whose records wait for their removal, with their parts.
    doomed: VecDeque<(u64, u16)>,
}

impl Layout {
    fn last(&self) -> u64 {
        self.compacted + self.live.len() as u64
    }

    /// Removes the records of the entries from `index` on.
    fn truncate(&mut self, index: u64, writes: &mut Batch) {
        while self.last() >= index {
            let last = self.last();
            let Some(parts) = self.live.pop_back() else { return };
            remove(last, parts, writes);
        }
    }

    fn append(&mut self, entry: &DiskEntry, writes: &mut Batch) -> Result<(), DiskError> {
        if self.live.is_empty() {
            self.compacted = entry.index.saturating_sub(1).max(self.floor);
        }
        if entry.index != self.last() + 1 {
            return Err(DiskError::Gap { expected: self.last() + 1, found: entry.index });
        }
        let records = record::encode(entry);
        self.live.push_back(u16::try_from(records.len()).expect("entries are at most 1 MiB"));
        for (key, value) in records {
            writes.insert(&key, value);
        }
        Ok(())
    }

    /// Takes the entries up to `index` out of the log; their records go later, in slices.
    fn compact(&mut self, index: u64) {
        while self.compacted < index {
            let Some(parts) = self.live.pop_front() else { break };
            self.compacted += 1;
            self.doomed.push_back((self.compacted, parts));
        }
    }

    /// Removes the records of the next few compacted entries.
    fn sweep(&mut self, writes: &mut Batch) {
        for _ in 0..SLICE {
            let Some((index, parts)) = self.doomed.pop_front() else { return };
            remove(index, parts, writes);
        }
    }
}

fn remove(index: u64, parts: u16, writes: &mut Batch) {
    (0..parts).for_each(|part| writes.remove(&record::key(index, part)));
}
