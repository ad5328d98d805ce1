//! Files of this controller's own snapshots, made beside the writes: with a large state that takes seconds.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::snapshot::{SnapshotDir, SnapshotName};
use crate::core::DiskSnapshot;

/// A snapshot, and up to which entry the log may go once its file is there.
pub(super) struct Wanted {
    /// The snapshot.
    pub(super) snapshot: DiskSnapshot,
    /// The entry.
    pub(super) compact_to: Option<u64>,
}

/// What came of it.
pub(super) struct Made {
    /// The name of the file, or why there is none.
    pub(super) name: io::Result<SnapshotName>,
    /// The entry up to which the log may go.
    pub(super) compact_to: Option<u64>,
}

/// At most one file at a time. Of those that are wanted meanwhile only the last one counts.
pub(super) struct Making {
    folder: Arc<SnapshotDir>,
    maker: Option<JoinHandle<Made>>,
    next: Option<Wanted>,
}

impl Making {
    /// Nothing is being made.
    pub(super) fn new(folder: Arc<SnapshotDir>) -> Self {
        Self { folder, maker: None, next: None }
    }

    /// Wants a file.
    pub(super) fn want(&mut self, wanted: Wanted) -> io::Result<()> {
        self.next = Some(wanted);
        self.begin()
    }

    /// Whether anything is being made.
    pub(super) fn is_busy(&self) -> bool {
        self.maker.is_some()
    }

    /// What has been made, if that has ended. The next one begins once [`Self::begin`] is called: until then its file
    /// cannot be among those that are cleaned away.
    pub(super) fn take(&mut self) -> io::Result<Option<Made>> {
        let Some(maker) = self.maker.take_if(|maker| maker.is_finished()) else { return Ok(None) };
        let made = maker.join().map_err(|_| io::Error::other("the thread panicked"))?;
        Ok(Some(made))
    }

    /// Begins with the file that is wanted next.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.maker.is_none()
            && let Some(Wanted { snapshot, compact_to }) = self.next.take()
        {
            let folder = Arc::clone(&self.folder);
            let make = move || {
                let (index, term) = (snapshot.index, snapshot.term);
                let name = folder.write(index, term, &snapshot.encode());
                Made { name, compact_to }
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
