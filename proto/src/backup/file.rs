//! A backup's file and the file of its key.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{BackupError, BackupKey, decode, is_sealed};
use crate::wire;

/// Why a backup's file gives no backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackupError {
    /// It cannot be read.
    #[error("cannot read it")]
    File(#[source] io::Error),
    /// Its key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// What is in it is no backup, or no whole one, or another key's.
    #[error(transparent)]
    Content(#[from] BackupError),
}

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It could not be read or made.
    #[error("the key of a backup (--key-file) cannot be {action} `{}`", path.display())]
    File {
        /// `read from`, `written to`
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("`{}` holds no key of a backup: that begins with `{}`", path.display(), super::KEY_FORM)]
    Form {
        /// Which.
        path: PathBuf,
    },
}

/// Where the key of a backup lies when nobody says otherwise: beside it.
pub fn key_file(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

/// Reads a backup. Where it is sealed, its key is in the given file, or beside it.
pub fn read(path: &Path, key: Option<&Path>) -> Result<wire::Backup, ReadBackupError> {
    let bytes = fs::read(path).map_err(ReadBackupError::File)?;
    let key = if is_sealed(&bytes) {
        let path = key.map_or_else(|| key_file(path), Path::to_owned);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let key = read_key(&path)?;
        Some(key.ok_or_else(|| KeyFileError::File {
            action: "read from",
            path,
            source: missing(),
        })?)
    } else {
        None
    };
    Ok(decode(&bytes, key.as_ref())?)
}

/// Reads a key's file; `None` when there is none.
pub fn read_key(path: &Path) -> Result<Option<BackupKey>, KeyFileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(KeyFileError::File { action: "read from", path: path.to_owned(), source });
        }
    };
    let key = BackupKey::parse(&text);
    key.map(Some).ok_or_else(|| KeyFileError::Form { path: path.to_owned() })
}

/// Writes a key into a file of its own, which only its owner may read; durable on return. It replaces none.
pub fn write_key(path: &Path, key: &BackupKey) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    let refused =
        |source| KeyFileError::File { action: "written to", path: path.to_owned(), source };
    write().map_err(refused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::backup::{encode, seal};

    #[test]
    fn a_sealed_backup_needs_the_file_of_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let [path, elsewhere] = ["backup", "elsewhere"].map(|name| folder.path().join(name));
        let backup = wire::Backup { state: b"secret".to_vec(), ..wire::Backup::default() };
        let key = BackupKey::make().unwrap();
        fs::write(&path, seal(&backup, &key)).unwrap();
        let beside = key_file(&path);
        let without = read(&path, None).unwrap_err().to_string();
        let words =
            format!("the key of a backup (--key-file) cannot be read from `{}`", beside.display());
        assert_eq!(without, words);
        write_key(&beside, &key).unwrap();
        assert_eq!(beside.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path, None).unwrap(), backup);
        assert!(write_key(&beside, &key).is_err(), "a key's file is never replaced");

        write_key(&elsewhere, &BackupKey::make().unwrap()).unwrap();
        let other = read(&path, Some(&elsewhere)).unwrap_err();
        assert!(matches!(other, ReadBackupError::Content(BackupError::OtherKey)), "{other}");
        fs::write(&elsewhere, "SWKEY-1-00").unwrap();
        let foreign = read(&path, Some(&elsewhere)).unwrap_err().to_string();
        assert!(
            foreign.ends_with("holds no key of a backup: that begins with `SWBACKUP-1-`"),
            "{foreign}"
        );

        // What is not sealed needs none.
        fs::write(&path, encode(&backup)).unwrap();
        fs::remove_file(&beside).unwrap();
        assert_eq!(read(&path, None).unwrap(), backup);
    }
}
