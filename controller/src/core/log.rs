//! The log in memory, from which raft-rs reads. The disk follows behind and is read only at the start.

use std::cell::Cell;
use std::collections::VecDeque;

use prost_for_raft::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::util::limit_size;
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::StartError;
use super::output::Recovered;

/// See the module.
pub(super) struct Log {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first one.
    compacted: (u64, u64),
    entries: VecDeque<Entry>,
    /// Bytes of what the entries say.
    bytes: u64,
    /// Made on demand for a member that lags behind the first entry.
    snapshot: Option<Snapshot>,
    wanted: Cell<bool>,
}

fn size_of_entry(entry: &Entry) -> u64 {
    entry.data.len() as u64
}

fn broken(what: &str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::Recovered(format!("{what}: {reason}"))
}

impl Log {
    /// From what the disk held: the log, and the snapshot that it starts with.
    pub(super) fn recover(recovered: &Recovered) -> Result<(Self, Option<Snapshot>), StartError> {
        let mut log = Self {
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            compacted: (0, 0),
            entries: VecDeque::new(),
            bytes: 0,
            snapshot: None,
            wanted: Cell::new(false),
        };
        if let Some(bytes) = &recovered.hard_state {
            let decoded = HardState::decode(bytes.as_slice());
            log.hard_state = decoded.map_err(|error| broken("the hard state", &error))?;
        }
        let mut snapshot = None;
        let mut from = (0, 0);
        if let Some((index, term, bytes)) = &recovered.snapshot {
            let decoded = Snapshot::decode(bytes.as_slice());
            let decoded = decoded.map_err(|error| broken("the snapshot", &error))?;
            log.conf_state = decoded.get_metadata().get_conf_state().clone();
            log.hard_state.commit = log.hard_state.commit.max(*index);
            log.hard_state.term = log.hard_state.term.max(*term);
            from = (*index, *term);
            snapshot = Some(decoded);
        }
        log.compacted = from;
        log.recover_entries(recovered, from)?;
        log.bytes = log.entries.iter().map(size_of_entry).sum();
        log.recover_commit();
        Ok((log, snapshot))
    }

    /// The commit index on disk may be old. A leader proposes a change of the members only when the one before it is
    /// applied, so all but the last one in the log are committed. A member that knew less could elect itself by the
    /// majority of a group that is two changes old, beside the real leader.
    fn recover_commit(&mut self) {
        let is_change = |entry: &&Entry| entry.get_entry_type() != EntryType::EntryNormal;
        let before_last = self.entries.iter().rev().filter(is_change).nth(1);
        let known = before_last.map_or(0, |entry| entry.index);
        self.hard_state.commit = self.hard_state.commit.max(known);
    }

    fn recover_entries(
        &mut self,
        recovered: &Recovered,
        from: (u64, u64),
    ) -> Result<(), StartError> {
        for stored in &recovered.entries {
            let decoded = Entry::decode(stored.data.as_slice());
            let entry = decoded.map_err(|error| broken("an entry", &error))?;
            if entry.index != stored.index || entry.term != stored.term {
                return Err(broken("an entry", &format!("{} is {}", stored.index, entry.index)));
            }
            if let Some(last) = self.entries.back().filter(|last| last.index + 1 != entry.index) {
                let reason = format!("entry {} follows {}", entry.index, last.index);
                return Err(broken("the log", &reason));
            }
            self.entries.push_back(entry);
        }
        let Some(first) = self.entries.front().map(|entry| entry.index) else { return Ok(()) };
        if first > from.0 + 1 {
            return Err(broken("the log", &format!("entries {} to {first} are missing", from.0)));
        }
        // Entries behind the snapshot are kept for slow followers; the first one stands for what is gone.
        if first <= from.0 {
            let Some(front) = self.entries.pop_front() else { return Ok(()) };
            self.compacted = (front.index, front.term);
            if self.last() < from.0 {
                self.entries.clear();
                self.compacted = from;
            }
        }
        if self.hard_state.commit > self.last() {
            return Err(broken("the log", &"entries known to be committed are missing"));
        }
        Ok(())
    }

    fn first(&self) -> u64 {
        self.compacted.0 + 1
    }

