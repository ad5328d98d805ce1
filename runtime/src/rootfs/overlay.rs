//! The root file system from an image's layers, mounted without a path on the host.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};
use rustix::process::fchdir;

use super::MountError;
use super::root::open_host_directory;
use crate::message::RootfsSpec;

/// The longest value that one option of the mount interface takes.
const LONGEST_OPTION: usize = 255;

/// Mounts the layers and returns the mount, attached nowhere.
///
/// Changes the working directory of this thread to `descriptors`, a `/proc/self/fd`: layers are named
/// by descriptor numbers from there, which keeps the option short whatever the layers' paths.
pub(crate) fn mount(spec: &RootfsSpec, descriptors: &OwnedFd) -> Result<OwnedFd, MountError> {
    let [first, ..] = spec.lower_dirs.as_slice() else { return Err(MountError::NoLayer) };
    if spec.upper_dir.is_none() && spec.lower_dirs.len() == 1 {
        return clone_directory(first);
    }
    let layers: Vec<OwnedFd> =
        spec.lower_dirs.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let failed = |source| MountError::Overlay { source };
    fchdir(descriptors).map_err(|error| failed(error.into()))?;
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| failed(error.into()))?;
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&context, key, value).map_err(|error| failed(error.into()))
    };
    set("source", "overlay")?;
    let numbers: Vec<String> = layers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let joined = numbers.join(":");
    if joined.len() <= LONGEST_OPTION {
        set("lowerdir", &joined)?;
    } else {
        // Only newer kernels take layers one by one, and only very deep images need it.
        for number in &numbers {
            set("lowerdir+", number)?;
        }
    }
    let writable = match (&spec.upper_dir, &spec.work_dir) {
        (Some(upper), Some(work)) => Some((make_and_open(upper)?, make_and_open(work)?)),
        (None, None) => None,
        _ => return Err(MountError::HalfWritable),
    };
    if let Some((upper, work)) = &writable {
        // Whatever the kernel's own default is: the folder for changes holds all of them, and nothing but names below.
        set("redirect_dir", "off")?;
        set("metacopy", "off")?;
        set("upperdir", &upper.as_raw_fd().to_string())?;
        set("workdir", &work.as_raw_fd().to_string())?;
    }
    fsconfig_create(&context).map_err(|error| failed(error.into()))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|error| failed(error.into()))
}

/// Mounts the layers for the caller itself: the file system is attached nowhere, and lasts as long as the descriptor of
/// its root is open. Nothing of it stays after a crash.
pub fn mount_detached(spec: &RootfsSpec) -> Result<OwnedFd, MountError> {
    let spec = spec.clone();
    let work = move || {
        let failed = |source| MountError::Overlay { source };
        // Layers are named from a working directory, which is changed for this thread alone.
        unshare(CloneFlags::CLONE_FS).map_err(|errno| failed(errno.into()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty());
        mount(&spec, &descriptors.map_err(|error| failed(error.into()))?)
    };
    let thread = std::thread::Builder::new().name("mount-layers".into()).spawn(work);
    let thread = thread.map_err(|source| MountError::Overlay { source })?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A single layer needs no overlay.
fn clone_directory(path: &Path) -> Result<OwnedFd, MountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags)
        .map_err(|error| MountError::Layer { path: path.to_owned(), source: error.into() })
}

fn open(path: &Path) -> Result<OwnedFd, MountError> {
    open_host_directory(path).map_err(|source| MountError::Layer { path: path.to_owned(), source })
}

fn make_and_open(path: &Path) -> Result<OwnedFd, MountError> {
    make_if_missing(path)
        .and_then(|()| open_host_directory(path))
        .map_err(|source| MountError::Layer { path: path.to_owned(), source })
}

/// The folder for changes gives the container's root its mode, whatever this process's mask.
fn make_if_missing(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
