//! Mounting what `config.json` lists into the container's root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, fstat, fstatfs, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::root::{Missing, Root};
use super::{MountError, Options};
use crate::cgroup::Hierarchy;
use crate::sys::{self, MountAttributes};

/// The kernel's number for procfs.
const PROC_MAGIC: i64 = 0x9fa0;

/// One mount of `config.json`, checked.
#[derive(Debug, Clone)]
pub(crate) struct MountSpec {
    pub(crate) destination: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: PathBuf,
    pub(crate) options: Options,
}

/// Mounts one entry.
pub(crate) fn mount(
    root: &Root,
    spec: &MountSpec,
    cgroups: &[Hierarchy],
) -> Result<(), MountError> {
    if spec.options.bind {
        return bind(root, spec);
    }
    let target = match spec.kind.as_str() {
        // What the masks rely on may not be led elsewhere by an image.
        "proc" | "sysfs" | "devtmpfs" => plain_place(root, &spec.destination)?,
        "tmpfs" if spec.destination == Path::new("/dev") => plain_place(root, &spec.destination)?,
        _ => place(root, &spec.destination, Missing::Directory)?,
    };
    if spec.kind == "cgroup" {
        return mount_cgroups(spec, &target, cgroups);
    }
    let mounted = new_file_system(spec, &spec.kind, &spec.options.data)?;
    finish(spec, &mounted)?;
    attach(&spec.destination, mounted.as_fd(), target.as_fd())
}

/// Puts a detached mount onto a place.
pub(crate) fn attach(
    destination: &Path,
    mounted: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", target, "", flags).map_err(kernel(destination, "attach it"))
}

/// A detached copy of the mount at a place.
pub(crate) fn clone(
    destination: &Path,
    place: BorrowedFd<'_>,
    recursive: bool,
) -> Result<OwnedFd, MountError> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(place, "", flags).map_err(kernel(destination, "copy the mount"))
}

