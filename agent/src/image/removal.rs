//! Takes images off the disk, so that a crash at any moment leaves none half there: first the record becomes a note of
//! what goes, then what nobody else refers to is set aside, layers before blobs, then all of that is deleted, and the
//! note last. An agent that starts finishes what notes tell of.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use swarm_proto::id::Digest;

use super::repositories::Index;
use super::repository::Repository;
use super::store::{RECORD, Record, Store, synced_mark};
use crate::{durable, tree};

/// Ends the name of a note.
const NOTE: &str = "removed";

/// Layers and blobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Layers, by their uncompressed digests.
    pub layers: BTreeSet<Digest>,
    /// Blobs.
    pub blobs: BTreeSet<Digest>,
}

impl Content {
    /// What an image consists of.
    pub(super) fn of(record: &Record) -> Self {
        let blobs = record.blobs.iter().chain([&record.digest]).cloned().collect();
        Self { layers: record.layers.iter().cloned().collect(), blobs }
    }

    /// What this host's registry has.
    pub(super) fn of_repositories(index: &Index) -> Self {
        let blobs = index.values().flat_map(Repository::content).cloned().collect();
        Self { layers: BTreeSet::new(), blobs }
    }

    /// Adds what another one consists of.
    pub fn add(&mut self, other: Self) {
        self.layers.extend(other.layers);
        self.blobs.extend(other.blobs);
    }

    /// What is not in another one.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self {
            layers: self.layers.difference(&other.layers).cloned().collect(),
            blobs: self.blobs.difference(&other.blobs).cloned().collect(),
        }
    }
}

impl Store {
    fn note(&self, digest: &Digest) -> PathBuf {
        self.records.join(format!("{}.{NOTE}", digest.hex()))
    }

    /// The first step: from here on there is no such image.
    pub(super) fn retire(&self, digest: &Digest) -> io::Result<()> {
        durable::rename(&self.record(digest), &self.note(digest))
    }

    /// The second step: takes their names from layers, then from blobs. Quick; what it answers with is deleted next.
    pub(super) fn set_aside(&self, content: &Content) -> io::Result<Vec<PathBuf>> {
        let mut aside = Vec::new();
        for layer in &content.layers {
            let path = self.layer(layer);
            remove_file(&synced_mark(&path))?;
            aside.extend(move_aside(&path, &self.layers)?);
        }
        sync(&self.layers)?;
        for blob in &content.blobs {
            for path in [self.partial_blob(blob), self.map_of_blob(blob), self.blob(blob)] {
                aside.extend(move_aside(&path, &self.blobs)?);
            }
        }
        sync(&self.blobs)?;
        Ok(aside)
    }

    /// The third step.
    pub(super) fn delete(aside: &[PathBuf]) -> io::Result<()> {
        aside.iter().try_for_each(|path| tree::remove_path(path))
    }

    /// The last step.
    pub(super) fn forget(&self, digest: &Digest) -> io::Result<()> {
        remove_file(&self.note(digest))
    }

    /// What all images consist of that have a record, be they whole or not. An error, too, where one cannot be read.
    pub(super) fn recorded(&self) -> io::Result<Content> {
        let mut recorded = Content::default();
        for entry in fs::read_dir(&self.records)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != RECORD) {
                continue;
            }
            let bytes = match fs::read(&path) {
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                let why = format!("the record `{}` cannot be read: {error}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?;
            recorded.add(Content::of(&self.with_blobs(record)));
        }
        Ok(recorded)
    }

    /// Ends removals that an earlier run began.
    pub(super) fn finish_removals(&self) -> io::Result<()> {
        let mut kept = Content::of_repositories(&self.repositories.hold());
        let mut notes = Vec::new();
        for entry in fs::read_dir(&self.records)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            let Some(ending @ (NOTE | RECORD)) = ending else { continue };
            let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let record = record.map(|record| self.with_blobs(record));
            match (ending, record) {
                (RECORD, Some(record)) => kept.add(Content::of(&record)),
                // What it speaks of is not known: nothing may be taken away.
                (RECORD, None) => return Ok(()),
                (_, record) => notes.push((path, record)),
            }
        }
        for (note, record) in notes {
            if let Some(record) = record {
                let content = Content::of(&record).without(&kept);
                Self::delete(&self.set_aside(&content)?)?;
            }
            remove_file(&note)?;
        }
        Ok(())
    }
}

fn move_aside(path: &Path, folder: &Path) -> io::Result<Option<PathBuf>> {
    let aside = durable::unfinished(folder);
    match fs::rename(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
