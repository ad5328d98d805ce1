//! Volumes of this host: `volumes/<name>/_data` with a record beside it.
//!
//! A volume gets its name only when it is whole: it is made and filled aside, synced, then renamed. A fill that a crash
//! interrupts leaves nothing but a folder that the next start removes.

mod copy;
mod view;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use swarm_proto::assignment::VolumeReport;
use swarm_proto::id::{Digest, Timestamp, VolumeId};

use crate::image::Image;
use crate::{clock, durable, tree};

const DATA: &str = "_data";
const RECORD: &str = "volume.json";

/// What went wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The name cannot be a folder's name.
    #[error("`{0}` cannot be the name of a volume")]
    Name(String),
    /// The image's content could not be copied into it.
    #[error("volume `{name}` cannot be filled from `{path}` of the image")]
    Fill {
        /// The volume.
        name: String,
        /// Where in the image.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The disk refused.
    #[error("cannot {action} volume `{name}` at `{}`", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The volume.
        name: String,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a new volume is filled from.
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The image.
    pub image: &'a Image,
    /// Its name, for the record.
    pub reference: &'a str,
    /// The folder in the image: where the volume is mounted.
    pub path: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: VolumeId,
    name: String,
    created_at: Timestamp,
    filled_from: Option<(String, Digest)>,
}

impl From<Record> for VolumeReport {
    fn from(record: Record) -> Self {
        let Record { id, name, created_at, filled_from } = record;
        Self { id, name, created_at, filled_from }
    }
}

/// All volumes of this host.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    /// Makers and removers take turns, so that tasks which share a new volume fill it once.
    turn: Mutex<()>,
}

impl Volumes {
    /// Opens the folder of all volumes, and removes what an earlier run left unfinished.
    pub fn open(root: &Path) -> Result<Self, VolumeError> {
        let fail = |source| disk("open the folder of", "*", root, source);
        fs::create_dir_all(root).map_err(fail)?;
        durable::sweep(root).map_err(fail)?;
        Ok(Self { root: root.to_owned(), turn: Mutex::new(()) })
    }

    /// The folder to mount for a named volume, made and filled if there is none yet. True when it was made.
    pub fn ensure(
        &self,
        id: VolumeId,
        name: &str,
        fill: Option<Fill<'_>>,
    ) -> Result<(PathBuf, bool), VolumeError> {
        let folder = self.folder(name)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.record(name) {
            Some(record) if record.id == id => return Ok((folder.join(DATA), false)),
            Some(record) => self.set_aside(&folder, &record)?,
            None => tree::remove_path(&folder).map_err(|e| disk("clear", name, &folder, e))?,
        }
        let aside = durable::unfinished(&self.root);
        let made = make(name, &aside, fill).and_then(|filled_from| {
            let name = name.to_owned();
            let record = Record { id, name, created_at: clock::now(), filled_from };
            finish(&record, &aside, &folder).map_err(|e| disk("make", &record.name, &folder, e))
        });
        if let Err(error) = made {
            // The error of the removal would hide the first one; the next start removes it.
            let _ = tree::remove_path(&aside);
            return Err(error);
        }
        Ok((folder.join(DATA), true))
    }

    /// The folder to mount for a volume without a name, inside of a folder that goes away with its task.
    pub fn anonymous(
        folder: &Path,
        name: &str,
        fill: Option<Fill<'_>>,
    ) -> Result<PathBuf, VolumeError> {
        let place = folder.join(name);
        let fail = |source| disk("make", name, &place, source);
        if !place.exists() {
            fs::create_dir_all(folder).map_err(fail)?;
            let aside = durable::unfinished(folder);
            make(name, &aside, fill)?;
            fs::rename(&aside, &place).map_err(fail)?;
        }
        Ok(place.join(DATA))
    }

