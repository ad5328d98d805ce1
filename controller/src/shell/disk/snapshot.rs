//! Snapshots of the state as files of their own: written aside, synced, renamed, and the folder synced.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

/// Which snapshot the log begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotName {
    /// The last entry in it.
    pub(super) index: u64,
    /// That entry's term.
    pub(super) term: u64,
    /// SHA-256 of the file's content.
    pub(super) digest: [u8; 32],
}

impl SnapshotName {
    /// The name of a content.
    pub(super) fn of(index: u64, term: u64, content: &[u8]) -> Self {
        Self { index, term, digest: sha2::Sha256::digest(content).into() }
    }

    fn file(&self) -> String {
        format!("snapshot-{}-{}", self.index, self.term)
    }

    /// As a value of the tree.
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.index.to_be_bytes(), self.term.to_be_bytes()];
        numbers.iter().flatten().chain(&self.digest).copied().collect()
    }

    /// From a value of the tree.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (index, rest) = value.split_first_chunk::<8>()?;
        let (term, digest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            index: u64::from_be_bytes(*index),
            term: u64::from_be_bytes(*term),
            digest: digest.try_into().ok()?,
        })
    }
}

/// The folder of snapshot files.
#[derive(Debug)]
pub(super) struct SnapshotDir {
    path: PathBuf,
}

impl SnapshotDir {
    /// Makes the folder.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Writes a snapshot so that it survives a power cut once this returns.
    pub(super) fn write(&self, name: &SnapshotName, content: &[u8]) -> io::Result<()> {
        let aside = self.path.join("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, self.path.join(name.file()))?;
        sync_dir(&self.path)
    }

    /// Reads a snapshot and compares its digest.
    pub(super) fn read(&self, name: &SnapshotName) -> io::Result<Vec<u8>> {
        let content = fs::read(self.path.join(name.file()))?;
        if SnapshotName::of(name.index, name.term, &content) != *name {
            let message = format!("{} is damaged (wrong digest)", name.file());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(content)
    }

    /// Removes every file but the named one.
    pub(super) fn retain(&self, keep: Option<&SnapshotName>) -> io::Result<()> {
        let keep = keep.map(SnapshotName::file);
        for found in fs::read_dir(&self.path)? {
            let found = found?;
            if Some(found.file_name()) != keep.as_ref().map(Into::into) {
                fs::remove_file(found.path())?;
            }
        }
        Ok(())
    }
}

/// Makes the names in a folder survive a power cut.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotDir::open(dir.path().join("snapshots")).unwrap();
        let name = SnapshotName::of(7, 2, b"content");
        snapshots.write(&name, b"content").unwrap();
        assert_eq!(snapshots.read(&name).unwrap(), b"content");
        assert_eq!(SnapshotName::decode(&name.encode()), Some(name.clone()));

        fs::write(snapshots.path.join("snapshot-7-2"), b"c0ntent").unwrap();
        let error = snapshots.read(&name).unwrap_err();
        assert_eq!(error.to_string(), "snapshot-7-2 is damaged (wrong digest)");
    }

    #[test]
    fn only_the_named_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotDir::open(dir.path().to_owned()).unwrap();
        let older = SnapshotName::of(7, 2, b"older");
        let newer = SnapshotName::of(9, 2, b"newer");
        snapshots.write(&older, b"older").unwrap();
        snapshots.write(&newer, b"newer").unwrap();
        snapshots.retain(Some(&newer)).unwrap();
        assert_eq!(snapshots.read(&newer).unwrap(), b"newer");
        assert_eq!(snapshots.read(&older).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
