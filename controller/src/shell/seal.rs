//! Secrets at rest: what the disk keeps of the state is wrapped with XChaCha20-Poly1305 under a key of this host alone.
//! That key lies beside it; in a locked cluster wrapped itself, under a key that is on no disk but within what it opens.
//! With each unlock key comes a new key of the disk, first of those in the file: whoever had read the file before opens
//! nothing that is written from then on. Those after it open what was written before.
//!
//! Wrapped bytes are a mark and what [`SealingKey`] makes. Version 0.1.0 wrapped nothing: bytes without
//! the mark are taken as they are, for no entry and no snapshot begins with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use swarm_proto::object::Secret;
use swarm_proto::sealing::{
    KEY, NONCE, NoRandomness, OVERHEAD, OpenError, SealingKey, from_hex, to_hex,
};
use zeroize::Zeroizing;

use super::disk::seal::{Context, Seal};

/// The first bytes of what is wrapped. The entries' and snapshots' own encodings never begin with the first of them.
const MARK: [u8; 4] = [0xf5, b'S', b'W', 1];

/// The file of the key, in the folder of the log.
const FILE: &str = "data.key";
/// What the keys' text begins with: its form and version.
const FORM: &str = "SWDATA-1-";
/// The same of keys that are wrapped under the cluster's unlock key.
const WRAPPED_FORM: &str = "SWDATA-2-";
/// What the unlock key's text begins with.
const UNLOCK_FORM: &str = "SWKEY-1-";

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
    /// The key is wrapped, and nobody has given the unlock key.
    #[error(
        "this controller is locked: the key in {} is wrapped\n\nhint: start the controller, and open it with `swarmctl cluster unlock` on its host",
        path.display()
    )]
    Wrapped {
        /// Which.
        path: PathBuf,
    },
    /// The key is wrapped under another unlock key.
    #[error("this is not the unlock key that opens {}", path.display())]
    WrongKey {
        /// Which.
        path: PathBuf,
    },
    /// No key can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Wraps what this host's disk keeps.
pub struct DataKey {
    /// The first one seals; the others open what was sealed before there was that one.
    keys: RwLock<Vec<SealingKey>>,
    folder: PathBuf,
    /// Under which unlock key its file keeps it; `None` when it lies there as it is.
    unlock_key: Mutex<Option<Secret>>,
}

impl DataKey {
    /// Reads the key of a log's folder; a folder without one gets a new key, durable on return. One that is wrapped is
    /// refused.
    pub fn open_or_make(folder: &Path) -> Result<Self, SealError> {
        let path = folder.join(FILE);
        match read(&path)? {
            Some(text) if text.starts_with(WRAPPED_FORM) => Err(SealError::Wrapped { path }),
            Some(text) => {
                let keys = text.trim_end().strip_prefix(FORM).and_then(from_hex);
                let keys = keys.and_then(|bytes| apart(&bytes));
                Ok(Self::of(folder, keys.ok_or(SealError::Form { path })?, None))
            }
            None => {
                let made = Self::of(folder, vec![SealingKey::make()?], None);
                made.keep(None)?;
                Ok(made)
            }
        }
    }

    /// Whether the key of a log's folder is wrapped.
    pub fn is_wrapped(folder: &Path) -> Result<bool, SealError> {
        Ok(read(&folder.join(FILE))?.is_some_and(|text| text.starts_with(WRAPPED_FORM)))
    }

    /// Unwraps the key of a log's folder.
    pub fn unwrap(folder: &Path, unlock: &UnlockKey) -> Result<Self, SealError> {
        let path = folder.join(FILE);
        let text = read(&path)?.unwrap_or_default();
        let wrapped = text.trim_end().strip_prefix(WRAPPED_FORM).and_then(from_hex);
        let wrapped = wrapped.ok_or_else(|| SealError::Form { path: path.clone() })?;
        let bytes = unlock.unwrap(&wrapped);
        let bytes = bytes.ok_or_else(|| SealError::WrongKey { path: path.clone() })?;
        let keys = apart(&bytes).ok_or(SealError::Form { path })?;
        Ok(Self::of(folder, keys, Some(unlock.secret())))
    }

