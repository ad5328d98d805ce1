//! Snapshots of the state as files of their own: written aside, synced, renamed, and the folder synced.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use super::seal::{Context, Kind, Seal};
use super::{DiskError, room};

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

/// How names of files begin that are being made.
const NEW: &str = "new-";
/// Bytes that are written between two syncs.
const PART: usize = 4 << 20;

/// The folder of snapshot files.
pub(super) struct SnapshotDir {
    path: PathBuf,
    seal: Arc<dyn Seal>,
}

impl SnapshotDir {
    /// Makes the folder. What is left of unfinished files is removed.
    pub(super) fn open(path: PathBuf, seal: Arc<dyn Seal>) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        for found in fs::read_dir(&path)? {
            let found = found?;
            if is_unfinished(&found) {
                fs::remove_file(found.path())?;
            }
        }
        Ok(Self { path, seal })
    }

    /// Writes a snapshot so that it survives a power cut once this returns. Without room nothing is left of it.
    pub(super) fn write(
        &self,
        index: u64,
        term: u64,
        plain: Vec<u8>,
    ) -> Result<SnapshotName, DiskError> {
        let aside = self.path.join(format!("{NEW}{index}"));
        self.write_by(&aside, index, term, plain).map_err(|source| {
            if room::is_want(&source) {
                // If that fails, the next start does it.
                let _ = fs::remove_file(&aside);
                return DiskError::Full(room::shortage(&self.path));
            }
            self.failed("write", source)
        })
    }

    /// What went wrong here.
    pub(super) fn failed(&self, action: &'static str, source: io::Error) -> DiskError {
        DiskError::File { action, path: self.path.clone(), source }
    }

    fn write_by(
        &self,
        aside: &Path,
        index: u64,
        term: u64,
        plain: Vec<u8>,
    ) -> io::Result<SnapshotName> {
        let content = self.seal.seal_whole(Context { kind: Kind::Snapshot, index, term }, plain);
        let name = SnapshotName::of(index, term, &content);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(aside)?;
        // Synced as it goes: a sync of the log that came meanwhile would wait for all that is not.
        for part in content.chunks(PART) {
            file.write_all(part)?;
            file.sync_data()?;
        }
        file.sync_all()?;
        fs::rename(aside, self.path.join(name.file()))?;
        sync_dir(&self.path)?;
        Ok(name)
    }

    /// Reads a snapshot and compares its digest.
    pub(super) fn read(&self, name: &SnapshotName) -> io::Result<Vec<u8>> {
        let content = fs::read(self.path.join(name.file()))?;
        if SnapshotName::of(name.index, name.term, &content) != *name {
            let message = format!("{} is damaged (wrong digest)", name.file());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let context = Context { kind: Kind::Snapshot, index: name.index, term: name.term };
        let mut plain = Vec::with_capacity(content.len());
        self.seal.open(context, &content, &mut plain).map_err(io::Error::other)?;
        Ok(plain)
    }

    /// Removes every file but the named one and those that are being made.
    pub(super) fn retain(&self, keep: Option<&SnapshotName>) -> io::Result<()> {
        let keep = keep.map(SnapshotName::file);
        for found in fs::read_dir(&self.path)? {
            let found = found?;
            let stays = Some(found.file_name()) == keep.as_ref().map(Into::into);
            if !stays && !is_unfinished(&found) {
                fs::remove_file(found.path())?;
            }
        }
        Ok(())
    }
}

fn is_unfinished(found: &fs::DirEntry) -> bool {
    found.file_name().as_encoded_bytes().starts_with(NEW.as_bytes())
}

/// Makes the names in a folder survive a power cut.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::disk::seal::Unsealed;

    fn folder(path: PathBuf) -> SnapshotDir {
        SnapshotDir::open(path, Arc::new(Unsealed)).unwrap()
    }

    #[test]
    fn a_snapshot_is_read_back_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = folder(dir.path().join("snapshots"));
        let name = snapshots.write(7, 2, b"content".to_vec()).unwrap();
        assert_eq!(snapshots.read(&name).unwrap(), b"content");
        assert_eq!(SnapshotName::decode(&name.encode()), Some(name.clone()));

        fs::write(snapshots.path.join("snapshot-7-2"), b"c0ntent").unwrap();
        let error = snapshots.read(&name).unwrap_err();
        assert_eq!(error.to_string(), "snapshot-7-2 is damaged (wrong digest)");
    }

    #[test]
    fn only_the_named_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = folder(dir.path().to_owned());
        let older = snapshots.write(7, 2, b"older".to_vec()).unwrap();
        let newer = snapshots.write(9, 2, b"newer".to_vec()).unwrap();
        snapshots.retain(Some(&newer)).unwrap();
        assert_eq!(snapshots.read(&newer).unwrap(), b"newer");
        assert_eq!(snapshots.read(&older).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
