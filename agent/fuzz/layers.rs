//! Layers that nobody should send: archives of entries that make sense one by one, then with bytes changed.

use std::io::{Cursor, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use swarm_agent::image::readers;
use tar::{EntryType, Header};

use crate::random::Random;

const BLOCK: usize = 512;
const MOST_ENTRIES: usize = 40;
/// Inputs are not made longer than this.
const LONGEST: usize = 1 << 18;
/// Where a header has its sum.
const SUM: std::ops::Range<usize> = 148..156;

/// What is said of a layer that is not refused.
pub(crate) const WHOLE: &str = "unpacked";

/// Parts of names.
const PARTS: [&str; 26] = [
    "a",
    "b",
    "c",
    "d",
    "..",
    ".",
    "",
    ".wh.a",
    ".wh.b",
    ".wh.",
    ".wh..",
    ".wh...",
    ".wh..wh..opq",
    ".wh..wh.plnk",
    "outside",
    "kept",
    "layer",
    "proc",
    "self",
    "root",
    "fd",
    "dev",
    "\u{fc}",
    " ",
    "-",
    "very-long-name-of-a-file-that-fills-a-good-deal-of-a-header",
];

/// Kinds of entries, those that are met often more than once.
const KINDS: &[u8] = b"000000555551111222223467xgLKSVM\0D";

/// Records that speak of the next entry; lengths are put in front.
const RECORDS: [&str; 18] = [
    "path=../outside/kept",
    "path=a/b/c",
    "path=",
    "linkpath=/outside",
    "linkpath=a",
    "size=0",
    "size=99999999999999999999",
    "uid=4294967295",
    "uid=-1",
    "gid=77",
    "mtime=-1.5",
    "mtime=99999999999999999999",
    "mtime=1.999999999999",
    "SCHILY.xattr.user.a=b",
    "SCHILY.xattr.user.overlay.opaque=y",
    "SCHILY.xattr.trusted.overlay.redirect=/outside",
    "SCHILY.xattr.security.capability=\u{1}\0\0\u{2}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    "GNU.sparse.major=1",
];

/// Unpacks a layer; what came of it, in words.
pub(crate) fn unpack(layer: &[u8], folder: &Path) -> String {
    match readers::unpack_layer(Cursor::new(layer.to_vec()), folder) {
        Ok(()) => WHOLE.to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A new layer.
pub(crate) fn made(random: &mut Random, outside: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    for _ in 0..=random.below(MOST_ENTRIES) {
        entry(random, outside, &mut archive);
    }
    // Most archives end as they should.
    if !random.once_in(4) {
        archive.resize(archive.len() + 2 * BLOCK, 0);
    }
    if random.once_in(3) {
        archive = changed(random, archive, &[]);
        if !random.once_in(3) {
            mend_sums(&mut archive);
        }
    }
    compressed(random, archive)
}

/// A layer after some changes. `other` lends parts.
pub(crate) fn mutated(random: &mut Random, input: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let mut input = changed(random, input, other);
    if !random.once_in(3) {
        mend_sums(&mut input);
    }
    if random.once_in(4) { compressed(random, input) } else { input }
}

pub(crate) fn compressed(random: &mut Random, archive: Vec<u8>) -> Vec<u8> {
    let packed = match random.below(5) {
        0 => {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            let written = out.write_all(&archive).and_then(|()| out.finish());
            written.unwrap_or_default()
        }
        1 => compress_to_vec(archive.as_slice(), CompressionLevel::Fastest),
        _ => return archive,
    };
    if random.once_in(3) { changed(random, packed, &[]) } else { packed }
}

fn entry(random: &mut Random, outside: &str, archive: &mut Vec<u8>) {
    if random.once_in(8) {
        let mut records = String::new();
        for _ in 0..=random.below(3) {
            let record = random.pick(&RECORDS).map_or("", |record| *record);
            records.push_str(&with_length(record));
        }
        append(archive, &header(random, b'x', "pax", "", records.len()), records.as_bytes());
    }
    if random.once_in(12) {
        let long = format!("{}\0", name(random, outside).repeat(1 + random.below(30)));
        let kind = if random.once_in(2) { b'L' } else { b'K' };
        append(archive, &header(random, kind, "././@LongLink", "", long.len()), long.as_bytes());
    }
    let kind = random.pick(KINDS).copied().unwrap_or(b'0');
    let (name, link) = (name(random, outside), name(random, outside));
    let has_content = matches!(kind, b'0' | b'7' | 0) || random.once_in(20);
    let content = vec![b'x'; if has_content { random.below(1500) } else { 0 }];
    append(archive, &header(random, kind, &name, &link, content.len()), &content);
}

pub(crate) fn append(archive: &mut Vec<u8>, header: &Header, content: &[u8]) {
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

fn header(random: &mut Random, kind: u8, name: &str, link: &str, size: usize) -> Header {
    let mut header = if random.once_in(3) { Header::new_ustar() } else { Header::new_gnu() };
    let old = header.as_old_mut();
    let name = &name.as_bytes()[..name.len().min(old.name.len())];
    old.name[..name.len()].copy_from_slice(name);
    let link = &link.as_bytes()[..link.len().min(old.linkname.len())];
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(*random.pick(&[0o755, 0o644, 0, 0o7777, 0o4755, 0o1777]).unwrap_or(&0o644));
    header.set_uid(*random.pick(&[0, 1000, u64::from(u32::MAX), 1 << 40]).unwrap_or(&0));
    header.set_gid(*random.pick(&[0, 0, 77, u64::from(u32::MAX)]).unwrap_or(&0));
    header.set_mtime(*random.pick(&[0, 1_700_000_000, u64::MAX >> 1]).unwrap_or(&0));
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn name(random: &mut Random, outside: &str) -> String {
    let mut name = String::new();
    match random.below(12) {
        0 => name.push('/'),
        1 => name.push_str(outside),
        2 => name.push_str("../"),
        _ => {}
    }
    for part in 0..=random.below(4) {
        if part > 0 {
            name.push('/');
        }
        // Few names, so that entries meet each other.
        let many = if random.once_in(3) { PARTS.len() } else { 4 };
        name.push_str(random.pick(&PARTS[..many]).map_or("", |part| *part));
    }
    if random.once_in(10) {
        name.push('/');
    }
    name
}

fn with_length(record: &str) -> String {
    let mut length = record.len() + 2;
    while format!("{length} {record}\n").len() != length {
        length += 1;
    }
    format!("{length} {record}\n")
}

fn changed(random: &mut Random, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        // Whole blocks, or single bytes.
        let (at, unit) = if random.once_in(2) { (at - at % BLOCK, BLOCK) } else { (at, 1) };
        let end = input.len().min(at + unit * (1 + random.below(4)));
        match random.below(5) {
            0 => drop(input.drain(at..end)),
            1 | 2 => {
                if let Some(byte) = input.get_mut(at + random.below(unit)) {
                    *byte = u8::try_from(random.below(256)).unwrap_or(0);
                }
            }
            3 => {
                let from = random.below(other.len() + 1);
                let to = other.len().min(from + unit * 4);
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let part = input[at..end].to_vec();
                let times = random.below(8);
                input.splice(at..at, part.repeat(times));
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// Gives every block that lies where a header may be the sum of one: else nearly nothing is looked at further.
fn mend_sums(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            at += BLOCK;
            continue;
        }
        block[SUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let header = Header::from_byte_slice(block);
        let size = usize::try_from(header.size().unwrap_or(0)).unwrap_or(usize::MAX);
        at = at
            .saturating_add(BLOCK)
            .saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX));
    }
}
