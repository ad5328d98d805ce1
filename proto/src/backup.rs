//! The form of a backup's file: a fixed header with the form's version and the length, the message, and a SHA-256 over
//! all of it. A file that was cut off or changed is told from a whole one before anything is done with it. In the second
//! form the message is sealed ([`BackupKey`]), with the header as what it is about.

mod file;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use file::{KeyFileError, ReadBackupError, key_file, read, read_key, write_key};

use crate::sealing::{NoRandomness, SealingKey};
use crate::wire;

const MAGIC: &[u8; 8] = b"SWARMBAK";
/// The form of a backup that everybody may read.
const PLAIN: u32 = 1;
/// The form of one that only its key opens; the newest that this program reads.
const SEALED: u32 = 2;
/// Magic, form, length.
const HEADER: usize = 20;
const CHECKSUM: usize = 32;
/// What a key's text begins with: its form and version.
const KEY_FORM: &str = "SWBACKUP-1-";

/// What opens a backup: whoever has both can do everything with the cluster.
pub struct BackupKey(SealingKey);

impl BackupKey {
    /// A new one.
    pub fn make() -> Result<Self, NoRandomness> {
        SealingKey::make().map(Self)
    }

    /// Reads its text: `SWBACKUP-1-` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        SealingKey::parse(KEY_FORM, text).map(Self)
    }

    /// Its text.
    pub fn text(&self) -> Zeroizing<String> {
        self.0.text(KEY_FORM)
    }
}

/// Why bytes are no backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// They begin otherwise.
    #[error("it is not a backup of a cluster")]
    Foreign,
    /// A newer program wrote them.
    #[error("it has form {0}, and this program reads form {SEALED}: a newer program wrote it")]
    Form(u32),
    /// The end is missing.
    #[error("it is cut off: {found} of {expected} bytes are there")]
    Short {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// Only its key opens it, and none was given.
    #[error("it is sealed, and its key is not there")]
    NoKey,
    /// It is whole, but of another key.
    #[error("it is sealed under another key")]
    OtherKey,
    /// They are not what was written.
    #[error("it is damaged: its checksum does not match")]
    Damaged,
    /// They were written wrongly.
    #[error("its content cannot be read")]
    Content(#[from] prost::DecodeError),
}

/// A backup as the bytes of a file that everybody may read.
pub fn encode(backup: &wire::Backup) -> Vec<u8> {
    framed(PLAIN, backup.encoded_len(), |bytes| {
        // There is always room in a vector.
        let _ = backup.encode(bytes);
    })
}

/// A backup as the bytes of a file that only the key opens.
pub fn seal(backup: &wire::Backup, key: &BackupKey) -> Vec<u8> {
    let plain = Zeroizing::new(backup.encode_to_vec());
    framed(SEALED, plain.len() + crate::sealing::OVERHEAD, |bytes| {
        let header = bytes.clone();
        key.0.seal(&header, &plain, bytes);
    })
}

/// Whether bytes say of themselves that only a key opens them.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && bytes[MAGIC.len()..].starts_with(&SEALED.to_le_bytes())
}

/// A file's bytes as a backup; where it is sealed, with its key.
pub fn decode(bytes: &[u8], key: Option<&BackupKey>) -> Result<wire::Backup, BackupError> {
    let header = bytes.first_chunk::<HEADER>().filter(|header| header.starts_with(MAGIC));
    let header = header.ok_or(BackupError::Foreign)?;
    let form = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if ![PLAIN, SEALED].contains(&form) {
        return Err(BackupError::Form(form));
    }
    let content = whole(header, bytes)?;
    if form == PLAIN {
        return Ok(wire::Backup::decode(content)?);
    }
    let mut plain = Zeroizing::new(Vec::new());
    let key = key.ok_or(BackupError::NoKey)?;
    // The checksum said that these are the bytes that were written.
    key.0.open(header, content, &mut plain).map_err(|_| BackupError::OtherKey)?;
    Ok(wire::Backup::decode(plain.as_slice())?)
}

fn framed(form: u32, length: usize, append: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + length + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&form.to_le_bytes());
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
    append(&mut bytes);
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// What lies between header and checksum, when that is all there and as it was written.
fn whole<'a>(header: &[u8; HEADER], bytes: &'a [u8]) -> Result<&'a [u8], BackupError> {
    let mut length = [0; 8];
    length.copy_from_slice(&header[12..]);
    let expected = u64::from_le_bytes(length).saturating_add((HEADER + CHECKSUM) as u64);
    let found = bytes.len() as u64;
    if found < expected {
        return Err(BackupError::Short { expected, found });
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if found > expected || Sha256::digest(content).as_slice() != checksum {
        return Err(BackupError::Damaged);
    }
    Ok(&content[HEADER..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> wire::Backup {
        wire::Backup {
            cluster_id: "c".into(),
            applied: 7,
            state: vec![1; 100],
            ..Default::default()
        }
    }

    #[test]
    fn a_backup_comes_back_as_written() {
        assert_eq!(decode(&encode(&backup()), None), Ok(backup()));
        let key = BackupKey::make().unwrap();
        let sealed = seal(&backup(), &key);
        assert!(is_sealed(&sealed) && !is_sealed(&encode(&backup())));
        assert!(!sealed.windows(4).any(|part| part == [1; 4]), "nothing of it shows");
        assert_eq!(decode(&sealed, Some(&key)), Ok(backup()));
        assert_eq!(decode(&sealed, None), Err(BackupError::NoKey));
        let other = BackupKey::make().unwrap();
        assert_eq!(decode(&sealed, Some(&other)), Err(BackupError::OtherKey));
    }

    #[test]
    fn no_byte_may_be_missing_or_other() {
        let key = BackupKey::make().unwrap();
        for bytes in [encode(&backup()), seal(&backup(), &key)] {
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length], Some(&key)).is_err(), "{length} bytes");
            }
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 0x10;
                assert!(decode(&changed, Some(&key)).is_err(), "byte {at}");
            }
        }
        let bytes = encode(&backup());
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer, None), Err(BackupError::Damaged));
        let mut newer = bytes;
        newer[8] = 3;
        assert_eq!(decode(&newer, None), Err(BackupError::Form(3)));
        assert_eq!(decode(b"something else entirely", None), Err(BackupError::Foreign));
    }
}