    /// Keeps the key wrapped from now on, or as it is; durable on return. What is sealed after it was wrapped under
    /// another unlock key than before is sealed under a new key.
    pub fn keep(&self, unlock: Option<&UnlockKey>) -> Result<(), SealError> {
        let mut kept = self.unlock_key.lock().unwrap_or_else(PoisonError::into_inner);
        let unlock_key = unlock.map(UnlockKey::secret);
        let is_other = unlock_key.is_some() && unlock_key != *kept;
        let made = if is_other { Some(SealingKey::make()?) } else { None };
        self.write(made.as_ref(), unlock)?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).splice(0..0, made);
        *kept = unlock_key;
        Ok(())
    }

    /// Writes the file anew, with a further key first.
    fn write(
        &self,
        first: Option<&SealingKey>,
        unlock: Option<&UnlockKey>,
    ) -> Result<(), SealError> {
        let keys = together(first.into_iter().chain(self.keys().iter()));
        let text = Zeroizing::new(match unlock {
            None => format!("{FORM}{}\n", to_hex(&keys).as_str()),
            Some(unlock) => format!("{WRAPPED_FORM}{}\n", to_hex(&unlock.wrap(&keys)).as_str()),
        });
        let path = self.folder.join(FILE);
        let aside = self.folder.join(format!("{FILE}.new"));
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| SealError::File { action: "write", path, source })
    }

    /// The unlock key under which the key is kept; `None` when it lies on the disk as it is.
    pub fn unlock_key(&self) -> Option<Secret> {
        self.unlock_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keys(&self) -> RwLockReadGuard<'_, Vec<SealingKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(folder: &Path, keys: Vec<SealingKey>, unlock_key: Option<Secret>) -> Self {
        let keys = RwLock::new(keys);
        Self { keys, folder: folder.to_owned(), unlock_key: Mutex::new(unlock_key) }
    }
}

/// Keys one after the other, as their file keeps them.
fn together<'a>(keys: impl Iterator<Item = &'a SealingKey>) -> Zeroizing<Vec<u8>> {
    let keys: Vec<&SealingKey> = keys.collect();
    let mut bytes = Zeroizing::new(Vec::with_capacity(keys.len() * KEY));
    for key in keys {
        bytes.extend_from_slice(key.bytes());
    }
    bytes
}

/// The keys of these bytes; `None` when they are something else.
fn apart(bytes: &[u8]) -> Option<Vec<SealingKey>> {
    let keys = bytes.chunks(KEY).map(|key| SealingKey::of(Zeroizing::new(key.to_vec())));
    keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
}

/// What opens the wrapped key of a controller's disk. A person keeps it.
pub struct UnlockKey(SealingKey);

impl UnlockKey {
    /// A new one.
    pub fn make() -> Result<Self, SealError> {
        Ok(Self(SealingKey::make()?))
    }

    /// Reads its text: `SWKEY-1-` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        SealingKey::parse(UNLOCK_FORM, text).map(Self)
    }

    /// Its text.
    pub fn secret(&self) -> Secret {
        Secret::new(self.0.text(UNLOCK_FORM).as_str().to_owned())
    }

    fn wrap(&self, keys: &[u8]) -> Vec<u8> {
        let mut wrapped = Vec::new();
        self.0.seal(WRAPPED_FORM.as_bytes(), keys, &mut wrapped);
        wrapped
    }

    fn unwrap(&self, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut keys = Zeroizing::new(Vec::with_capacity(wrapped.len()));
        self.0.open(WRAPPED_FORM.as_bytes(), wrapped, &mut keys).ok()?;
        Some(keys)
    }
}

/// A file's text; `None` when there is none.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, SealError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SealError::File { action: "read", path: path.to_owned(), source }),
    }
}

impl Seal for DataKey {
    fn seal(&self, context: Context, plain: &[u8], out: &mut Vec<u8>) {
        out.reserve(MARK.len() + OVERHEAD + plain.len());
        out.extend_from_slice(&MARK);
        let keys = self.keys();
        let first = keys.first().expect("there is always a key");
        first.seal(&context.to_bytes(), plain, out);
    }

    fn seal_whole(&self, context: Context, plain: Vec<u8>) -> Vec<u8> {
        let mut bytes = plain;
        bytes.splice(0..0, MARK.into_iter().chain([0; NONCE]));
        let keys = self.keys();
        let first = keys.first().expect("there is always a key");
        first.seal_in_place(&context.to_bytes(), &mut bytes, MARK.len());
        bytes
    }

