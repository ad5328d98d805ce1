//! Snapshots: our own, those for members that lag behind, and those that a leader sent.

use prost_for_raft::Message as _;
use raft::SnapshotStatus;
use raft::eraftpb::{ConfState, Message, Snapshot};
use swarm_proto::id::RaftId;

use super::{Member, Snapshots, Waiting};
use crate::core::State;
use crate::core::output::{DiskBatch, DiskSnapshot, Output, SnapshotBody, SnapshotMessage};

impl Member {
    /// Writes a snapshot of our own and forgets what lies far behind it, once enough entries came since the last one.
    pub(in crate::core) fn compact_when_due(&mut self, state: &State, out: &mut Vec<Output>) {
        let new = state.applied.saturating_sub(self.snapshot_index);
        let is_large = self.raw.store().bytes() >= self.snapshots.bytes;
        if new >= self.snapshots.every || is_large && new > 0 {
            self.compact(state, out);
        }
    }

    fn compact(&mut self, state: &State, out: &mut Vec<Output>) {
        let index = state.applied;
        let Ok(term) = self.raw.raft.raft_log.term(index) else { return };
        self.snapshot_index = index;
        let Snapshots { trailing, bytes, .. } = self.snapshots;
        let compact_to = self.raw.store().before_last(index, trailing, bytes / 4);
        self.raw.mut_store().compact(compact_to);
        self.batches += 1;
        let conf_state = self.raw.store().conf_state().encode_to_vec();
        let body = SnapshotBody::State { state: Box::new(state.clone()), conf_state };
        let mut hard_state = self.raw.raft.hard_state();
        hard_state.commit = hard_state.commit.max(index);
        out.push(Output::Persist(DiskBatch {
            number: self.batches,
            truncate_from: None,
            snapshot: Some(DiskSnapshot { index, term, body }),
            compact_to: Some(compact_to),
            entries: Vec::new(),
            hard_state: Some(hard_state.encode_to_vec()),
        }));
        let batch = Some(self.batches);
        let messages = Vec::new();
        self.waiting.push_back(Waiting {
            batch,
            ready: None,
            promise: false,
            snapshot: None,
            messages,
            since: self.now,
        });
    }

    pub(super) fn send_snapshot(
        &mut self,
        message: &Message,
        bytes: Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        let index = message.get_snapshot().get_metadata().index;
        match self.offered.as_ref().filter(|state| state.applied == index) {
            Some(state) => out.push(Output::SendSnapshot {
                to: RaftId(message.to),
                snapshot: SnapshotMessage { message: bytes, state: Box::new(state.clone()) },
            }),
            // A later one was offered meanwhile; raft-rs sends that.
            None => self.raw.report_snapshot(message.to, SnapshotStatus::Failure),
        }
    }

    /// Offers a snapshot to a member that lags behind the log, when raft-rs has asked for one.
    pub(in crate::core) fn offer_snapshot(&mut self, state: &State) {
        if !self.raw.store().snapshot_wanted() {
            return;
        }
        let Ok(term) = self.raw.raft.raft_log.term(state.applied) else { return };
        let conf_state = self.raw.store().conf_state().clone();
        let snapshot = describe(state.applied, term, conf_state);
        self.raw.mut_store().offer_snapshot(snapshot);
        self.offered = Some(state.clone());
    }
}

/// The snapshot that stands for a state.
pub(in crate::core) fn make(state: &State, term: u64, conf_state: ConfState) -> Snapshot {
    let mut snapshot = describe(state.applied, term, conf_state);
    snapshot.data = state.to_bytes();
    snapshot
}

/// A snapshot without its data.
fn describe(index: u64, term: u64, conf_state: ConfState) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = index;
    metadata.term = term;
    metadata.set_conf_state(conf_state);
    snapshot
}

/// A leader's snapshot for the disk, which encodes its state anew when the data was read outside.
pub(super) fn on_disk(snapshot: &Snapshot, state: Option<Box<State>>) -> DiskSnapshot {
    let metadata = snapshot.get_metadata();
    let conf_state = || metadata.get_conf_state().encode_to_vec();
    let body = match state {
        Some(state) => SnapshotBody::State { state, conf_state: conf_state() },
        None => SnapshotBody::Encoded(snapshot.encode_to_vec()),
    };
    DiskSnapshot { index: metadata.index, term: metadata.term, body }
}

/// An encoded message, with the data that its snapshot lacks: fields of one message that are written apart are merged
/// by whoever reads them.
pub(in crate::core) fn with_data(message: &[u8], data: Vec<u8>) -> Vec<u8> {
    let snapshot = Some(Snapshot { data, ..Snapshot::default() });
    let mut whole = message.to_vec();
    whole.extend(Message { snapshot, ..Message::default() }.encode_to_vec());
    whole
}

/// The tag of `Snapshot.data`, and how many bytes its length takes when it is written before it is known.
const DATA: u8 = 1 << 3 | 2;
const LENGTH: usize = 5;

/// The encoded snapshot that stands for a state, with an encoded `ConfState`. Its data is written where it belongs: there may
/// be hundreds of megabytes, of which a second copy would be the leader's highest use of memory.
pub(in crate::core) fn encode(state: &State, term: u64, conf_state: &[u8]) -> Vec<u8> {
    let conf_state = ConfState::decode(conf_state).unwrap_or_default();
    let mut bytes = vec![DATA];
    bytes.resize(1 + LENGTH, 0);
    state.append_to(&mut bytes);
    let length = bytes.len() - 1 - LENGTH;
    bytes[1..=LENGTH].copy_from_slice(&long_varint(length));
    bytes.extend(describe(state.applied, term, conf_state).encode_to_vec());
    bytes
}

/// A number of up to 35 bits as a varint that is not shortened, as protobuf allows.
fn long_varint(number: usize) -> [u8; LENGTH] {
    std::array::from_fn(|at| {
        let more = if at + 1 < LENGTH { 0x80 } else { 0 };
        (number >> (7 * at)).to_le_bytes()[0] & 0x7f | more
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_its_place_is_the_same_snapshot() {
        let conf_state =
            ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() };
        for size in [0, 1, 200, 70_000, 3_000_000] {
            let mut state = State { applied: 9, ..State::default() };
            state.requests.insert("one".to_owned(), std::sync::Arc::new(vec![7; size]));
            state.request_order.push_back("one".to_owned());
            let written = encode(&state, 4, &conf_state.encode_to_vec());
            let read = Snapshot::decode(written.as_slice()).unwrap();
            assert_eq!(read, make(&state, 4, conf_state.clone()), "{size}");
        }
        let written = encode(&State::default(), 0, &[]);
        assert_eq!(Snapshot::decode(written.as_slice()).unwrap().data, State::default().to_bytes());
    }
}
