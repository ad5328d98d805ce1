//! Log entries as version 0.1.0 kept them in sled: parts of at most 8 KiB, each with a check sum over key and value.
//! They are only read, to take them over.
//!
//! Key: `e`, index, part (both big-endian, so that keys sort as the log does). Value: CRC-32, term, number of
//! parts, payload. An entry's parts are always written and removed in one atomic batch.

use crate::core::DiskEntry;

const HEADER: usize = 4 + 8 + 2;

/// The first byte of an entry's keys.
pub(super) const PREFIX: u8 = b'e';

/// Why a record is not what was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    /// The key has the wrong form.
    #[error("a key of the log has {length} bytes instead of 11")]
    Key {
        /// What was found.
        length: usize,
    },
    /// The value's check sum is wrong.
    #[error("part {part} of entry {index} is damaged (wrong check sum)")]
    CheckSum {
        /// The entry.
        index: u64,
        /// Which part, from 0.
        part: u16,
    },
    /// A part is missing, or belongs to another entry.
    #[error("entry {index} is incomplete: expected part {expected}, found part {found}")]
    Parts {
        /// The entry.
        index: u64,
        /// The next part that should follow.
        expected: u16,
        /// The part that is there.
        found: u16,
    },
    /// Parts of one entry disagree.
    #[error("the parts of entry {index} are of different writes")]
    Mixed {
        /// The entry.
        index: u64,
    },
}

fn check_sum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// Puts entries together from their parts, fed in the order of the keys.
#[derive(Default)]
pub(super) struct Assembler {
    index: u64,
    term: u64,
    data: Vec<u8>,
    parts: u16,
    next: u16,
}

impl Assembler {
    /// Takes the next record; answers with the entry that it completes.
    pub(super) fn feed(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<DiskEntry>, PartError> {
        let Ok(key_array) = <[u8; 11]>::try_from(key) else {
            return Err(PartError::Key { length: key.len() });
        };
        let index = u64::from_be_bytes(key_array[1..9].try_into().expect("eight bytes"));
        let part = u16::from_be_bytes([key_array[9], key_array[10]]);
        let damaged = || PartError::CheckSum { index, part };
        let (sum, rest) = value.split_at_checked(4).ok_or_else(damaged)?;
        if sum != check_sum(key, rest).to_be_bytes() || rest.len() < HEADER - 4 {
            return Err(damaged());
        }
        let term = u64::from_be_bytes(rest[..8].try_into().expect("eight bytes"));
        let parts = u16::from_be_bytes([rest[8], rest[9]]);
        self.place(index, part, term, parts)?;
        self.data.extend_from_slice(&rest[10..]);
        self.next += 1;
        if self.next < self.parts {
            return Ok(None);
        }
        let Self { data, .. } = std::mem::take(self);
        Ok(Some(DiskEntry { index, term, data }))
    }

    /// Whether all that was fed belongs to completed entries.
    pub(super) fn finish(&self) -> Result<(), PartError> {
        if self.next == 0 {
            return Ok(());
        }
        let index = self.index;
        Err(PartError::Parts { index, expected: self.next, found: self.parts })
    }

    fn place(&mut self, index: u64, part: u16, term: u64, parts: u16) -> Result<(), PartError> {
        if self.next == 0 {
            (self.index, self.term, self.parts) = (index, term, parts);
        }
        if part != self.next || index != self.index {
            let index = self.index;
            return Err(PartError::Parts { index, expected: self.next, found: part });
        }
        if term != self.term || parts != self.parts {
            return Err(PartError::Mixed { index });
        }
        Ok(())
    }
}

/// Wraps a small value with a check sum.
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = check_sum(key, payload).to_be_bytes().to_vec();
    value.extend_from_slice(payload);
    value
}

/// The payload of a small value behind its check sum; `None` when it is damaged.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, payload) = value.split_at_checked(4)?;
    (sum == check_sum(key, payload).to_be_bytes()).then_some(payload)
}

#[cfg(test)]
pub(super) mod written {
    use super::{DiskEntry, HEADER, PREFIX, check_sum};

