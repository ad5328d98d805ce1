//! The host's devices, for privileged containers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};

/// What the container has of its own kind.
const OWN: [&str; 7] = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "log"];

/// All device nodes below `/dev`, as an OCI configuration lists them.
pub(super) fn of_host() -> Vec<Value> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), 0, &mut devices);
    devices
}

fn collect(folder: &Path, depth: u32, devices: &mut Vec<Value>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let own = depth == 0 && OWN.iter().any(|name| entry.file_name() == *name);
        let Ok(meta) = entry.metadata() else { continue };
        if own {
            continue;
        }
        if meta.is_dir() && depth < 4 {
            collect(&entry.path(), depth + 1, devices);
        }
        let kind = meta.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            let number = meta.rdev();
            devices.push(json!({
                "path": entry.path(),
                "type": if kind.is_block_device() { "b" } else { "c" },
                "major": rustix::fs::major(number),
                "minor": rustix::fs::minor(number),
                "fileMode": meta.permissions().mode() & 0o7777,
                "uid": meta.uid(),
                "gid": meta.gid(),
            }));
        }
    }
}