/// A new detached file system.
pub(crate) fn new_tmpfs(destination: &Path, size: &str) -> Result<OwnedFd, MountError> {
    let spec = MountSpec {
        destination: destination.to_owned(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: Options::default(),
    };
    let data = [("size".into(), Some(size.into())), ("mode".into(), Some("755".into()))];
    new_file_system(&spec, "tmpfs", &data)
}

/// Changes attributes of a detached mount.
pub(crate) fn set_attributes(
    destination: &Path,
    mounted: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> Result<(), MountError> {
    sys::mount_setattr(mounted, recursive, attributes).map_err(|source| MountError::Kernel {
        destination: destination.to_owned(),
        action: "set its attributes",
        source,
    })
}

/// Attributes that make a mount read-only.
pub(crate) fn read_only() -> MountAttributes {
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    MountAttributes { set, ..MountAttributes::default() }
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

fn kernel<'a>(destination: &'a Path, action: &'static str) -> impl Fn(Errno) -> MountError + 'a {
    move |errno| MountError::Kernel {
        destination: destination.to_owned(),
        action,
        source: errno.into(),
    }
}

fn bind(root: &Root, spec: &MountSpec) -> Result<(), MountError> {
    let source_error = |source: io::Error| MountError::Source {
        destination: spec.destination.clone(),
        path: spec.source.clone(),
        source,
    };
    let tree = open_tree(CWD, &spec.source, clone_flags(spec.options.recursive))
        .map_err(|error| source_error(error.into()))?;
    let kind = fstat(&tree).map_err(|error| source_error(error.into()))?.st_mode;
    let missing = match FileType::from_raw_mode(kind) {
        FileType::Directory => Missing::Directory,
        _ => Missing::File,
    };
    let target = place(root, &spec.destination, missing)?;
    finish(spec, &tree)?;
    attach(&spec.destination, tree.as_fd(), target.as_fd())
}

/// Gives a detached mount its attributes and its propagation, private unless asked otherwise.
fn finish(spec: &MountSpec, mounted: &OwnedFd) -> Result<(), MountError> {
    let (kind, all) = spec.options.propagation.unwrap_or((libc::MS_PRIVATE, true));
    let propagation = MountAttributes { propagation: kind, ..MountAttributes::default() };
    set_attributes(&spec.destination, mounted.as_fd(), all, &propagation)?;
    if let Some(attributes) = spec.options.own_attributes() {
        set_attributes(&spec.destination, mounted.as_fd(), false, &attributes)?;
    }
    if let Some(attributes) = spec.options.all_attributes() {
        set_attributes(&spec.destination, mounted.as_fd(), true, &attributes)?;
    }
    Ok(())
}

fn new_file_system(
    spec: &MountSpec,
    kind: &str,
    data: &[(String, Option<String>)],
) -> Result<OwnedFd, MountError> {
    let failed = kernel(&spec.destination, "mount a new file system");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(&failed)?;
    fsconfig_set_string(&context, "source", &spec.source).map_err(&failed)?;
    for (key, value) in data {
        let set = match value {
            Some(value) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, key),
        };
        set.map_err(|_| MountError::Option {
            destination: spec.destination.clone(),
            option: value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")),
        })?;
    }
    fsconfig_create(&context).map_err(&failed)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(&failed)
}

fn place(root: &Root, destination: &Path, missing: Missing) -> Result<OwnedFd, MountError> {
    let target = root
        .make(destination, missing)
        .map_err(|source| unfit(destination, &sys::reason(&source)))?;
    let kind = fstatfs(&target).map_err(|error| unfit(destination, &error.to_string()))?.f_type;
    if kind == PROC_MAGIC {
        return Err(unfit(destination, "it leads into a proc file system"));
    }
    Ok(target)
}

fn plain_place(root: &Root, destination: &Path) -> Result<OwnedFd, MountError> {
    root.plain_directory(destination).map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => {
            unfit(destination, "the image has something else than a plain directory there")
        }
        _ => unfit(destination, &sys::reason(&source)),
    })
}

fn unfit(destination: &Path, reason: &str) -> MountError {
    MountError::Place { destination: destination.to_owned(), reason: reason.to_owned() }
}

/// Shows the container its own control groups: one hierarchy, or one folder for each.
fn mount_cgroups(
    spec: &MountSpec,
    target: &OwnedFd,
    cgroups: &[Hierarchy],
) -> Result<(), MountError> {
    let has_v1 = cgroups.iter().any(|hierarchy| !hierarchy.unified);
    if !has_v1 {
        let mounted = new_file_system(spec, "cgroup2", &[])?;
        finish(spec, &mounted)?;
        return attach(&spec.destination, mounted.as_fd(), target.as_fd());
    }
    let tmpfs = new_tmpfs(&spec.destination, "64k")?;
    attach(&spec.destination, tmpfs.as_fd(), target.as_fd())?;
    for hierarchy in cgroups.iter().filter(|hierarchy| !hierarchy.unified) {
        let names: Vec<_> = hierarchy.controllers.iter().map(|each| each.name()).collect();
        let data: Vec<_> = names.iter().map(|name| ((*name).to_owned(), None)).collect();
        let mounted = new_file_system(spec, "cgroup", &data)?;
        finish(spec, &mounted)?;
        let folder = names.join(",");
        let failed = kernel(&spec.destination, "make a folder for a control group");
        mkdirat(&tmpfs, &folder, Mode::from_raw_mode(0o755)).map_err(&failed)?;
        let place = Root::new(tmpfs.try_clone().map_err(|_| failed(Errno::MFILE))?)
            .plain_directory(Path::new(&folder))
            .map_err(|source| unfit(&spec.destination, &sys::reason(&source)))?;
        attach(&spec.destination, mounted.as_fd(), place.as_fd())?;
    }
    finish(spec, &tmpfs)
}