    /// The largest value in the tree.
    pub(in super::super) const MAX_VALUE: usize = 8 * 1024;
    const MAX_PAYLOAD: usize = MAX_VALUE - HEADER;

    /// The key of one part.
    pub(in super::super) fn key(index: u64, part: u16) -> [u8; 11] {
        let mut key = [PREFIX; 11];
        key[1..9].copy_from_slice(&index.to_be_bytes());
        key[9..].copy_from_slice(&part.to_be_bytes());
        key
    }

    /// The keys and values of an entry.
    pub(in super::super) fn encode(entry: &DiskEntry) -> Vec<([u8; 11], Vec<u8>)> {
        let payloads: Vec<&[u8]> = if entry.data.is_empty() {
            vec![&[]]
        } else {
            entry.data.chunks(MAX_PAYLOAD).collect()
        };
        let parts = u16::try_from(payloads.len()).expect("entries are at most 1 MiB");
        let with_key = |(part, payload): (u16, &&[u8])| {
            let key = key(entry.index, part);
            let mut value = Vec::with_capacity(HEADER + payload.len());
            value.extend_from_slice(&[0; 4]);
            value.extend_from_slice(&entry.term.to_be_bytes());
            value.extend_from_slice(&parts.to_be_bytes());
            value.extend_from_slice(payload);
            let sum = check_sum(&key, &value[4..]);
            value[..4].copy_from_slice(&sum.to_be_bytes());
            (key, value)
        };
        (0..parts).zip(&payloads).map(with_key).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::written::{MAX_VALUE, encode};
    use super::*;

    fn entry(index: u64, term: u64, size: usize) -> DiskEntry {
        DiskEntry { index, term, data: vec![7; size] }
    }

    fn assemble(records: &[([u8; 11], Vec<u8>)]) -> Result<Vec<DiskEntry>, PartError> {
        let mut assembler = Assembler::default();
        let mut entries = Vec::new();
        for (key, value) in records {
            entries.extend(assembler.feed(key, value)?);
        }
        assembler.finish()?;
        Ok(entries)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sizes in prop::collection::vec(0_usize..70_000, 1..6)) {
            let entries: Vec<DiskEntry> =
                (1..).zip(&sizes).map(|(index, size)| entry(index, 3, *size)).collect();
            let records: Vec<_> = entries.iter().flat_map(encode).collect();
            prop_assert!(records.iter().all(|(_, value)| value.len() <= MAX_VALUE));
            prop_assert!(records.is_sorted());
            prop_assert_eq!(assemble(&records).unwrap(), entries);
        }

        #[test]
        fn a_flipped_bit_is_found(size in 0_usize..40_000, at in any::<prop::sample::Index>()) {
            let mut records = encode(&entry(9, 2, size));
            let which = at.index(records.len());
            let value = &mut records[which].1;
            let byte = at.index(value.len());
            value[byte] ^= 1;
            let found = matches!(assemble(&records), Err(PartError::CheckSum { .. }));
            prop_assert!(found);
        }

        #[test]
        fn a_missing_part_is_found(gone in 0_usize..8) {
            let mut records = encode(&entry(9, 2, 60_000));
            records.remove(gone);
            records.extend(encode(&entry(10, 2, 1)));
            let found = matches!(assemble(&records), Err(PartError::Parts { index: 9, .. }));
            prop_assert!(found);
        }
    }

    #[test]
    fn a_log_that_ends_within_an_entry_is_found() {
        let mut records = encode(&entry(9, 2, 60_000));
        records.pop();
        assert!(matches!(assemble(&records), Err(PartError::Parts { index: 9, .. })));
    }

    #[test]
    fn a_sealed_value_opens_only_under_its_key() {
        let sealed = seal(b"m1", b"payload");
        assert_eq!(unseal(b"m1", &sealed), Some(b"payload".as_slice()));
        assert_eq!(unseal(b"m2", &sealed), None);
        assert_eq!(unseal(b"m1", b"abc"), None);
    }
}
