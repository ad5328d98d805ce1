//! What a frame holds: changes of the log, in order. Numbers are little-endian; bytes follow their length.

use super::seal::{Context, Kind, Seal};
use crate::core::DiskEntry;

/// Why a frame's payload is no list of changes.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It ends within a record, or a record has the wrong length.
    #[error("a record of it is cut off")]
    Short,
    /// A record of a kind that this version does not know.
    #[error("a record of it has the unknown kind {0}: was it written by a later version?")]
    Kind(u8),
    /// What is wrapped cannot be unwrapped.
    #[error("entry {index} cannot be unsealed: {reason}")]
    Sealed {
        /// The entry.
        index: u64,
        /// Why.
        reason: String,
    },
}

/// One change of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// The first record of a segment: all that must be known when the segments before it are gone.
    Head(Head),
    /// Entries with this index or a higher one are gone.
    Truncate(u64),
    /// The log goes on behind a snapshot that stands for all up to this index, whose term follows.
    Snapshot(u64, u64),
    /// Entries up to and with this index are gone.
    Compact(u64),
    /// A new entry at the end.
    Entry(DiskEntry),
    /// A new hard state.
    HardState(Vec<u8>),
}

/// What the segments before one have come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// Frames in the segment before.
    pub(super) frames_before: u32,
    /// Entries up to and with this one are gone.
    pub(super) floor: u64,
    /// Index and term of the last snapshot that the log was told of.
    pub(super) snapshot: (u64, u64),
    /// The hard state.
    pub(super) hard_state: Option<Vec<u8>>,
}

const HEAD: u8 = 1;
const TRUNCATE: u8 = 2;
const SNAPSHOT: u8 = 3;
const COMPACT: u8 = 4;
const ENTRY: u8 = 5;
const HARD_STATE: u8 = 6;

impl Record {
    /// Adds the record's bytes to a frame's payload.
    pub(super) fn encode(&self, seal: &dyn Seal, out: &mut Vec<u8>) {
        match self {
            Self::Head(head) => {
                out.push(HEAD);
                out.extend_from_slice(&head.frames_before.to_le_bytes());
                number(out, head.floor);
                number(out, head.snapshot.0);
                number(out, head.snapshot.1);
                out.push(u8::from(head.hard_state.is_some()));
                bytes(out, |out| out.extend(head.hard_state.iter().flatten()));
            }
            Self::Truncate(from) => plain(out, TRUNCATE, &[*from]),
            Self::Snapshot(index, term) => plain(out, SNAPSHOT, &[*index, *term]),
            Self::Compact(to) => plain(out, COMPACT, &[*to]),
            Self::Entry(entry) => encode_entry(entry, seal, out),
            Self::HardState(state) => {
                out.push(HARD_STATE);
                bytes(out, |out| out.extend_from_slice(state));
            }
        }
    }

    /// Reads a frame's payload.
    pub(super) fn decode_all(payload: &[u8], seal: &dyn Seal) -> Result<Vec<Self>, RecordError> {
        let mut rest = payload;
        let mut records = Vec::new();
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            records.push(Self::decode(*kind, &mut rest, seal)?);
        }
        Ok(records)
    }

    fn decode(kind: u8, rest: &mut &[u8], seal: &dyn Seal) -> Result<Self, RecordError> {
        match kind {
            HEAD => {
                let frames_before = u32::from_le_bytes(take(rest)?);
                let floor = take_number(rest)?;
                let snapshot = (take_number(rest)?, take_number(rest)?);
                let [present] = take(rest)?;
                let state = take_bytes(rest)?.to_vec();
                let hard_state = (present != 0).then_some(state);
                Ok(Self::Head(Head { frames_before, floor, snapshot, hard_state }))
            }
            TRUNCATE => Ok(Self::Truncate(take_number(rest)?)),
            SNAPSHOT => Ok(Self::Snapshot(take_number(rest)?, take_number(rest)?)),
            COMPACT => Ok(Self::Compact(take_number(rest)?)),
            ENTRY => {
                let (index, term) = (take_number(rest)?, take_number(rest)?);
                let sealed = take_bytes(rest)?;
                let mut data = Vec::with_capacity(sealed.len());
                let context = Context { kind: Kind::Entry, index, term };
                let opened = seal.open(context, sealed, &mut data);
                opened.map_err(|reason| RecordError::Sealed { index, reason })?;
                Ok(Self::Entry(DiskEntry { index, term, data }))
            }
            HARD_STATE => Ok(Self::HardState(take_bytes(rest)?.to_vec())),
            unknown => Err(RecordError::Kind(unknown)),
        }
    }
}

