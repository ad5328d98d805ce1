//! Files of this controller's own snapshots, made beside the writes: with a large state that takes seconds. One for
//! which there is no room is made again later; until then the log goes without.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use super::DiskError;
use super::snapshot::{SnapshotDir, SnapshotName};
use crate::core::DiskSnapshot;

/// How nice the thread is that makes a file: with a large state it works for seconds, and the log goes first.
const BEHIND_OTHERS: i32 = 10;
/// Before another try when there was no room.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// A snapshot, and up to which entry the log may go once its file is there.
pub(super) struct Wanted {
    /// The snapshot.
    pub(super) snapshot: DiskSnapshot,
    /// The entry.
    pub(super) compact_to: Option<u64>,
}

/// A snapshot whose file is there.
pub(super) struct Made {
    /// What was wanted.
    pub(super) wanted: Wanted,
    /// The name of the file.
    pub(super) name: SnapshotName,
}

/// At most one file at a time. Of those that are wanted meanwhile only the last one counts.
pub(super) struct Making {
    folder: Arc<SnapshotDir>,
    maker: Option<JoinHandle<(Wanted, Result<SnapshotName, DiskError>)>>,
    next: Option<Wanted>,
    /// Not before then: there was no room.
    not_before: Option<Instant>,
}

impl Making {
    /// Nothing is being made.
    pub(super) fn new(folder: Arc<SnapshotDir>) -> Self {
        Self { folder, maker: None, next: None, not_before: None }
    }

    /// Wants a file.
    pub(super) fn want(&mut self, wanted: Wanted) -> io::Result<()> {
        self.next = Some(wanted);
        self.begin()
    }

    /// Wants a file again for which there was no room, unless a later one is wanted by now.
    pub(super) fn want_later(&mut self, wanted: Wanted) {
        self.next.get_or_insert(wanted);
        self.not_before = Some(Instant::now() + TRY_AGAIN);
    }

    /// Whether anything is being made, or wanted.
    pub(super) fn is_busy(&self) -> bool {
        self.maker.is_some() || self.next.is_some()
    }

    /// What has been made, if that has ended. The next one begins once [`Self::begin`] is called: until then its file
    /// cannot be among those that are cleaned away.
    pub(super) fn take(&mut self) -> Result<Option<Made>, DiskError> {
        let Some(maker) = self.maker.take_if(|maker| maker.is_finished()) else { return Ok(None) };
        let panicked = || self.folder.failed("make", io::Error::other("the thread panicked"));
        let (wanted, made) = maker.join().map_err(|_| panicked())?;
        match made {
            Ok(name) => Ok(Some(Made { wanted, name })),
            Err(DiskError::Full(shortage)) => {
                tracing::warn!(%shortage, "a snapshot has to wait");
                self.want_later(wanted);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins with the file that is wanted next.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.maker.is_some() || self.not_before.is_some_and(|then| Instant::now() < then) {
            return Ok(());
        }
        if let Some(wanted) = self.next.take() {
            self.not_before = None;
            let folder = Arc::clone(&self.folder);
            let make = move || {
                // Of the calling thread alone, on Linux. Where it is refused, the others only wait longer.
                let _ = setpriority_process(None, BEHIND_OTHERS);
                let (index, term) = (wanted.snapshot.index, wanted.snapshot.term);
                let name = folder.write(index, term, wanted.snapshot.encode());
                (wanted, name)
            };
            let name = String::from("snapshot");
            self.maker = Some(std::thread::Builder::new().name(name).spawn(make)?);
        }
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
    }
}
