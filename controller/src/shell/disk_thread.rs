//! The thread that owns the disk: all batches that wait are written with one sync.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::Store;
use super::fatal::{die, vital_thread};
use crate::core::DiskBatch;

/// Batches written with one sync at most; each may be as large as one Raft message.
const GROUP: usize = 256;

/// How often is looked after what is done beside the writes, while there are none.
const BESIDE: Duration = Duration::from_millis(100);

/// The way to the disk.
pub struct DiskThread {
    batches: Sender<DiskBatch>,
    thread: JoinHandle<()>,
}

impl DiskThread {
    /// Starts the thread; `persisted` is told the number of the last durable batch, and what its write took.
    pub fn start(
        store: impl Store + 'static,
        persisted: impl FnMut(u64, Duration) + Send + 'static,
    ) -> io::Result<Self> {
        let (batches, waiting) = channel();
        let thread = vital_thread("disk", move || run(store, &waiting, persisted))?;
        Ok(Self { batches, thread })
    }

    /// Puts a batch in the queue. Raft itself bounds how much is under way.
    pub fn write(&self, batch: DiskBatch) {
        // The thread ends only when this sender is dropped, or with the whole process.
        let _ = self.batches.send(batch);
    }

    /// Waits until everything is on disk, and closes it.
    pub fn finish(self) {
        drop(self.batches);
        let _ = self.thread.join();
    }
}

fn run(
    mut store: impl Store,
    waiting: &Receiver<DiskBatch>,
    mut persisted: impl FnMut(u64, Duration),
) {
    let mut busy = false;
    loop {
        let patience = if busy { BESIDE } else { Duration::from_hours(1) };
        let first = match waiting.recv_timeout(patience) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                busy = store.rest().unwrap_or_else(|error| die(&chain(&error)));
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        busy = true;
        let mut group = vec![first];
        group.extend(waiting.try_iter().take(GROUP - 1));
        let begun = Instant::now();
        if let Err(error) = store.write(&group) {
            die(&chain(&error));
        }
        let last = group.iter().map(|batch| batch.number).max().unwrap_or_default();
        persisted(last, begun.elapsed());
    }
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::shell::disk::DiskError;

    /// Notes each write, after waiting for leave.
    struct Fake {
        leave: Receiver<()>,
        writes: Arc<Mutex<Vec<Vec<u64>>>>,
    }

    impl Store for Fake {
        fn write(&mut self, batches: &[DiskBatch]) -> Result<(), DiskError> {
            self.leave.recv().unwrap();
            let numbers = batches.iter().map(|batch| batch.number).collect();
            self.writes.lock().unwrap().push(numbers);
            Ok(())
        }

        fn rest(&mut self) -> Result<bool, DiskError> {
            Ok(false)
        }
    }

    fn batch(number: u64) -> DiskBatch {
        DiskBatch {
            number,
            truncate_from: None,
            snapshot: None,
            compact_to: None,
            entries: Vec::new(),
            hard_state: None,
        }
    }

    #[test]
    fn what_waits_is_written_together() {
        let (leave, waits) = mpsc::channel();
        let writes = Arc::new(Mutex::new(Vec::new()));
        let store = Fake { leave: waits, writes: Arc::clone(&writes) };
        let (done, persisted) = mpsc::channel();
        let disk = DiskThread::start(store, move |number, _| done.send(number).unwrap()).unwrap();

        disk.write(batch(1));
        leave.send(()).unwrap();
        assert_eq!(persisted.recv().unwrap(), 1);
        disk.write(batch(2));
        // The thread now waits for leave within the write of batch 2, or will take all at once.
        (3..=9).for_each(|number| disk.write(batch(number)));
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        while persisted.recv().unwrap() < 9 {}
        disk.finish();

        let writes = writes.lock().unwrap();
        assert!(writes.len() <= 3, "{writes:?}");
        assert_eq!(writes.concat(), (1..=9).collect::<Vec<_>>());
    }
}
