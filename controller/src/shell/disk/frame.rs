//! Frames, the unit of a segment: what one sync makes durable, wholly or not at all.
//!
//! A frame is a header of 16 bytes (length of the payload, number within the segment, CRC-32C of the payload, CRC-32C
//! of the header and the segment's number), the payload, one marker byte, and zeros up to a multiple of 16. Space that
//! was never written reads as zeros, and nothing that is written does: the payload is stored with every byte changed by
//! [`MASK`], and a header never crosses a sector. So a frame whose write was cut off can be told from a damaged one.

/// The size of a frame's header.
const HEADER: usize = 16;
/// Frames begin at multiples of this.
const ALIGN: usize = 16;
/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;
/// Makes payload bytes that are zero differ from what was never written.
const MASK: u8 = 0xa5;
/// Stands behind the payload.
const MARKER: u8 = 0xff;

/// Why a segment's content is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A header has the wrong check sum or number.
    #[error("the header at byte {0} is damaged")]
    Header(usize),
    /// A payload has the wrong check sum.
    #[error("the record at byte {0} is damaged (wrong check sum)")]
    Payload(usize),
    /// A record is missing before one that was written later.
    #[error("the record at byte {0} is missing, and a later one is there")]
    Lost(usize),
    /// The frames' numbers ran out, or a payload is too large.
    #[error("a record of {0} bytes is too large")]
    TooLarge(usize),
}

/// The bytes that a payload takes up as a frame.
pub(super) fn size(payload: usize) -> usize {
    (HEADER + payload + 1).next_multiple_of(ALIGN)
}

/// The frame of a payload.
pub(super) fn encode(segment: u64, number: u32, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge(payload.len()))?;
    let mut frame = Vec::with_capacity(size(payload.len()));
    let sum = crc32c::crc32c(payload);
    frame.extend_from_slice(&Header { length, number, sum }.encode(segment));
    frame.extend(payload.iter().map(|byte| byte ^ MASK));
    frame.push(MARKER);
    frame.resize(size(payload.len()), 0);
    Ok(frame)
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The payloads of its frames, in order.
    pub(super) payloads: Vec<Vec<u8>>,
    /// Where the next frame begins.
    pub(super) end: usize,
    /// Whether a frame follows whose write was cut off: it was never acknowledged.
    pub(super) torn: bool,
}

/// Reads the content of a segment's file.
pub(super) fn scan(segment: u64, content: &[u8]) -> Result<Scan, FrameError> {
    let written = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let content = &content[..written];
    let mut scan = Scan { payloads: Vec::new(), end: 0, torn: false };
    while scan.end < written {
        let number = u32::try_from(scan.payloads.len()).unwrap_or(u32::MAX);
        match read(segment, number, content, scan.end)? {
            Some(payload) => {
                scan.end += size(payload.len());
                scan.payloads.push(payload);
            }
            None if later(segment, number, content, scan.end) => {
                return Err(FrameError::Lost(scan.end));
            }
            None => {
                scan.torn = true;
                return Ok(scan);
            }
        }
    }
    Ok(scan)
}

