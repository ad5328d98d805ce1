//! The form of a backup's file: a fixed header with the form's version and the length, the message, and a SHA-256 over
//! all of it. A file that was cut off or changed is told from a whole one before anything is done with it.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::wire;

const MAGIC: &[u8; 8] = b"SWARMBAK";
/// The form that this program writes, and the only one that it reads.
const FORM: u32 = 1;
/// Magic, form, length.
const HEADER: usize = 20;
const CHECKSUM: usize = 32;

/// Why bytes are no backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// They begin otherwise.
    #[error("it is not a backup of a cluster")]
    Foreign,
    /// A newer program wrote them.
    #[error("it has form {0}, and this program reads form {FORM}: a newer program wrote it")]
    Form(u32),
    /// The end is missing.
    #[error("it is cut off: {found} of {expected} bytes are there")]
    Short {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// They are not what was written.
    #[error("it is damaged: its checksum does not match")]
    Damaged,
    /// They were written wrongly.
    #[error("its content cannot be read")]
    Content(#[from] prost::DecodeError),
}

/// A backup as the bytes of a file.
pub fn encode(backup: &wire::Backup) -> Vec<u8> {
    let length = backup.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER + length + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORM.to_le_bytes());
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
    bytes.extend(backup.encode_to_vec());
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// A file's bytes as a backup.
pub fn decode(bytes: &[u8]) -> Result<wire::Backup, BackupError> {
    let header = bytes.first_chunk::<HEADER>().filter(|header| header.starts_with(MAGIC));
    let header = header.ok_or(BackupError::Foreign)?;
    let form = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if form != FORM {
        return Err(BackupError::Form(form));
    }
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
    Ok(wire::Backup::decode(&content[HEADER..])?)
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
        assert_eq!(decode(&encode(&backup())), Ok(backup()));
    }

    #[test]
    fn no_byte_may_be_missing_or_other() {
        let bytes = encode(&backup());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(decode(&changed).is_err(), "byte {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(BackupError::Damaged));
        let mut newer = bytes;
        newer[8] = 2;
        assert_eq!(decode(&newer), Err(BackupError::Form(2)));
        assert_eq!(decode(b"something else entirely"), Err(BackupError::Foreign));
    }
}