    /// The last entry's index.
    pub(super) fn last(&self) -> u64 {
        self.compacted.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.first()).unwrap_or(usize::MAX)
    }

    /// Adds entries in place of those with the same or higher indexes. Says which index was cut, if any.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Option<u64> {
        let first = entries.first()?.index;
        let cut = (first <= self.last()).then_some(first);
        if cut.is_some() {
            let cut = self.entries.drain(self.position(first)..);
            self.bytes -= cut.map(|entry| size_of_entry(&entry)).sum::<u64>();
        }
        self.bytes += entries.iter().map(size_of_entry).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
        cut
    }

    /// Takes over a leader's snapshot in place of everything.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.compacted = (metadata.index, metadata.term);
        self.entries.clear();
        self.bytes = 0;
        self.conf_state = metadata.get_conf_state().clone();
        self.snapshot = None;
    }

    /// Forgets entries up to and with this index.
    pub(super) fn compact(&mut self, to: u64) {
        while let Some(front) = self.entries.front().filter(|front| front.index <= to) {
            self.compacted = (front.index, front.term);
            self.bytes -= size_of_entry(front);
            self.entries.pop_front();
        }
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.get_metadata().index <= to) {
            self.snapshot = None;
        }
    }

    /// How large all entries together are.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entry before the last ones up to `index` that are at most so many, and together at most so large.
    pub(super) fn before_last(&self, index: u64, count: u64, bytes: u64) -> u64 {
        let from = index.saturating_sub(count).max(self.compacted.0);
        let mut room = bytes;
        for entry in self.entries.range(self.position(from + 1)..self.position(index + 1)).rev() {
            match room.checked_sub(size_of_entry(entry)) {
                Some(left) => room = left,
                None => return entry.index,
            }
        }
        from
    }

    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Whether raft-rs has asked for a snapshot that was not there.
    pub(super) fn snapshot_wanted(&self) -> bool {
        self.wanted.take()
    }

    pub(super) fn offer_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into();
        let mut size = 0;
        let mut found = Vec::new();
        for entry in self.entries.range(self.position(low)..self.position(high)) {
            size += size_of_entry(entry);
            found.push(entry.clone());
            if max_size.is_some_and(|max| size > max) {
                break;
            }
        }
        limit_size(&mut found, max_size);
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.compacted.0 {
            return Ok(self.compacted.1);
        }
        if index < self.compacted.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get(self.position(index)) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // A member refuses a snapshot that was made before it was one.
        let fits = |snapshot: &&Snapshot| {
            let metadata = snapshot.get_metadata();
            let members = metadata.get_conf_state();
            metadata.index >= request_index
                && metadata.index >= self.compacted.0
                && (members.voters.contains(&to) || members.learners.contains(&to))
        };
        if let Some(snapshot) = self.snapshot.as_ref().filter(fits) {
            return Ok(snapshot.clone());
        }
        self.wanted.set(true);
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(sizes: &[usize]) -> Log {
        let recovered = Recovered::default();
        let (mut log, _) = Log::recover(&recovered).unwrap();
        let entry = |(at, size): (usize, &usize)| Entry {
            index: at as u64 + 1,
            term: 1,
            data: vec![0; *size],
            ..Entry::default()
        };
        log.append(&sizes.iter().enumerate().map(entry).collect::<Vec<_>>());
        log
    }

    #[test]
    fn the_log_knows_how_large_it_is() {
        let mut log = log(&[10, 20, 30, 40]);
        assert_eq!(log.bytes(), 100);
        let other = Entry { index: 3, term: 2, data: vec![0; 5], ..Entry::default() };
        assert_eq!(log.append(&[other]), Some(3), "what another leader left is cut");
        assert_eq!(log.bytes(), 35);
        log.compact(1);
        assert_eq!((log.bytes(), log.last()), (25, 3));
    }

    #[test]
    fn what_is_kept_behind_a_snapshot_is_bounded_in_number_and_in_size() {
        let log = log(&[10, 20, 30, 40, 50]);
        assert_eq!(log.before_last(4, 3, 1_000), 1, "entries 2, 3 and 4 stay");
        assert_eq!(log.before_last(4, 3, 70), 2, "entry 2 would be too much");
        assert_eq!(log.before_last(4, 3, 39), 4, "not even the last one fits");
        assert_eq!(log.before_last(4, 100, 1_000), 0, "there are no more");
    }
}