/// The payload of the frame at a place before the end of `content`; `None` when its write was cut off.
fn read(
    segment: u64,
    number: u32,
    content: &[u8],
    at: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    let Some(bytes) = content.get(at..at + HEADER) else { return Ok(None) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let Some(header) = Header::decode(segment, bytes).filter(|header| header.number == number)
    else {
        // A header that nothing follows lacks its own end.
        let cut = content.len() == at + HEADER;
        return if cut { Ok(None) } else { Err(FrameError::Header(at)) };
    };
    let length = header.length as usize;
    let begin = at + HEADER;
    let Some(stored) = content.get(begin..=begin + length) else { return Ok(None) };
    let payload: Vec<u8> = stored[..length].iter().map(|byte| byte ^ MASK).collect();
    let padding = &content[begin + length + 1..content.len().min(at + size(length))];
    let whole = stored[length] == MARKER && padding.iter().all(|byte| *byte == 0);
    if whole && crc32c::crc32c(&payload) == header.sum {
        return Ok(Some(payload));
    }
    let cut = stored[length] == 0 || lacks_sector(content, at, begin + length);
    if cut { Ok(None) } else { Err(FrameError::Payload(at)) }
}

/// Whether a sector between two places of the content was never written.
fn lacks_sector(content: &[u8], from: usize, to: usize) -> bool {
    let first = from / SECTOR + 1;
    let mut sectors = (first..=to / SECTOR).map(|sector| sector * SECTOR);
    sectors.any(|begin| {
        let sector = &content[begin..(begin + SECTOR).min(to + 1)];
        sector.iter().all(|byte| *byte == 0)
    })
}

/// Whether a whole frame with a higher number stands anywhere behind a place: then the one here had been durable.
fn later(segment: u64, number: u32, content: &[u8], at: usize) -> bool {
    (at.next_multiple_of(ALIGN)..content.len()).step_by(ALIGN).any(|at| {
        let header = content.get(at..at + HEADER).and_then(|bytes| Header::decode(segment, bytes));
        header.is_some_and(|header| {
            header.number > number
                && matches!(read(segment, header.number, content, at), Ok(Some(_)))
        })
    })
}

struct Header {
    length: u32,
    number: u32,
    sum: u32,
}

impl Header {
    fn encode(&self, segment: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sum.to_le_bytes());
        let own = crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), &bytes[..12]);
        bytes[12..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    fn decode(segment: u64, bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let [length, number, sum] = [0, 1, 2].map(|at| words.get(at).copied());
        let header = Self {
            length: u32::from_le_bytes(length?),
            number: u32::from_le_bytes(number?),
            sum: u32::from_le_bytes(sum?),
        };
        (header.encode(segment) == bytes).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(payloads: &[Vec<u8>]) -> Vec<u8> {
        let frames = (0..).zip(payloads).map(|(number, payload)| encode(7, number, payload));
        frames.flat_map(Result::unwrap).collect()
    }

    fn with_room(mut content: Vec<u8>) -> Vec<u8> {
        content.resize(content.len().next_multiple_of(4096) + 4096, 0);
        content
    }

    /// Random payloads and ones of zeros, which look like space that was never written.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let random = prop::collection::vec(any::<u8>(), 0..3_000);
        prop_oneof![random, (0_usize..3_000).prop_map(|size| vec![0; size])]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payloads in prop::collection::vec(payload(), 0..8)) {
            let content = written(&payloads);
            let end = content.len();
            let found = scan(7, &with_room(content)).unwrap();
            prop_assert_eq!(found, Scan { payloads, end, torn: false });
        }

        #[test]
        fn a_write_that_was_cut_off_at_any_byte_leaves_what_came_before(
            payloads in prop::collection::vec(payload(), 0..4),
            last in payload(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut content = written(&payloads);
            let end = content.len();
            let number = u32::try_from(payloads.len()).unwrap();
            let frame = encode(7, number, &last).unwrap();
            // Zeros at the frame's end need no writing.
            let needed = HEADER + last.len() + 1;
            content.extend_from_slice(&frame[..at.index(needed)]);
            let found = scan(7, &with_room(content)).unwrap();
            prop_assert_eq!(&found.payloads, &payloads);
            prop_assert_eq!(found.end, end);
        }

        #[test]
        fn a_write_whose_sectors_are_there_in_part_leaves_what_came_before(
            payloads in prop::collection::vec(payload(), 0..4),
            last in payload(),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        ) {
            let mut content = written(&payloads);
            let end = content.len();
            content.extend(encode(7, u32::try_from(payloads.len()).unwrap(), &last).unwrap());
            let written = end + HEADER + last.len() + 1;
            let mut content = with_room(content);
            for gone in gone {
                let sector = end / SECTOR + gone.index(written.div_ceil(SECTOR) - end / SECTOR);
                let begin = (sector * SECTOR).max(end);
                content[begin..((sector + 1) * SECTOR).min(written)].fill(0);
            }
            let found = scan(7, &content).unwrap();
            prop_assert_eq!(&found.payloads, &payloads);
            prop_assert_eq!(found.end, end);
        }

        #[test]
        fn a_flipped_bit_is_found(
            payloads in prop::collection::vec(payload(), 1..5),
            at in any::<prop::sample::Index>(),
            bit in 0_u32..8,
        ) {
            let mut content = written(&payloads);
            let at = at.index(content.len());
            content[at] ^= 1 << bit;
            prop_assert!(scan(7, &with_room(content)).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..4_000)) {
            let _ = scan(7, &content);
        }
    }

    #[test]
    fn a_missing_record_before_a_later_one_is_found() {
        let payloads = [vec![1; 900], vec![2; 900], vec![3; 900]];
        let mut content = written(&payloads);
        let first = size(900);
        content[first..2 * first].fill(0);
        assert_eq!(scan(7, &content), Err(FrameError::Lost(first)));
    }

    #[test]
    fn frames_of_another_segment_are_not_taken_for_its_own() {
        let content = written(&[vec![1; 20], vec![2; 20]]);
        assert_eq!(scan(8, &content), Err(FrameError::Header(0)));
    }
}
