//! The log in files: changes go to the end of the last segment, one frame for all that is written at once.
//!
//! A segment begins with what must be known of those before it, so that whole segments can go once no entry in them
//! counts. The next segment is made ahead by a thread of its own.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DiskError;
use super::record::{Head, Record, encode_entry};
use super::seal::Seal;
use super::segment::{self, Segment};
use super::spare::Spare;
use crate::core::{DiskBatch, DiskEntry, Shortage};

/// See the module.
pub(super) struct EntryLog {
    folder: PathBuf,
    seal: Arc<dyn Seal>,
    /// Those that are written, the oldest first; the last one takes what is new.
    segments: VecDeque<Segment>,
    spare: Spare,
    /// What a segment that begins now would say.
    durable: Head,
    /// The same after all that is staged.
    head: Head,
    /// The first and the last live entry.
    live: Option<(u64, u64)>,
    /// Records that wait for the next write.
    staged: Vec<u8>,
    /// The highest live index among them.
    staged_last: u64,
}

/// What the files held.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Its floor, snapshot and hard state.
    pub(super) head: Head,
    /// The live entries, contiguous.
    pub(super) entries: Vec<DiskEntry>,
}

impl EntryLog {
    /// Opens or makes the log in `folder`, checks all of it and reads it.
    pub(super) fn open(folder: &Path, seal: Arc<dyn Seal>) -> Result<(Self, Loaded), DiskError> {
        let failed = |source| DiskError::File { action: "read", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let numbers = segment::list(folder).map_err(failed)?;
        let mut reader = Reader::default();
        for number in continuous(folder, &numbers)? {
            reader.read(folder, number, seal.as_ref())?;
        }
        reader.cut()?;
        let last = reader.segments.back().map_or(0, |segment| segment.number);
        let spare = match reader.spare {
            Some(blank) => Spare::ready(folder, blank),
            None => Spare::make(folder, last + 1)?,
        };
        let Loaded { head, entries } = &reader.loaded;
        let mut log = Self {
            folder: folder.to_owned(),
            seal,
            segments: reader.segments,
            spare,
            durable: head.clone(),
            head: head.clone(),
            live: entries.first().zip(entries.last()).map(|(a, b)| (a.index, b.index)),
            staged: Vec::new(),
            staged_last: 0,
        };
        log.drop_old()?;
        Ok((log, reader.loaded))
    }

    /// Puts a batch's changes, but for the content of its snapshot, among what the next [`Self::commit`] writes.
    pub(super) fn stage(&mut self, batch: &DiskBatch) -> Result<(), DiskError> {
        if let Some(from) = batch.truncate_from {
            self.truncate(from);
        }
        if let Some(snapshot) = &batch.snapshot {
            self.snapshot(snapshot.index, snapshot.term);
        }
        if let Some(to) = batch.compact_to {
            self.compact(to);
        }
        for entry in &batch.entries {
            self.append(entry)?;
        }
        if let Some(state) = &batch.hard_state {
            self.hard_state(state.clone());
        }
        Ok(())
    }

    /// Writes what is staged with one sync: wholly, or not at all. For want of room it may be tried again.
    pub(super) fn commit(&mut self) -> Result<(), DiskError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        if !self.segments.back().is_some_and(|last| last.fits(&self.staged)) {
            self.roll()?;
        }
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        if last.frames == 0 {
            let mut payload = Vec::with_capacity(self.staged.len() + 128);
            Record::Head(self.durable.clone()).encode(self.seal.as_ref(), &mut payload);
            payload.extend_from_slice(&self.staged);
            last.append(&payload)?;
        } else {
            last.append(&self.staged)?;
        }
        last.last_entry = last.last_entry.max(self.staged_last);
        self.staged.clear();
        self.staged.shrink_to(KEPT);
        self.staged_last = 0;
        self.head.frames_before = last.frames;
        self.durable.clone_from(&self.head);
        self.drop_old()
    }

    /// Takes the spare as the last segment, and has the next one made.
    fn roll(&mut self) -> Result<(), DiskError> {
        let next = self.spare.take()?;
        self.spare = Spare::prepare(&self.folder, next.number + 1);
        self.segments.push_back(next);
        Ok(())
    }

    /// Goes on with the next segment; why there is none, while there is no room for it.
    pub(super) fn look_for_room(&mut self) -> Result<Option<&Shortage>, DiskError> {
        self.spare.look()
    }

    /// Whether the next segment is being made, or should be.
    pub(super) fn is_making(&self) -> bool {
        self.spare.is_busy()
    }

    /// Entries with this index or a higher one are gone.
    pub(super) fn truncate(&mut self, from: u64) {
        let before = from.saturating_sub(1);
        for segment in &mut self.segments {
            segment.last_entry = segment.last_entry.min(before);
        }
        self.staged_last = self.staged_last.min(before);
        self.live = self.live.filter(|(first, _)| *first < from);
        self.live = self.live.map(|(first, last)| (first, last.min(before)));
        self.record(&Record::Truncate(from));
    }

    /// The log goes on behind this snapshot.
    pub(super) fn snapshot(&mut self, index: u64, term: u64) {
        self.head.snapshot = (index, term);
        self.record(&Record::Snapshot(index, term));
    }

    /// Replaces the hard state.
    pub(super) fn hard_state(&mut self, state: Vec<u8>) {
        self.record(&Record::HardState(state.clone()));
        self.head.hard_state = Some(state);
    }

