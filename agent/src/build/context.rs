//! What a client sends to build from: an archive, unpacked below the agent's folder, where nothing in it leads outside.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BuildError, attached};
use crate::image::{plain_reader_of, unpack_archive};
use crate::tree;

/// No context is larger, unpacked: 8 GiB.
const LARGEST: u64 = 8 << 30;
const FILES: &str = "context";

/// A build's own folder, with the client's files in it. Gone when this is.
#[derive(Debug)]
pub struct Context {
    folder: PathBuf,
    id: String,
    removed: bool,
}

impl Context {
    pub(super) fn make(folder: PathBuf, id: String) -> Result<Self, BuildError> {
        let files = folder.join(FILES);
        fs::create_dir_all(&files).map_err(BuildError::disk("make", &files))?;
        Ok(Self { folder, id, removed: false })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where the files are.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }

    /// Unpacks an archive, plain or compressed. All of it belongs to root; devices are left out. Blocks.
    pub fn unpack(&self, archive: impl Read + Send + 'static) -> Result<(), BuildError> {
        let files = self.files();
        let root = tree::open_root(&files).map_err(BuildError::disk("open", &files))?;
        let unpack = || -> io::Result<()> {
            let plain = plain_reader_of(archive)?;
            unpack_archive(Bounded { inner: plain, left: LARGEST }, root, Some((0, 0)))
        };
        unpack().map_err(|error| BuildError::Context(error.to_string()))
    }

    /// Its folder is gone already.
    pub(super) fn let_go(mut self) {
        self.removed = true;
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = attached::remove(&self.folder)
        {
            tracing::warn!(%error, folder = %self.folder.display(), "cannot remove a build's folder");
        }
    }
}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 8 GiB, unpacked")
        })?;
        Ok(length)
    }
}
