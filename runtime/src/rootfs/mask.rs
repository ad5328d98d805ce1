//! Parts of the kernel's file systems that a container may not see or may not write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, fstat};

use super::root::Root;
use super::{MountError, device, mount};
use crate::sys;

/// Hides paths: folders behind an empty read-only one, files behind the null device.
pub(crate) fn hide(root: &Root, paths: &[PathBuf]) -> Result<(), MountError> {
    let mut empty: Option<OwnedFd> = None;
    let mut null: Option<OwnedFd> = None;
    for path in paths {
        let Some(place) = find(root, path)? else { continue };
        let kind = fstat(&place).map_err(|error| MountError::Kernel {
            destination: path.clone(),
            action: "look at it",
            source: error.into(),
        })?;
        if FileType::from_raw_mode(kind.st_mode) != FileType::Directory {
            let source = match null.take() {
                Some(source) => source,
                None => device::open_null(root, OFlags::PATH)?,
            };
            let cover = mount::clone(path, source.as_fd(), false)?;
            mount::attach(path, cover.as_fd(), place.as_fd())?;
            null = Some(source);
        } else if let Some(source) = &empty {
            let cover = mount::clone(path, source.as_fd(), false)?;
            mount::attach(path, cover.as_fd(), place.as_fd())?;
        } else {
            // The first one is attached itself: older kernels copy only what is attached somewhere.
            let cover = empty_folder(path)?;
            mount::attach(path, cover.as_fd(), place.as_fd())?;
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Makes paths read-only, with all below them.
pub(crate) fn freeze(root: &Root, paths: &[PathBuf]) -> Result<(), MountError> {
    for path in paths {
        let Some(place) = find(root, path)? else { continue };
        let copy = mount::clone(path, place.as_fd(), true)?;
        mount::set_attributes(path, copy.as_fd(), true, &mount::read_only())?;
        mount::attach(path, copy.as_fd(), place.as_fd())?;
    }
    Ok(())
}

/// The place to cover; nothing to do when the kernel does not have it.
fn find(root: &Root, path: &Path) -> Result<Option<OwnedFd>, MountError> {
    root.place(path).or_else(|source| match source.raw_os_error() {
        Some(libc::ENOTDIR) => Ok(None),
        _ => Err(MountError::Place { destination: path.to_owned(), reason: sys::reason(&source) }),
    })
}

fn empty_folder(path: &Path) -> Result<OwnedFd, MountError> {
    let folder = mount::new_tmpfs(path, "4k")?;
    mount::set_attributes(path, folder.as_fd(), false, &mount::read_only())?;
    Ok(folder)
}
