//! What steps made before, by everything that they depend on: `cache/<key>.json` names the layer.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use swarm_proto::id::{Digest, Timestamp};

use super::BuildError;
use crate::durable;
use crate::image::LayerBlob;

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
        self.folder.join(format!("{}.json", key.hex()))
    }

    /// What is known of a step. A record that cannot be read is none.
    pub(super) fn find(&self, key: &Digest) -> Option<Made> {
        serde_json::from_slice(&fs::read(self.path(key)).ok()?).ok()
    }

    /// Remembers a step.
    pub(super) fn keep(&self, key: &Digest, made: &Made) -> Result<(), BuildError> {
        let path: &Path = &self.path(key);
        let text = serde_json::to_vec(made)
            .map_err(|source| BuildError::Description { what: "cache record", source })?;
        durable::write(path, &text).map_err(BuildError::disk("write", path))
    }
}