    fn open(&self, context: Context, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let Some(rest) = sealed.strip_prefix(&MARK) else {
            out.extend_from_slice(sealed);
            return Ok(());
        };
        let mut refused = OpenError::Refused;
        for key in self.keys().iter() {
            match key.open(&context.to_bytes(), rest, out) {
                Ok(()) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        Err(match refused {
            OpenError::Short => refused.to_string(),
            OpenError::Refused => {
                format!("it is damaged, or was written under another key than those in `{FILE}`")
            }
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
            prop_assert_eq!(wrapped.len(), plain.len() + MARK.len() + OVERHEAD);
            prop_assert_eq!(opened(&key, context, &wrapped).unwrap(), plain.clone());
            let whole = key.seal_whole(context, plain.clone());
            prop_assert_eq!(whole.len(), wrapped.len());
            prop_assert_eq!(opened(&key, context, &whole).unwrap(), plain);
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
    fn a_wrapped_key_is_opened_by_its_unlock_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = || fs::read_to_string(folder.path().join(FILE)).unwrap();
        let context = at(Kind::Entry, 7, 2);
        let data_key = DataKey::open_or_make(folder.path()).unwrap();
        let (plain, sealed) = (file(), sealed(&data_key, context, b"plain"));
        let (unlock, other) = (UnlockKey::make().unwrap(), UnlockKey::make().unwrap());
        data_key.keep(Some(&unlock)).unwrap();
        let digits = plain.trim_end().strip_prefix(FORM).unwrap();
        assert!(!file().contains(digits), "the key lies open");
        assert!(DataKey::is_wrapped(folder.path()).unwrap());
        let refused = DataKey::open_or_make(folder.path()).err().unwrap().to_string();
        assert!(refused.starts_with("this controller is locked: "), "{refused}");
        let wrong = DataKey::unwrap(folder.path(), &other).err().unwrap();
        assert!(matches!(wrong, SealError::WrongKey { .. }), "{wrong}");
        let text = unlock.secret();
        let unlock = UnlockKey::parse(&format!(" {}\n", text.reveal())).unwrap();
        let again = DataKey::unwrap(folder.path(), &unlock).unwrap();
        assert_eq!(again.unlock_key(), Some(text));
        assert_eq!(opened(&again, context, &sealed).unwrap(), b"plain");
        again.keep(None).unwrap();
        assert!(file().ends_with(&format!("{digits}\n")), "the key from before is still there");
        for wrong in ["", "SWKEY-1-", "SWKEY-1-00", "SWKEY-2-00"] {
            assert!(UnlockKey::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_unlock_key_comes_with_a_new_data_key() {
        let folder = tempfile::tempdir().unwrap();
        let data_key = DataKey::open_or_make(folder.path()).unwrap();
        let stolen = DataKey::open_or_make(folder.path()).unwrap();
        let (unlock, other) = (UnlockKey::make().unwrap(), UnlockKey::make().unwrap());
        let before = sealed(&data_key, at(Kind::Entry, 1, 1), b"before");
        data_key.keep(Some(&unlock)).unwrap();
        let locked = sealed(&data_key, at(Kind::Entry, 2, 1), b"locked");
        assert!(opened(&stolen, at(Kind::Entry, 2, 1), &locked).is_err());
        assert_eq!(opened(&stolen, at(Kind::Entry, 1, 1), &before).unwrap(), b"before");

        let stolen = DataKey::unwrap(folder.path(), &unlock).unwrap();
        data_key.keep(Some(&unlock)).unwrap();
        let again = sealed(&data_key, at(Kind::Entry, 3, 1), b"again");
        assert_eq!(opened(&stolen, at(Kind::Entry, 3, 1), &again).unwrap(), b"again");
        data_key.keep(Some(&other)).unwrap();
        let rotated = sealed(&data_key, at(Kind::Entry, 4, 1), b"rotated");
        assert!(opened(&stolen, at(Kind::Entry, 4, 1), &rotated).is_err());

        let later = DataKey::unwrap(folder.path(), &other).unwrap();
        later.keep(None).unwrap();
        let later = DataKey::open_or_make(folder.path()).unwrap();
        for (index, wrapped, plain) in [
            (1, before, "before"),
            (2, locked, "locked"),
            (3, again, "again"),
            (4, rotated, "rotated"),
        ] {
            let text = opened(&later, at(Kind::Entry, index, 1), &wrapped).unwrap();
            assert_eq!(text, plain.as_bytes());
        }
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

        for wrong in ["", "SWDATA-3-00", "SWDATA-1-0", "SWDATA-1-é"] {
            fs::write(folder.path().join(FILE), wrong).unwrap();
            let refused = DataKey::open_or_make(folder.path()).err().unwrap().to_string();
            assert!(refused.contains("data.key holds no key that this version knows\n\nhint: "));
        }
    }
}
