//! Secrets at rest: what the disk keeps of the state is wrapped with XChaCha20-Poly1305 under a key of this host alone.
//!
//! Wrapped bytes are a mark, the nonce, the wrapped bytes and their tag. Version 0.1.0 wrapped nothing: bytes without
//! the mark are taken as they are, for no entry and no snapshot begins with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{AeadInOut as _, Generate as _, KeyInit as _};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize as _, Zeroizing};

use super::disk::seal::{Context, Seal};

/// The first bytes of what is wrapped. The entries' and snapshots' own encodings never begin with the first of them.
const MARK: [u8; 4] = [0xf5, b'S', b'W', 1];
const NONCE: usize = 24;
const TAG: usize = 16;

/// The file of the key, in the folder of the log.
const FILE: &str = "data.key";
/// What the key's text begins with: its form and version.
const FORM: &str = "SWDATA-1-";

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `make`
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error(
        "{} holds no key that this version knows\n\nhint: put back the file that was there, or remove this controller from the cluster, delete its folder and join it again",
        path.display()
    )]
    Form {
        /// Which.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Wraps what this host's disk keeps.
pub struct DataKey(XChaCha20Poly1305);

impl DataKey {
    /// Reads the key of a log's folder; a folder without one gets a new key, durable on return.
    pub fn open_or_make(folder: &Path) -> Result<Self, SealError> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&Zeroizing::new(text)).ok_or(SealError::Form { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(folder, path),
            Err(source) => Err(SealError::File { action: "read", path, source }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end().strip_prefix(FORM)?;
        let mut key = Key::default();
        if digits.len() != key.len() * 2 || !digits.is_ascii() {
            return None;
        }
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
        }
        Some(Self::of(key))
    }

    fn make(folder: &Path, path: PathBuf) -> Result<Self, SealError> {
        let key = Key::try_generate().map_err(|_| SealError::Random)?;
        let mut text = Zeroizing::new(String::from(FORM));
        for byte in &key {
            for digit in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        text.push('\n');
        let aside = folder.join(format!("{FILE}.new"));
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(folder)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(Self::of(key)),
            Err(source) => Err(SealError::File { action: "make", path, source }),
        }
    }

    fn of(mut key: Key) -> Self {
        let cipher = XChaCha20Poly1305::new(&key);
        key.zeroize();
        Self(cipher)
    }
}

impl Seal for DataKey {
    fn seal(&self, context: Context, plain: &[u8], out: &mut Vec<u8>) {
        let nonce = XNonce::generate();
        out.reserve(MARK.len() + NONCE + plain.len() + TAG);
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = self
            .0
            .encrypt_inout_detached(&nonce, &context.to_bytes(), (&mut out[start..]).into())
            .expect("only more than 256 GiB are too much");
        out.extend_from_slice(&tag);
    }

    fn open(&self, context: Context, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let Some(rest) = sealed.strip_prefix(&MARK) else {
            out.extend_from_slice(sealed);
            return Ok(());
        };
        let cut_off = || String::from("it is cut off");
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(cut_off)?;
        let (wrapped, tag) = rest.split_last_chunk::<TAG>().ok_or_else(cut_off)?;
        let start = out.len();
        out.extend_from_slice(wrapped);
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        let buffer = (&mut out[start..]).into();
        let opened = self.0.decrypt_inout_detached(&nonce, &context.to_bytes(), buffer, &tag);
        opened.map_err(|_| {
            out.truncate(start);
            format!("it is damaged, or was written under another key than that in `{FILE}`")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::shell::disk::seal::Kind;

    fn at(kind: Kind, index: u64, term: u64) -> Context {
        Context { kind, index, term }
    }

    fn key() -> DataKey {
        DataKey::open_or_make(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn sealed(key: &DataKey, context: Context, plain: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        key.seal(context, plain, &mut out);
        out.split_off(6)
    }

    fn opened(key: &DataKey, context: Context, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = b"before".to_vec();
        let result = key.open(context, sealed, &mut out);
        let rest = out.split_off(6);
        assert_eq!(out, b"before");
        assert!(result.is_ok() || rest.is_empty(), "a refusal leaves nothing behind");
        result.map(|()| rest)
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(plain in prop::collection::vec(any::<u8>(), 0..3000)) {
            let (key, context) = (key(), at(Kind::Entry, 7, 2));
            let wrapped = sealed(&key, context, &plain);
            prop_assert_eq!(wrapped.len(), plain.len() + MARK.len() + NONCE + TAG);
            prop_assert_eq!(opened(&key, context, &wrapped).unwrap(), plain);
        }

        #[test]
        fn a_flipped_bit_is_found(flip in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (key, context) = (key(), at(Kind::Entry, 7, 2));
            let mut wrapped = sealed(&key, context, b"some secret text");
            // A flip in the mark makes plain bytes, which their own encoding refuses.
            let byte = MARK.len() + flip.index(wrapped.len() - MARK.len());
            wrapped[byte] ^= 1 << bit;
            prop_assert!(opened(&key, context, &wrapped).is_err());
        }
    }

    #[test]
    fn nothing_of_the_plain_bytes_shows_and_no_two_are_alike() {
        let (key, context) = (key(), at(Kind::Entry, 1, 1));
        let plain = b"hunter2 hunter2 hunter2 hunter2";
        let (first, second) = (sealed(&key, context, plain), sealed(&key, context, plain));
        assert_ne!(first, second);
        assert!(!first.windows(7).any(|part| part == b"hunter2"));
    }

    #[test]
    fn wrapped_bytes_open_only_in_their_own_place() {
        let key = key();
        let wrapped = sealed(&key, at(Kind::Entry, 7, 2), b"plain");
        for other in [at(Kind::Snapshot, 7, 2), at(Kind::Entry, 8, 2), at(Kind::Entry, 7, 3)] {
            let refused = opened(&key, other, &wrapped).unwrap_err();
            assert!(refused.starts_with("it is damaged, or was written under another key"));
        }
        assert!(opened(&self::key(), at(Kind::Entry, 7, 2), &wrapped).is_err());
        let cut = opened(&key, at(Kind::Entry, 7, 2), &wrapped[..20]).unwrap_err();
        assert_eq!(cut, "it is cut off");
    }

    #[test]
    fn bytes_of_the_first_version_are_taken_as_they_are() {
        let context = at(Kind::Snapshot, 7, 2);
        assert_eq!(opened(&key(), context, b"\x08\x01").unwrap(), b"\x08\x01");
        assert_eq!(opened(&key(), context, b"").unwrap(), b"");
    }

    #[test]
    fn the_key_stays_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let context = at(Kind::Entry, 7, 2);
        let wrapped = sealed(&DataKey::open_or_make(folder.path()).unwrap(), context, b"plain");
        let again = DataKey::open_or_make(folder.path()).unwrap();
        assert_eq!(opened(&again, context, &wrapped).unwrap(), b"plain");
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        for wrong in ["", "SWDATA-2-00", "SWDATA-1-0", "SWDATA-1-é"] {
            fs::write(folder.path().join(FILE), wrong).unwrap();
            let refused = DataKey::open_or_make(folder.path()).err().unwrap().to_string();
            assert!(refused.contains("data.key holds no key that this version knows\n\nhint: "));
        }
    }
}
