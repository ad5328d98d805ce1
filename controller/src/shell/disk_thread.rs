//! The thread that owns the disk: all batches that wait are written with one sync.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use swarm_proto::failure::sentence;

use super::disk::{DiskError, Store};
use super::fatal::{die, vital_thread};
use crate::core::{DiskBatch, Shortage};

/// Batches written with one sync at most; each may be as large as one Raft message.
const GROUP: usize = 256;

/// Between two tries to write while there is no room.
const NO_ROOM: Duration = Duration::from_millis(200);

/// How often is looked after what is done beside the writes, while there are none.
const BESIDE: Duration = Duration::from_millis(100);

/// What the thread tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The number of the last durable batch, and what its write took; waiting for room does not count.
    Persisted(u64, Duration),
    /// There is no room for much more than what was handed over, or there is again.
    Room(Option<Shortage>),
}

/// The way to the disk.
pub struct DiskThread {
    batches: Sender<DiskBatch>,
    thread: JoinHandle<()>,
    /// Whether to write what was handed over only if there is room.
    hurry: Arc<AtomicBool>,
}

impl DiskThread {
    /// Starts the thread; `tell` gets its news.
    pub fn start(
        store: impl Store + 'static,
        tell: impl FnMut(News) + Send + 'static,
    ) -> io::Result<Self> {
        let (batches, waiting) = channel();
        let hurry = Arc::new(AtomicBool::new(false));
        let mut writer = Writer { store, tell, is_short: false, hurry: Arc::clone(&hurry) };
        let thread = vital_thread("disk", move || {
            writer.run(&waiting).unwrap_or_else(|error| die(&sentence(&error)));
        })?;
        Ok(Self { batches, thread, hurry })
    }

    /// Puts a batch in the queue. Raft itself bounds how much is under way.
    pub fn write(&self, batch: DiskBatch) {
        // The thread ends only when this sender is dropped, or with the whole process.
        let _ = self.batches.send(batch);
    }

    /// Waits until everything is on disk that there is room for, and closes it.
    pub fn finish(self) {
        self.hurry.store(true, Ordering::Relaxed);
        drop(self.batches);
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct Writer<S, T> {
    store: S,
    tell: T,
    /// Whether the last word was that there is no room.
    is_short: bool,
    hurry: Arc<AtomicBool>,
}

impl<S: Store, T: FnMut(News)> Writer<S, T> {
    /// Writes until nobody hands over any more, or for want of room nothing more can be written in a hurry.
    fn run(&mut self, waiting: &Receiver<DiskBatch>) -> Result<(), DiskError> {
        let mut busy = false;
        loop {
            let patience = if busy { BESIDE } else { Duration::from_hours(1) };
            match waiting.recv_timeout(patience) {
                Ok(first) => {
                    busy = true;
                    let mut group = vec![first];
                    group.extend(waiting.try_iter().take(GROUP - 1));
                    match self.write(&group) {
                        Err(DiskError::Full(_)) => return Ok(()),
                        written => written?,
                    }
                }
                Err(RecvTimeoutError::Timeout) => busy = self.store.rest()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let shortage = self.store.shortage()?;
            self.tell_of_room(shortage);
        }
    }

    fn write(&mut self, group: &[DiskBatch]) -> Result<(), DiskError> {
        let begun = Instant::now();
        let mut waited = Duration::ZERO;
        let Self { store, tell, is_short, hurry } = self;
        store.write_patiently(group, &mut |shortage| {
            if !std::mem::replace(is_short, true) {
                tell(News::Room(Some(shortage.clone())));
            }
            std::thread::sleep(NO_ROOM);
            waited += NO_ROOM;
            !hurry.load(Ordering::Relaxed)
        })?;
        let last = group.iter().map(|batch| batch.number).max().unwrap_or_default();
        (self.tell)(News::Persisted(last, begun.elapsed().saturating_sub(waited)));
        Ok(())
    }

    fn tell_of_room(&mut self, shortage: Option<Shortage>) {
        if shortage.is_some() != self.is_short {
            self.is_short = shortage.is_some();
            (self.tell)(News::Room(shortage));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;
    use crate::shell::disk::Wait;

    /// Notes each write, after waiting for leave: true, or false for want of room.
    struct Fake {
        leave: Receiver<bool>,
        writes: Arc<Mutex<Vec<Vec<u64>>>>,
    }

    impl Store for Fake {
        fn write_patiently(
            &mut self,
            batches: &[DiskBatch],
            wait: &mut Wait<'_>,
        ) -> Result<(), DiskError> {
            while !self.leave.recv().unwrap() {
                let shortage = Shortage { path: String::from("/disk"), free: 7 };
                if !wait(&shortage) {
                    return Err(DiskError::Full(shortage));
                }
            }
            let numbers = batches.iter().map(|batch| batch.number).collect();
            self.writes.lock().unwrap().push(numbers);
            Ok(())
        }

        fn rest(&mut self) -> Result<bool, DiskError> {
            Ok(false)
        }

        fn shortage(&mut self) -> Result<Option<Shortage>, DiskError> {
            Ok(None)
        }
    }

    type Writes = Arc<Mutex<Vec<Vec<u64>>>>;

    fn start() -> (DiskThread, Sender<bool>, Receiver<News>, Writes) {
        let (leave, waits) = mpsc::channel();
        let writes = Writes::default();
        let store = Fake { leave: waits, writes: Arc::clone(&writes) };
        let (done, news) = mpsc::channel();
        let disk = DiskThread::start(store, move |news| done.send(news).unwrap()).unwrap();
        (disk, leave, news, writes)
    }

    fn persisted(news: &Receiver<News>) -> u64 {
        match news.recv().unwrap() {
            News::Persisted(number, _) => number,
            News::Room(shortage) => panic!("{shortage:?}"),
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
        let (disk, leave, news, writes) = start();
        disk.write(batch(1));
        leave.send(true).unwrap();
        assert_eq!(persisted(&news), 1);
        disk.write(batch(2));
        // The thread now waits for leave within the write of batch 2, or will take all at once.
        (3..=9).for_each(|number| disk.write(batch(number)));
        leave.send(true).unwrap();
        leave.send(true).unwrap();
        while persisted(&news) < 9 {}
        disk.finish();

        let writes = writes.lock().unwrap();
        assert!(writes.len() <= 3, "{writes:?}");
        assert_eq!(writes.concat(), (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn a_write_waits_for_room_and_says_so_once() {
        let (disk, leave, news, writes) = start();
        disk.write(batch(1));
        for room in [false, false, true] {
            leave.send(room).unwrap();
        }
        let shortage = Shortage { path: String::from("/disk"), free: 7 };
        assert_eq!(news.recv().unwrap(), News::Room(Some(shortage)));
        let News::Persisted(1, took) = news.recv().unwrap() else { panic!("not written") };
        assert!(took < NO_ROOM, "{took:?} with the waiting");
        assert_eq!(news.recv().unwrap(), News::Room(None));
        disk.finish();
        assert_eq!(writes.lock().unwrap().concat(), [1]);
    }

    #[test]
    fn a_stop_does_not_wait_for_room() {
        let (disk, leave, news, writes) = start();
        disk.write(batch(1));
        leave.send(false).unwrap();
        assert!(matches!(news.recv().unwrap(), News::Room(Some(_))));
        disk.finish();
        assert!(writes.lock().unwrap().is_empty());
    }
}
