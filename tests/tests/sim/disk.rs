//! A disk. What the process wrote lies in the machine's memory until a sync: then it outlives a power cut. Each record
//! has a sum, so that a torn or flipped one is seen.

use std::collections::{BTreeMap, VecDeque};

use swarm_controller::core::{DiskBatch, DiskEntry, DiskSnapshot, Recovered, SnapshotBody};
use swarm_tests::random::Random;

use crate::fault::Kind;
use crate::mutant::DiskMutant;

/// Bytes with their sum.
#[derive(Clone)]
struct Record {
    bytes: Vec<u8>,
    sum: u32,
}

impl Record {
    fn new(bytes: Vec<u8>) -> Self {
        let sum = crc32fast::hash(&bytes);
        Self { bytes, sum }
    }

    fn is_whole(&self) -> bool {
        crc32fast::hash(&self.bytes) == self.sum
    }

    fn flip(&mut self, random: &mut Random) {
        let at = usize::try_from(random.draw()).unwrap_or(0) % self.bytes.len().max(1);
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte ^= 1 << random.between(0, 8);
        }
    }
}

/// A batch of which the last record was written in part.
fn cut_short(mut batch: DiskBatch) -> DiskBatch {
    if let Some(last) = batch.entries.last_mut() {
        last.data.truncate(last.data.len() / 2);
    }
    batch
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    hard_state: Option<Record>,
    /// Term and vote of the durable hard state.
    promised: (u64, u64),
    snapshot: Option<DiskSnapshot>,
    flipped_snapshot: bool,
    /// A snapshot that is being made, and up to where the log is cut once it is there.
    making: Option<(DiskSnapshot, u64)>,
    entries: BTreeMap<u64, (u64, Record)>,
    /// Written, not synced.
    written: VecDeque<DiskBatch>,
    /// What the process has not written yet.
    queued: VecDeque<DiskBatch>,
    /// No byte more fits on it.
    pub(crate) full: bool,
    /// Writes that there is room for all the same.
    pub(crate) reserve: u64,
    /// The next sync fails.
    pub(crate) fails: bool,
    /// Milliseconds that a sync may take longer than usual.
    pub(crate) slow: u64,
    pub(crate) mutant: Option<DiskMutant>,
}

impl Disk {
    pub(crate) fn queue(&mut self, batch: DiskBatch) {
        self.queued.push_back(batch);
    }

    /// Writes all that waits, to be synced together. False when there is nothing.
    pub(crate) fn write(&mut self) -> bool {
        self.written.append(&mut self.queued);
        !self.written.is_empty()
    }

    /// Everything written is durable now: says the last batch's number.
    pub(crate) fn sync(&mut self) -> Option<u64> {
        if self.mutant == Some(DiskMutant::SyncSkipped) {
            return self.written.back().map(|batch| batch.number);
        }
        let mut last = None;
        while let Some(batch) = self.written.pop_front() {
            last = Some(batch.number);
            self.store(batch);
        }
        last
    }

    fn store(&mut self, batch: DiskBatch) {
        if let Some(from) = batch.truncate_from {
            self.entries.split_off(&from);
        }
        self.store_snapshot(batch.number, batch.truncate_from, batch.snapshot, batch.compact_to);
        for entry in batch.entries {
            self.entries.insert(entry.index, (entry.term, Record::new(entry.data)));
        }
        if let Some(bytes) = batch.hard_state {
            self.promised = crate::promise::promised(&bytes);
            self.hard_state = Some(Record::new(bytes));
        }
    }

    /// A leader's snapshot replaces everything at once. One of its own the process stores later than what follows.
    fn store_snapshot(
        &mut self,
        number: u64,
        truncate_from: Option<u64>,
        snapshot: Option<DiskSnapshot>,
        compact_to: Option<u64>,
    ) {
        if truncate_from == Some(0) {
            self.making = None;
            self.snapshot = snapshot.or(self.snapshot.take());
        } else if let Some(snapshot) = snapshot {
            self.making = Some((snapshot, compact_to.unwrap_or(0)));
        }
        if number.is_multiple_of(3)
            && let Some((snapshot, compact_to)) = self.making.take()
        {
            self.entries = self.entries.split_off(&(compact_to + 1));
            self.snapshot = Some(snapshot);
        }
    }

