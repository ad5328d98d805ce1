//! One controller's disk: the log in files, its snapshots, and in sled which snapshot it begins with.
//!
//! A snapshot comes in three steps, each durable before the next: its file, its name in the index, its place in the
//! log. Files of a controller's own snapshots are made beside the writes; nothing waits for them. After a crash between the last two the log may know less than the index; [`DiskStore::agree`] mends that.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::index::Index;
use super::log::{EntryLog, Loaded};
use super::making::{Made, Making, Wanted};
use super::seal::Seal;
use super::snapshot::{SnapshotDir, SnapshotName, sync_dir};
use super::{DiskError, Store, Wait};
use crate::core::{DiskBatch, DiskEntry, DiskSnapshot, Recovered, Shortage, SnapshotBody};
use crate::shell::seal::{DataKey, UnlockKey};

/// How long the lock of a dying process is waited for.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The log's folder; version 0.1.0 had sled in it.
const LOG: &str = "log";
/// sled's folder.
const INDEX: &str = "index";
const SNAPSHOTS: &str = "snapshots";

/// See the module.
pub struct DiskStore {
    path: PathBuf,
    key: Arc<DataKey>,
    index: Index,
    log: EntryLog,
    snapshots: Arc<SnapshotDir>,
    snapshot: Option<SnapshotName>,
    making: Making,
}

impl DiskStore {
    /// Opens or makes the disk in `path`, checks all of it and reads it.
    pub fn open(path: &Path) -> Result<(Self, Recovered), DiskError> {
        Self::open_within(path, LOCK_PATIENCE, None)
    }

    /// Opens a disk that `init` or `join` has made. One that has gone must not begin anew under the same raft id: it
    /// has promised things that are forgotten now.
    pub fn open_existing(path: &Path, patience: Duration) -> Result<(Self, Recovered), DiskError> {
        Self::open_unlocked(path, patience, None)
    }

    /// The same with the unlock key of a locked cluster.
    pub fn open_unlocked(
        path: &Path,
        patience: Duration,
        unlock: Option<&UnlockKey>,
    ) -> Result<(Self, Recovered), DiskError> {
        if [INDEX, LOG].iter().any(|folder| path.join(folder).join("db").exists()) {
            return Self::open_within(path, patience, unlock);
        }
        Err(DiskError::Damaged {
            path: path.to_owned(),
            reason: String::from("there is no log, though this host joined a cluster"),
        })
    }

    /// The key of what it wraps.
    pub fn key(&self) -> Arc<DataKey> {
        Arc::clone(&self.key)
    }

    fn open_within(
        path: &Path,
        patience: Duration,
        unlock: Option<&UnlockKey>,
    ) -> Result<(Self, Recovered), DiskError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::File { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
        rename_released(path).map_err(failed("rename", &path.join(LOG)))?;
        // Its lock is held from here on: nobody else makes a key.
        let index = Index::open(&path.join(INDEX), patience)?;
        let key = Arc::new(match unlock {
            Some(unlock) => DataKey::unwrap(path, unlock)?,
            None => DataKey::open_or_make(path)?,
        });
        let seal: Arc<dyn Seal> = Arc::<DataKey>::clone(&key);
        let folder = path.join(SNAPSHOTS);
        let snapshots = SnapshotDir::open(folder.clone(), Arc::clone(&seal));
        let snapshots = Arc::new(snapshots.map_err(failed("make", &folder))?);
        let (log, mut loaded) = open_log(&path.join(LOG), &index, seal)?;
        for folder in [path, path.parent().unwrap_or(path)] {
            sync_dir(folder).map_err(failed("sync", folder))?;
        }
        let snapshot = index.snapshot()?;
        let making = Making::new(Arc::clone(&snapshots));
        let path = path.to_owned();
        let mut store = Self { path, key, index, log, snapshots, snapshot, making };
        store.agree(&mut loaded)?;
        let recovered = store.recover(loaded)?;
        Ok((store, recovered))
    }

    /// Tells the log of a snapshot that it had not been told of when the process ended.
    fn agree(&mut self, loaded: &mut Loaded) -> Result<(), DiskError> {
        let known = loaded.head.snapshot;
        let (index, term) = self.snapshot.as_ref().map_or((0, 0), |name| (name.index, name.term));
        if known == (index, term) {
            return Ok(());
        }
        if known.0 > index {
            let reason = format!("the snapshot at entry {} is missing", known.0);
            return Err(self.damage(reason));
        }
        let has = |entry: &DiskEntry| (entry.index, entry.term) == (index, term);
        if !loaded.entries.iter().any(has) {
            // A leader's snapshot, which was to replace them all.
            loaded.entries.clear();
            self.log.truncate(0);
        }
        self.log.snapshot(index, term);
        self.log.commit()
    }

    fn recover(&self, loaded: Loaded) -> Result<Recovered, DiskError> {
        let Loaded { head, entries } = loaded;
        self.clean()?;
        let snapshot = match &self.snapshot {
            Some(name) => {
                let content = self.snapshots.read(name);
                let content = content.map_err(|source| self.snapshots.failed("read", source))?;
                Some((name.index, name.term, content))
            }
            None => None,
        };
        let start = self.snapshot.as_ref().map_or(0, |name| name.index);
        if entries.first().is_some_and(|first| first.index > start + 1) {
            return Err(self.damage(format!("entry {} is missing", start + 1)));
        }
        if entries.last().is_some_and(|last| last.index < start) {
            return Err(self.damage(format!("the log ends before its snapshot at entry {start}")));
        }
        Ok(Recovered { hard_state: head.hard_state, snapshot, entries })
    }

