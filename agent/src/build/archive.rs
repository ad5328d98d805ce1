//! Writes archives that are the same whenever their files are: PAX, numeric owners, whole seconds.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// The longest name that a header has room for.
const SHORT: usize = 100;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Without a slash in front; a folder's ends with one.
    pub(super) path: &'a [u8],
    pub(super) kind: EntryType,
    /// Where a link leads.
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since the epoch.
    pub(super) mtime: u64,
    /// Bytes of content.
    pub(super) size: u64,
    /// Extended attributes by name.
    pub(super) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes one entry with its content, of which there must be as much as it says.
pub(super) fn append(
    out: &mut dyn Write,
    entry: &Entry<'_>,
    content: &mut dyn Read,
) -> io::Result<()> {
    let mut records = Vec::new();
    if entry.path.len() > SHORT {
        record(&mut records, b"path", entry.path);
    }
    if entry.link.len() > SHORT {
        record(&mut records, b"linkpath", entry.link);
    }
    for (name, value) in entry.attributes {
        record(&mut records, &[b"SCHILY.xattr.".as_slice(), name].concat(), value);
    }
    if !records.is_empty() {
        let mut header = header(b"PaxHeaders/entry", EntryType::XHeader, records.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        block(out, &header, &mut records.as_slice(), records.len() as u64)?;
    }
    let mut header = header(entry.path, entry.kind, entry.size);
    let short = &entry.link[..entry.link.len().min(SHORT)];
    header.as_old_mut().linkname[..short.len()].copy_from_slice(short);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.mtime);
    header.set_cksum();
    block(out, &header, content, entry.size)
}

/// Writes the archive's end.
pub(super) fn finish(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn header(path: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let short = &path[..path.len().min(SHORT)];
    header.as_old_mut().name[..short.len()].copy_from_slice(short);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// `<length> <key>=<value>\n`, where the length counts the whole record.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn block(
    out: &mut dyn Write,
    header: &Header,
    content: &mut dyn Read,
    size: u64,
) -> io::Result<()> {
    out.write_all(header.as_bytes())?;
    if io::copy(&mut content.take(size), out)? != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "a file shrank while it was read",
        ));
    }
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over > 0 {
        out.write_all(&[0; BLOCK][over..])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for length in [1, 85, 86, 87, 90, 985, 986, 987, 988, 989] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records.clone()).unwrap();
            let told: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, records.len());
        }
    }
}
