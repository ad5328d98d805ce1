//! The hosts' cgroups: one folder per host below `swarm-lab`, in each hierarchy of the machine.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::Error;

const ROOT: &str = "/sys/fs/cgroup";

/// The controllers that containers are given limits by.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Makes a cgroup in every hierarchy.
pub(super) fn create(cgroup: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let mut path = hierarchy.clone();
        for part in Path::new(cgroup) {
            offer_controllers(&path);
            inherit_cpus(&path, part.as_ref())?;
            path.push(part);
        }
        offer_controllers(&path);
    }
    Ok(())
}

/// Removes a cgroup with all below it, from every hierarchy. Nothing there is fine.
pub(super) fn remove(cgroup: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.join(cgroup))?;
    }
    Ok(())
}

/// Removes a cgroup that others may still use: only where it is empty.
pub(super) fn remove_if_empty(cgroup: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let path = hierarchy.join(cgroup);
        match fs::remove_dir(&path) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ResourceBusy) =>
            {
                return Err(Error::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Version 2 is one tree at the root; version 1 is a tree per controller below it, with or without a version 2
/// tree beside them.
fn hierarchies() -> Result<Vec<PathBuf>, Error> {
    let root = Path::new(ROOT);
    if root.join("cgroup.procs").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::file("read", root))? {
        let path = entry.map_err(Error::file("read", root))?.path();
        // `cpu` and `cpuacct` may be links to one folder.
        if !path.is_symlink() && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    Ok(found)
}

/// In version 2, a cgroup's children have only the controllers that it offers them.
fn offer_controllers(path: &Path) {
    let file = path.join("cgroup.subtree_control");
    if file.exists() {
        for controller in CONTROLLERS {
            // One that the machine lacks is missing for the containers too; the runtime says so.
            let _ = fs::write(&file, format!("+{controller}"));
        }
    }
}

/// Makes a child. In version 1, a new cpuset is empty and would take no process: it gets what its parent has.
fn inherit_cpus(parent: &Path, name: &Path) -> Result<(), Error> {
    let child = parent.join(name);
    match fs::create_dir(&child) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::file("make", &child)(error)),
    }
    if child.join("cgroup.subtree_control").exists() {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), child.join(file));
        if let Ok(value) = fs::read_to_string(&from) {
            fs::write(&to, value.trim_end()).map_err(Error::file("write", &to))?;
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::file("read", path))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // The last processes may still be ending.
    for attempt in 0..200 {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != ErrorKind::ResourceBusy || attempt == 199 => {
                return Err(Error::file("remove", path)(error));
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    Ok(())
}