    /// Entries up to and with this one are gone.
    pub(super) fn compact(&mut self, to: u64) {
        let Some((first, last)) = self.live.filter(|(first, _)| *first <= to) else { return };
        let to = to.min(last);
        self.live = (to < last).then_some((first.max(to + 1), last));
        self.head.floor = to;
        self.record(&Record::Compact(to));
    }

    /// Adds an entry behind the last one.
    pub(super) fn append(&mut self, entry: &DiskEntry) -> Result<(), DiskError> {
        let expected = self.live.map_or(entry.index.max(self.head.floor + 1), |(_, last)| last + 1);
        if entry.index != expected {
            return Err(DiskError::Gap { expected, found: entry.index });
        }
        self.live = Some((self.live.map_or(entry.index, |(first, _)| first), entry.index));
        self.staged_last = entry.index;
        encode_entry(entry, self.seal.as_ref(), &mut self.staged);
        Ok(())
    }

    fn record(&mut self, record: &Record) {
        record.encode(self.seal.as_ref(), &mut self.staged);
    }

    /// Removes the oldest segments while no entry in them counts.
    fn drop_old(&mut self) -> Result<(), DiskError> {
        while self.segments.len() > 1
            && let Some(old) =
                self.segments.pop_front_if(|front| front.last_entry <= self.durable.floor)
        {
            old.remove()?;
        }
        Ok(())
    }
}

/// The staged bytes' room that is kept from write to write.
const KEPT: usize = 1 << 20;

/// The last segments without a gap. Those before were dropped, in whichever order the disk did it.
fn continuous(folder: &Path, numbers: &[u64]) -> Result<Vec<u64>, DiskError> {
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let (dropped, rest) = numbers.split_at(gap.map_or(0, |at| at + 1));
    for number in dropped {
        Segment::load(folder, *number)?.0.remove()?;
    }
    Ok(rest.to_vec())
}

/// Reads segments in order.
#[derive(Default)]
struct Reader {
    segments: VecDeque<Segment>,
    /// The first segment without a frame: only such may follow.
    spare: Option<Segment>,
    /// Whether the last one that is not blank ends with a frame whose write was cut off.
    torn: bool,
    loaded: Loaded,
}

impl Reader {
    /// Cuts off a frame that never was acknowledged.
    fn cut(&mut self) -> Result<(), DiskError> {
        if self.torn
            && let Some(last) = self.spare.as_mut().or(self.segments.back_mut())
        {
            let segment = last.path().display();
            tracing::warn!(%segment, "cutting off a record whose write did not end");
            last.cut()?;
        }
        Ok(())
    }

    fn read(&mut self, folder: &Path, number: u64, seal: &dyn Seal) -> Result<(), DiskError> {
        let (mut segment, scan) = Segment::load(folder, number)?;
        let blank = !scan.torn && scan.payloads.is_empty();
        if (self.torn || self.spare.is_some()) && !blank {
            return Err(damaged(segment.path(), "records before it are missing"));
        }
        if self.spare.is_some() {
            return segment.remove();
        }
        self.torn = scan.torn;
        if scan.payloads.is_empty() {
            self.spare = Some(segment);
            return Ok(());
        }
        for (place, payload) in scan.payloads.iter().enumerate() {
            let records = Record::decode_all(payload, seal);
            let path = || segment.path().to_owned();
            let records = records.map_err(|cause| DiskError::Record { path: path(), cause })?;
            if matches!(records.first(), Some(Record::Head(_))) != (place == 0) {
                return Err(damaged(segment.path(), "it does not begin with its head"));
            }
            for record in records {
                self.replay(record, &mut segment)?;
            }
        }
        self.loaded.head.frames_before = segment.frames;
        self.segments.push_back(segment);
        Ok(())
    }

    fn replay(&mut self, record: Record, segment: &mut Segment) -> Result<(), DiskError> {
        let Loaded { head, entries } = &mut self.loaded;
        match record {
            Record::Head(found) => {
                let before = self.segments.back();
                if before.is_some_and(|before| before.frames != found.frames_before) {
                    return Err(damaged(segment.path(), "records before it are missing"));
                }
                if before.is_none() {
                    *head = found;
                }
            }
            Record::Truncate(from) => {
                let before = from.saturating_sub(1);
                entries.truncate(entries.partition_point(|entry| entry.index < from));
                let all = self.segments.iter_mut().chain([segment]);
                all.for_each(|segment| segment.last_entry = segment.last_entry.min(before));
            }
            Record::Snapshot(index, term) => head.snapshot = (index, term),
            Record::Compact(to) => {
                head.floor = head.floor.max(to);
                entries.drain(..entries.partition_point(|entry| entry.index <= to));
            }
            Record::Entry(entry) => {
                let last = entries.last().map(|last| last.index + 1);
                if let Some(expected) = last.filter(|expected| *expected != entry.index) {
                    return Err(damaged(segment.path(), &format!("entry {expected} is missing")));
                }
                segment.last_entry = entry.index;
                if entry.index > head.floor {
                    entries.push(entry);
                }
            }
            Record::HardState(state) => head.hard_state = Some(state),
        }
        Ok(())
    }
}

fn damaged(path: &Path, reason: &str) -> DiskError {
    DiskError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}
