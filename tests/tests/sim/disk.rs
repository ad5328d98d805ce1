//! A disk that holds what was synced, and forgets the rest in a crash.

use std::collections::{BTreeMap, VecDeque};

use swarm_controller::core::{DiskBatch, DiskEntry, Recovered};

use crate::random::Random;

#[derive(Default)]
pub(crate) struct Disk {
    hard_state: Option<Vec<u8>>,
    snapshot: Option<(u64, u64, Vec<u8>)>,
    entries: BTreeMap<u64, DiskEntry>,
    pending: VecDeque<DiskBatch>,
}

impl Disk {
    pub(crate) fn write(&mut self, batch: DiskBatch) {
        self.pending.push_back(batch);
    }

    /// Everything up to and with this batch is durable.
    pub(crate) fn sync(&mut self, number: u64) {
        while let Some(batch) = self.pending.pop_front_if(|batch| batch.number <= number) {
            self.store(batch);
        }
    }

    fn store(&mut self, batch: DiskBatch) {
        if let Some(from) = batch.truncate_from {
            self.entries.split_off(&from);
        }
        if let Some(snapshot) = &batch.snapshot {
            self.snapshot = Some((snapshot.index, snapshot.term, snapshot.encode()));
        }
        if let Some(to) = batch.compact_to {
            self.entries = self.entries.split_off(&(to + 1));
        }
        for entry in batch.entries {
            self.entries.insert(entry.index, entry);
        }
        if batch.hard_state.is_some() {
            self.hard_state = batch.hard_state;
        }
    }

    /// Power is cut: of what was not synced, the disk may have written the first part.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.between(0, self.pending.len() as u64 + 1);
        for _ in 0..kept {
            if let Some(batch) = self.pending.pop_front() {
                self.store(batch);
            }
        }
        self.pending.clear();
    }

    pub(crate) fn recover(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state.clone(),
            snapshot: self.snapshot.clone(),
            entries: self.entries.values().cloned().collect(),
        }
    }
}