    /// Removes a volume with its content. Fine when it is not there, or when the name is another volume's by now.
    pub fn remove(&self, id: VolumeId, name: &str) -> Result<(), VolumeError> {
        let folder = self.folder(name)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.record(name).is_none_or(|record| record.id != id) {
            return Ok(());
        }
        // First the name, so that a crash leaves no half volume under it.
        let aside = durable::unfinished(&self.root);
        durable::rename(&folder, &aside)
            .and_then(|()| tree::remove_path(&aside))
            .map_err(|source| disk("remove", name, &folder, source))
    }

    /// All named volumes that are here.
    pub fn reports(&self) -> Result<Vec<VolumeReport>, VolumeError> {
        let fail = |source| disk("list", "*", &self.root, source);
        let mut reports = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let record = name.to_str().and_then(|name| self.record(name));
            reports.extend(record.map(VolumeReport::from));
        }
        reports.sort_by_key(|report| report.id);
        Ok(reports)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, VolumeError> {
        let fits = !name.is_empty() && name.len() < 200 && !name.starts_with('.');
        if !fits || name.contains(['/', '\0']) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        Ok(self.root.join(name))
    }

    fn record(&self, name: &str) -> Option<Record> {
        let content = fs::read(self.root.join(name).join(RECORD)).ok()?;
        match serde_json::from_slice::<Record>(&content) {
            Ok(record) => (record.name == name).then_some(record),
            Err(error) => {
                tracing::warn!(%name, %error, "cannot read a volume's record");
                None
            }
        }
    }

    /// A volume that the cluster has forgotten keeps its content, under a name that no task uses.
    fn set_aside(&self, folder: &Path, record: &Record) -> Result<(), VolumeError> {
        let kept = self.root.join(format!("{}.forgotten-{}", record.name, record.id));
        tracing::warn!(name = %record.name, kept = %kept.display(), "a forgotten volume is set aside");
        durable::rename(folder, &kept)
            .map_err(|source| disk("set aside", &record.name, &kept, source))
    }
}

fn disk(action: &'static str, name: &str, path: &Path, source: io::Error) -> VolumeError {
    VolumeError::Disk { action, name: name.to_owned(), path: path.to_owned(), source }
}

/// Makes `_data` in a new folder, with the image's content if it has any there.
fn make(
    name: &str,
    aside: &Path,
    fill: Option<Fill<'_>>,
) -> Result<Option<(String, Digest)>, VolumeError> {
    let data = aside.join(DATA);
    fs::create_dir_all(&data).map_err(|source| disk("make", name, &data, source))?;
    let target = tree::open_root(&data).map_err(|source| disk("open", name, &data, source))?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(0o755))
        .map_err(|error| disk("set the mode of", name, &data, error.into()))?;
    let Some(fill) = fill else { return Ok(None) };
    let path = fill.path.to_owned();
    let filled = view::with_root(&fill.image.layers, move |root| copy_in(&root, &path, &target));
    let filled = filled.map_err(|source| VolumeError::Fill {
        name: name.to_owned(),
        path: fill.path.to_owned(),
        source,
    })?;
    Ok(filled.then(|| (fill.reference.to_owned(), fill.image.digest.clone())))
}

/// Copies a folder of an image. False when the image has nothing there.
fn copy_in(root: &OwnedFd, path: &str, target: &OwnedFd) -> io::Result<bool> {
    let path = path.trim_matches('/').as_bytes();
    let source = match tree::open_folder(root, path) {
        Ok(source) => source,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    copy::folder(source.as_fd(), target.as_fd())
}

fn finish(record: &Record, aside: &Path, folder: &Path) -> io::Result<()> {
    durable::write(&aside.join(RECORD), &serde_json::to_vec(record)?)?;
    if record.filled_from.is_some() {
        rustix::fs::syncfs(tree::open_root(aside)?)?;
    }
    durable::rename(aside, folder)
}

#[cfg(test)]
#[path = "volume/tests.rs"]
mod tests;
