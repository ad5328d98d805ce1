//! The files of an archive, put aside under numbers as they come: no name of an archive becomes a path.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;
use tar::EntryType;

use super::super::ImageError;
use super::super::store::{Store, digest_of};
use super::super::{compression, room};
use super::wrong;
use crate::{durable, tree};

/// Files that an archive may have.
const MOST_FILES: usize = 20_000;
/// No document is larger.
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// A link may lead to a link, so often.
const MOST_LINKS: usize = 8;
/// What is told to have no room.
const ARCHIVE: &str = "the archive";
/// Between two looks at the disk.
const LOOK_EVERY: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file that was put aside.
struct Kept {
    path: PathBuf,
    digest: Digest,
    size: u64,
    compressed: bool,
}

/// See the module. What was not taken out of it is deleted when it is dropped.
pub(super) struct Spool {
    folder: PathBuf,
    files: BTreeMap<String, Kept>,
    links: BTreeMap<String, String>,
    written: u64,
    looked: u64,
    reserve: Option<u64>,
}

impl Spool {
    /// Reads an archive to its end.
    pub(super) fn read(
        store: &Store,
        reserve: Option<u64>,
        archive: impl Read + Send + 'static,
    ) -> Result<Self, ImageError> {
        let folder = durable::unfinished(&store.blobs);
        fs::create_dir(&folder).map_err(ImageError::disk("make", &folder))?;
        let (files, links) = (BTreeMap::new(), BTreeMap::new());
        let mut spool = Self { folder, files, links, written: 0, looked: 0, reserve };
        room::check(ARCHIVE, &spool.folder, spool.reserve)?;
        spool.take(compression::reader_of(archive).map_err(|error| broken(&error))?)?;
        Ok(spool)
    }

    fn take(&mut self, mut archive: impl Read) -> Result<(), ImageError> {
        let mut tar = tar::Archive::new(&mut archive);
        for entry in tar.entries().map_err(|error| broken(&error))? {
            let mut entry = entry.map_err(|error| broken(&error))?;
            let name = plain(&entry.path_bytes());
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => self.keep(name, &mut entry)?,
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = beside(&name, &String::from_utf8_lossy(&target));
                    self.links.insert(name, target);
                }
                EntryType::Link => {
                    let target = plain(&entry.link_name_bytes().unwrap_or_default());
                    self.links.insert(name, target);
                }
                _ => {}
            }
            if self.files.len() + self.links.len() > MOST_FILES {
                return Err(wrong(format!("it has more than {MOST_FILES} files")));
            }
        }
        // Whoever sends it must be able to send all of it.
        io::copy(&mut archive, &mut io::sink()).map_err(|error| broken(&error))?;
        Ok(())
    }

    fn keep(&mut self, name: String, content: &mut impl Read) -> Result<(), ImageError> {
        let path = self.folder.join(self.files.len().to_string());
        let failed = |error| ImageError::disk("write", &path)(error);
        let mut file = File::create(&path).map_err(failed)?;
        let (mut hash, mut size, mut compressed) = (Sha256::new(), 0, false);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = content.read(&mut buffer).map_err(|error| broken(&error))?;
            let Some(part) = buffer.get(..length).filter(|part| !part.is_empty()) else { break };
            compressed |= size == 0 && part.starts_with(&GZIP);
            file.write_all(part).map_err(|error| ImageError::disk("write", &path)(error))?;
            hash.update(part);
            size += length as u64;
            self.written += length as u64;
            if self.written - self.looked > LOOK_EVERY {
                self.looked = self.written;
                room::check(ARCHIVE, &self.folder, self.reserve)?;
            }
        }
        self.files.insert(name, Kept { path, digest: digest_of(hash), size, compressed });
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Kept> {
        let mut name = plain(name.as_bytes());
        for _ in 0..MOST_LINKS {
            if let Some(kept) = self.files.get(&name) {
                return Some(kept);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// A small file's content; `None` when there is no such file.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(kept) = self.find(name) else { return Ok(None) };
        if kept.size > LARGEST_DOCUMENT {
            return Err(wrong(format!("its {name} is larger than 8 MiB")));
        }
        fs::read(&kept.path).map(Some).map_err(ImageError::disk("read", &kept.path))
    }

    /// A manifest, index or configuration of an OCI layout.
    pub(super) fn blob_document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        self.document(&in_layout(digest))
    }

    /// Digest and size of a file, and whether it is compressed.
    pub(super) fn describe(&self, name: &str) -> Result<(Digest, u64, bool), ImageError> {
        let kept = self.find(name).ok_or_else(|| wrong(format!("it lacks the file `{name}`")))?;
        Ok((kept.digest.clone(), kept.size, kept.compressed))
    }

    /// Makes a blob of a file, by default of the one that an OCI layout has for it; false when neither the archive nor
    /// this host has it.
    pub(super) fn import(
        &self,
        store: &Store,
        digest: &Digest,
        file: Option<&str>,
    ) -> Result<bool, ImageError> {
        let target = store.blob(digest);
        if target.exists() {
            return Ok(true);
        }
        let Some(kept) = self.find(file.unwrap_or(&in_layout(digest))) else { return Ok(false) };
        if kept.digest != *digest {
            let found = kept.digest.to_string();
            return Err(ImageError::Corrupt { expected: digest.to_string(), found });
        }
        let failed = |error| ImageError::disk("name", &target)(error);
        File::open(&kept.path).and_then(|file| file.sync_all()).map_err(failed)?;
        // A file may be two images' layer: it is linked, and its number is deleted with the others.
        fs::hard_link(&kept.path, &target)
            .and_then(|()| File::open(&store.blobs)?.sync_all())
            .map_err(|error| ImageError::disk("name", &target)(error))?;
        Ok(true)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_path(&self.folder) {
            tracing::warn!(%error, path = %self.folder.display(), "cannot remove what is left of an archive");
        }
    }
}

fn broken(error: &io::Error) -> ImageError {
    wrong(format!("it cannot be read: {error}"))
}

fn in_layout(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A name in an archive, without what says nothing: `./a//b` is `a/b`.
fn plain(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// Where a link leads.
fn beside(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