/// [`Record::Entry`] of an entry that stays where it is.
pub(super) fn encode_entry(entry: &DiskEntry, seal: &dyn Seal, out: &mut Vec<u8>) {
    plain(out, ENTRY, &[entry.index, entry.term]);
    let context = Context { kind: Kind::Entry, index: entry.index, term: entry.term };
    bytes(out, |out| seal.seal(context, &entry.data, out));
}

fn plain(out: &mut Vec<u8>, kind: u8, numbers: &[u64]) {
    out.push(kind);
    for value in numbers {
        number(out, *value);
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// What `write` adds, behind its length.
fn bytes(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = u32::try_from(out.len() - at - 4).expect("an entry has less than 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (found, after) = rest.split_first_chunk::<N>().ok_or(RecordError::Short)?;
    *rest = after;
    Ok(*found)
}

fn take_number(rest: &mut &[u8]) -> Result<u64, RecordError> {
    Ok(u64::from_le_bytes(take(rest)?))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (found, after) = rest.split_at_checked(length).ok_or(RecordError::Short)?;
    *rest = after;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shell::disk::seal::Unsealed;

    fn record() -> impl Strategy<Value = Record> {
        let some = || prop::collection::vec(any::<u8>(), 0..300);
        let head = (any::<u32>(), any::<[u64; 3]>(), prop::option::of(some()));
        prop_oneof![
            head.prop_map(|(frames_before, [floor, index, term], hard_state)| {
                Record::Head(Head { frames_before, floor, snapshot: (index, term), hard_state })
            }),
            any::<u64>().prop_map(Record::Truncate),
            any::<[u64; 2]>().prop_map(|[index, term]| Record::Snapshot(index, term)),
            any::<u64>().prop_map(Record::Compact),
            (any::<[u64; 2]>(), some())
                .prop_map(|([index, term], data)| Record::Entry(DiskEntry { index, term, data })),
            some().prop_map(Record::HardState),
        ]
    }

    /// Binds bytes to their context and nothing more.
    struct Bound;

    impl Seal for Bound {
        fn seal(&self, context: Context, plain: &[u8], out: &mut Vec<u8>) {
            out.extend(context.to_bytes().iter().chain(plain));
        }

        fn open(&self, context: Context, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
            let opened = sealed.strip_prefix(&context.to_bytes());
            out.extend(opened.ok_or("another's place")?);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in prop::collection::vec(record(), 0..10)) {
            let mut payload = Vec::new();
            for record in &records {
                record.encode(&Unsealed, &mut payload);
            }
            prop_assert_eq!(Record::decode_all(&payload, &Unsealed).unwrap(), records);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode_all(&bytes, &Unsealed);
        }
    }

    #[test]
    fn an_entry_is_sealed_in_its_place() {
        let entry = DiskEntry { index: 3, term: 2, data: b"secret".to_vec() };
        let mut payload = Vec::new();
        Record::Entry(entry.clone()).encode(&Bound, &mut payload);
        let records = Record::decode_all(&payload, &Bound).unwrap();
        assert_eq!(records, [Record::Entry(entry)]);
        payload[1] = 4;
        let refused = Record::decode_all(&payload, &Bound).unwrap_err();
        assert_eq!(refused.to_string(), "entry 4 cannot be unsealed: another's place");
    }
}