    /// Writes a snapshot's file and notes its name.
    fn put(&mut self, snapshot: &DiskSnapshot, wait: &mut Wait<'_>) -> Result<(), DiskError> {
        let name = until_there_is_room(wait, || {
            self.index.check_room()?;
            self.snapshots.write(snapshot.index, snapshot.term, snapshot.encode())
        })?;
        self.index.set_snapshot(&name)?;
        self.snapshot = Some(name);
        self.clean()
    }

    /// Has the file of a snapshot made that stands for entries which the log holds too.
    fn want(&mut self, snapshot: &DiskSnapshot, compact_to: Option<u64>) -> Result<(), DiskError> {
        let wanted = Wanted { snapshot: snapshot.clone(), compact_to };
        self.making.want(wanted).map_err(|source| self.snapshots.failed("make", source))
    }

    /// Begins the log with a snapshot whose file has been made; the log says so with the next commit.
    fn adopt(&mut self) -> Result<(), DiskError> {
        if let Some(Made { wanted, name }) = self.making.take()? {
            // A leader's snapshot may have come meanwhile.
            let is_new = self.snapshot.as_ref().is_none_or(|known| known.index < name.index);
            if is_new && self.index.check_room().is_err() {
                self.making.want_later(wanted);
            } else if is_new {
                self.index.set_snapshot(&name)?;
                self.log.snapshot(name.index, name.term);
                if let Some(to) = wanted.compact_to {
                    self.log.compact(to);
                }
                self.snapshot = Some(name);
            }
            self.clean()?;
        }
        self.making.begin().map_err(|source| self.snapshots.failed("make", source))
    }

    fn clean(&self) -> Result<(), DiskError> {
        let cleaned = self.snapshots.retain(self.snapshot.as_ref());
        cleaned.map_err(|source| self.snapshots.failed("clean", source))
    }

    fn damage(&self, reason: String) -> DiskError {
        DiskError::Damaged { path: self.path.clone(), reason }
    }
}

impl Store for DiskStore {
    fn write_patiently(
        &mut self,
        batches: &[DiskBatch],
        wait: &mut Wait<'_>,
    ) -> Result<(), DiskError> {
        self.adopt()?;
        for batch in batches {
            match &batch.snapshot {
                Some(snapshot) if is_own(batch) => {
                    self.want(snapshot, batch.compact_to)?;
                    let rest = DiskBatch { snapshot: None, compact_to: None, ..batch.clone() };
                    self.log.stage(&rest)?;
                }
                Some(snapshot) => {
                    until_there_is_room(wait, || self.log.commit())?;
                    self.put(snapshot, wait)?;
                    self.log.stage(batch)?;
                }
                None => self.log.stage(batch)?,
            }
        }
        until_there_is_room(wait, || self.log.commit())
    }

    fn rest(&mut self) -> Result<bool, DiskError> {
        self.adopt()?;
        match self.log.commit() {
            // It stays staged for the next write.
            Err(DiskError::Full(_)) => {}
            committed => committed?,
        }
        self.log.look_for_room()?;
        Ok(self.making.is_busy() || self.log.is_making())
    }

    fn shortage(&mut self) -> Result<Option<Shortage>, DiskError> {
        Ok(self.log.look_for_room()?.cloned())
    }
}

/// Attempts something until there is room for it, or nobody waits any more.
fn until_there_is_room<T>(
    wait: &mut Wait<'_>,
    mut attempt: impl FnMut() -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    loop {
        match attempt() {
            Err(DiskError::Full(shortage)) if wait(&shortage) => {}
            ended => return ended,
        }
    }
}

/// Whether a batch's snapshot stands for entries that the log holds too, so that it may come later than all else.
fn is_own(batch: &DiskBatch) -> bool {
    let snapshot = batch.snapshot.as_ref();
    let unmade = snapshot.is_some_and(|made| matches!(made.body, SnapshotBody::State { .. }));
    unmade && batch.truncate_from.is_none()
}

/// Version 0.1.0 had sled where the log is now.
fn rename_released(path: &Path) -> io::Result<()> {
    if path.join(LOG).join("db").exists() && !path.join(INDEX).exists() {
        fs::rename(path.join(LOG), path.join(INDEX))?;
        sync_dir(path)?;
    }
    Ok(())
}

/// Opens the log; one that version 0.1.0 left in the index is taken over first.
fn open_log(
    path: &Path,
    index: &Index,
    seal: Arc<dyn Seal>,
) -> Result<(EntryLog, Loaded), DiskError> {
    let Some(released) = index.released()? else { return EntryLog::open(path, seal) };
    // What an earlier attempt left is not whole.
    if path.exists() {
        fs::remove_dir_all(path).map_err(|source| DiskError::File {
            action: "clear",
            path: path.to_owned(),
            source,
        })?;
    }
    let (mut log, _) = EntryLog::open(path, Arc::clone(&seal))?;
    for entry in &released.entries {
        log.append(entry)?;
    }
    if let Some(state) = released.hard_state {
        log.hard_state(state);
    }
    if let Some(name) = index.snapshot()? {
        log.snapshot(name.index, name.term);
    }
    log.commit()?;
    drop(log);
    index.forget_released()?;
    tracing::info!(entries = released.entries.len(), "took over the log of version 0.1.0");
    EntryLog::open(path, seal)
}
