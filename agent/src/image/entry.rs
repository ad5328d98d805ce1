//! Reads a layer's tar headers: GNU long names and PAX records are folded into the entry that they describe.
//!
//! The tar crate's own PAX reader stops at a newline, which file capabilities may contain, so records are read here
//! by their stated length.

use std::borrow::Cow;
use std::io::{self, Read};

use tar::{Entry, EntryType};

/// No name, link or set of PAX records of an honest archive is larger.
const LARGEST_EXTENSION: u64 = 1 << 20;

/// What an archive says of one entry, beside its content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    /// The name as it stands in the archive.
    pub(super) path: Vec<u8>,
    /// Where a link leads.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub(super) mtime: (i64, i64),
    /// Extended attributes by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What precedes an entry and speaks of it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    /// Takes an extension in; false when the entry is none.
    pub(super) fn absorb<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<bool> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(read_text(entry)?),
            EntryType::GNULongLink => self.link = Some(read_text(entry)?),
            EntryType::XHeader => self.records = parse_records(&read_small(entry)?)?,
            // Global records speak of the whole archive (git writes its commit there); none concerns files.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The entry's description, with what preceded it.
    pub(super) fn describe<R: Read>(&mut self, entry: &Entry<'_, R>) -> io::Result<Meta> {
        let pending = std::mem::take(self);
        let header = entry.header();
        let mut meta = Meta {
            path: pending.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: match pending.link {
                Some(link) => link,
                None => header.link_name_bytes().map(Cow::into_owned).unwrap_or_default(),
            },
            mode: or_zero(&header.as_old().mode, header.mode())? & 0o7777,
            uid: small_id(or_zero(&header.as_old().uid, header.uid())?)?,
            gid: small_id(or_zero(&header.as_old().gid, header.gid())?)?,
            mtime: (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
            xattrs: Vec::new(),
        };
        for (key, value) in pending.records {
            apply_record(&mut meta, &key, value, entry.size())?;
        }
        Ok(meta)
    }
}

fn apply_record(meta: &mut Meta, key: &[u8], value: Vec<u8>, size: u64) -> io::Result<()> {
    match key {
        b"path" => meta.path = value,
        b"linkpath" => meta.link = value,
        b"uid" => meta.uid = small_id(number(&value)?)?,
        b"gid" => meta.gid = small_id(number(&value)?)?,
        b"mtime" => meta.mtime = parse_time(&value).ok_or_else(|| bad("a time is not a number"))?,
        b"size" if number(&value)? != size => return Err(bad("a file is larger than 8 GiB")),
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                meta.xattrs.push((name.to_vec(), value));
            }
        }
    }
    Ok(())
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// Archivers leave fields blank that are zero.
fn or_zero<T: Default>(field: &[u8], value: io::Result<T>) -> io::Result<T> {
    let blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Ok(T::default()) } else { value }
}

fn number(value: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("a record is not a number"))
}

fn small_id(id: u64) -> io::Result<u32> {
    // The largest number means "nobody" to the kernel: a file would stay root's.
    let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| bad("an owner is out of range"))
}

/// `1700000000.25`, also negative; digits beyond nanoseconds are dropped.
fn parse_time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

fn read_small<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    if entry.size() > LARGEST_EXTENSION {
        return Err(bad("an extension header is larger than 1 MiB"));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    Ok(content)
}

fn read_text<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut text = read_small(entry)?;
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}

/// `<length> <key>=<value>\n`, where the length counts the whole record.
fn parse_records(mut data: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !data.is_empty() && data[0] != 0 {
        let space = data.iter().take(20).position(|byte| *byte == b' ');
        let space = space.ok_or_else(|| bad("a PAX record has no length"))?;
        let length = usize::try_from(number(&data[..space])?).unwrap_or(usize::MAX);
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(bad("a PAX record has a wrong length"));
        }
        let body = &data[space + 1..length - 1];
        let equals = body.iter().position(|byte| *byte == b'=');
        let equals = equals.ok_or_else(|| bad("a PAX record has no value"))?;
        records.push((body[..equals].to_vec(), body[equals + 1..].to_vec()));
        data = &data[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_contain_newlines() {
        let records = parse_records(b"11 a=b\nc=d\n9 path=x\n").unwrap();
        assert_eq!(records[0], (b"a".to_vec(), b"b\nc=d".to_vec()));
        assert_eq!(records[1], (b"path".to_vec(), b"x".to_vec()));
    }

    #[test]
    fn broken_records_are_refused() {
        for text in ["x a=b\n", "99 a=b\n", "3 a\n", "5 ab\n", "0 \n", "6 a=bc", "-1 a=b\n"] {
            assert!(parse_records(text.as_bytes()).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn times_have_nanoseconds() {
        assert_eq!(parse_time(b"12"), Some((12, 0)));
        assert_eq!(parse_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(parse_time(b"x"), None);
    }
}
