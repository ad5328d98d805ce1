//! What steps made before, by everything that they depend on: `cache/<key>.json` names the layer.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use swarm_proto::id::{Digest, Timestamp};

use super::BuildError;
use crate::clock;
use crate::durable;
use crate::image::{Content, LayerBlob, Spare, Tenant};

/// Ends a record's name.
const RECORD: &str = ".json";

/// What an earlier build made of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The layer; a step that changed nothing needs none.
    pub(super) layer: Option<LayerBlob>,
    /// When it was made.
    pub(super) made_at: Timestamp,
}

/// The folder of records.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// What a step depends on, as one digest.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut lengths = Vec::new();
    let parts: Vec<&[u8]> = parts.into_iter().collect();
    for part in &parts {
        lengths.extend_from_slice(&(part.len() as u64).to_le_bytes());
    }
    Digest::of(std::iter::once(lengths.as_slice()).chain(parts))
}

impl Cache {
    pub(super) fn open(folder: PathBuf) -> Result<Self, BuildError> {
        fs::create_dir_all(&folder).map_err(BuildError::disk("make", &folder))?;
        durable::sweep(&folder).map_err(BuildError::disk("clean", &folder))?;
        Ok(Self { folder })
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(format!("{}{RECORD}", key.hex()))
    }

    /// What is known of a step, which is used thereby. A record that cannot be read is none.
    pub(super) fn find(&self, key: &Digest) -> Option<Made> {
        let mut text = Vec::new();
        let mut file = File::open(self.path(key)).ok()?;
        file.read_to_end(&mut text).ok()?;
        let made = serde_json::from_slice(&text).ok()?;
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!(%error, %key, "cannot note that a cache is used");
        }
        Some(made)
    }

    /// All records, each with when it was used last.
    fn records(&self) -> io::Result<Vec<Spare>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(RECORD) {
                continue;
            }
            let (text, used_at) = match (fs::read(entry.path()), entry.metadata()) {
                (Ok(text), Ok(metadata)) => (text, clock::of(metadata.modified()?)),
                (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                (Err(error), _) | (_, Err(error)) => return Err(error),
            };
            let made: Option<Made> = serde_json::from_slice(&text).ok();
            let layer = made.and_then(|made| made.layer);
            let content = layer.map(|layer| Content {
                layers: [layer.diff_id].into(),
                blobs: [layer.digest].into(),
            });
            records.push(Spare { name, content: content.unwrap_or_default(), used_at });
        }
        Ok(records)
    }

    /// Remembers a step.
    pub(super) fn keep(&self, key: &Digest, made: &Made) -> Result<(), BuildError> {
        let path: &Path = &self.path(key);
        let text = serde_json::to_vec(made)
            .map_err(|source| BuildError::Description { what: "cache record", source })?;
        durable::write(path, &text).map_err(BuildError::disk("write", path))
    }
}

/// Layers of steps stay as long as the steps are remembered.
impl Tenant for Cache {
    fn content(&self) -> io::Result<Content> {
        let mut all = Content::default();
        self.records()?.into_iter().for_each(|record| all.add(record.content));
        Ok(all)
    }

    fn spare(&self) -> io::Result<Vec<Spare>> {
        self.records()
    }

    fn let_go(&self, spare: &Spare) -> io::Result<Option<u64>> {
        let path = self.folder.join(&spare.name);
        match fs::metadata(&path) {
            // A build has found it meanwhile.
            Ok(file) if clock::of(file.modified()?) > spare.used_at => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        fs::remove_file(&path)?;
        Ok(Some(0))
    }
}