    /// The process died: what it wrote is still there, what it had not written is not.
    pub(crate) fn kill(&mut self) {
        self.making = None;
        self.queued.clear();
    }

    /// Power is cut, or a sync failed: of what was not synced, the first part may be there, the last record of it in
    /// part. A fault that was asked for comes about. Says what went wrong.
    pub(crate) fn lose_unsynced(&mut self, random: &mut Random, fault: Option<Kind>) -> Vec<Kind> {
        let torn = fault == Some(Kind::TornRecord);
        self.making = None;
        self.queued.clear();
        let mut fired = Vec::new();
        let most = self.written.len().saturating_sub(usize::from(fault.is_some()));
        let kept = random.between(0, most as u64 + 1);
        for _ in 0..kept {
            if let Some(batch) = self.written.pop_front() {
                self.store(batch);
            }
        }
        if let Some(batch) = self.written.pop_front() {
            fired.push(if torn { Kind::TornRecord } else { Kind::LostWrites });
            // Its sum does not fit, so that a sound disk takes it for absent.
            if torn && self.mutant == Some(DiskMutant::TornRecordTaken) {
                self.store(cut_short(batch));
            }
        }
        self.written.clear();
        fired
    }

    /// Flips a bit of something stored. False when nothing is.
    pub(crate) fn flip(&mut self, random: &mut Random) -> bool {
        let indexes: Vec<u64> = self.entries.keys().copied().collect();
        if let Some(index) = random.one_of(&indexes).copied().filter(|_| random.chance(70)) {
            self.entries.entry(index).and_modify(|(_, record)| record.flip(random));
        } else if let Some(record) = self.hard_state.as_mut().filter(|_| random.chance(50)) {
            record.flip(random);
        } else {
            self.flipped_snapshot = self.snapshot.is_some();
            return self.flipped_snapshot;
        }
        true
    }

    /// Whether the last entry's record, all before it, or a snapshot that stands for them are durable.
    pub(crate) fn holds(&self, index: u64) -> bool {
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        index <= snapshot || self.entries.contains_key(&index)
    }

    /// Term and vote that are durable.
    pub(crate) fn promised(&self) -> (u64, u64) {
        self.promised
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Reads everything and syncs it, as a process does at its start. An error names what is broken.
    pub(crate) fn load(&mut self) -> Result<Recovered, String> {
        if matches!(self.mutant, Some(DiskMutant::StartUnsynced | DiskMutant::SyncSkipped)) {
            let mut seen = Self { mutant: None, ..self.clone() };
            return seen.load();
        }
        self.sync();
        let blind = self.mutant == Some(DiskMutant::FlippedBitUnseen);
        let broken = |record: &Record| !blind && !record.is_whole();
        if self.hard_state.as_ref().is_some_and(broken) {
            return Err("the hard state's sum does not fit".to_owned());
        }
        if let Some((index, _)) = self.entries.iter().find(|(_, (_, record))| broken(record)) {
            return Err(format!("the sum of entry {index} does not fit"));
        }
        if self.flipped_snapshot {
            return Err("the snapshot's sum does not fit".to_owned());
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.body = SnapshotBody::Encoded(snapshot.encode());
        }
        let entry = |(index, (term, record)): (&u64, &(u64, Record))| DiskEntry {
            index: *index,
            term: *term,
            data: record.bytes.clone(),
        };
        Ok(Recovered {
            hard_state: self.hard_state.as_ref().map(|record| record.bytes.clone()),
            snapshot: self.snapshot.as_ref().map(|s| (s.index, s.term, s.encode())),
            entries: self.entries.iter().map(entry).collect(),
        })
    }
}
