//! A root that can be changed: layers, and above them a folder that takes all changes.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use swarm_runtime::RootfsSpec;
use swarm_runtime::rootfs::mount_detached;

use super::BuildError;

/// Takes the place of layers where there are none: overlayfs wants one.
const NOTHING: &str = "nothing";
const UPPER: &str = "upper";
const WORK: &str = "work";

/// Layers with a folder for changes. Nothing is mounted while nobody works on it.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    /// The topmost first.
    lower: Vec<PathBuf>,
}

impl Snapshot {
    /// Makes one in an own folder, on layers of which the lowest is the first.
    pub(super) fn make(folder: &Path, layers: &[PathBuf]) -> Result<Self, BuildError> {
        fs::create_dir_all(folder).map_err(BuildError::disk("make", folder))?;
        let mut lower: Vec<PathBuf> = Vec::new();
        for layer in layers.iter().rev() {
            // The same layer again changes nothing below itself, and overlayfs refuses it.
            if !lower.contains(layer) {
                lower.push(layer.clone());
            }
        }
        if lower.is_empty() {
            let nothing = folder.join(NOTHING);
            fs::create_dir_all(&nothing).map_err(BuildError::disk("make", &nothing))?;
            lower.push(nothing);
        }
        Ok(Self { folder: folder.to_owned(), lower })
    }

    /// For a container, whose own namespace has the mount.
    pub(super) fn rootfs(&self) -> RootfsSpec {
        RootfsSpec {
            lower_dirs: self.lower.clone(),
            upper_dir: Some(self.folder.join(UPPER)),
            work_dir: Some(self.folder.join(WORK)),
            read_only: false,
        }
    }

    /// The root, to be changed. It is gone with the descriptor, and must be before the next one is asked for.
    pub(super) fn root(&self) -> Result<OwnedFd, BuildError> {
        Ok(mount_detached(&self.rootfs())?)
    }

    /// What was there before any change.
    pub(super) fn before(&self) -> Result<OwnedFd, BuildError> {
        let lower_dirs = self.lower.clone();
        let spec = RootfsSpec { lower_dirs, upper_dir: None, work_dir: None, read_only: true };
        Ok(mount_detached(&spec)?)
    }

    /// The changes, as overlayfs keeps them.
    pub(super) fn changes(&self) -> PathBuf {
        self.folder.join(UPPER)
    }
}
