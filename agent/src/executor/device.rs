//! The host's devices: all of them for privileged containers, those that are asked for else.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};
use swarm_proto::spec::{Device, DeviceAccess, DeviceKind, DeviceRule};

/// What the container has of its own kind.
const OWN: [&str; 7] = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "log"];

/// Folders of devices are not nested deeper.
const DEEPEST: u32 = 4;

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
        if meta.is_dir() && depth < DEEPEST {
            collect(&entry.path(), depth + 1, devices);
        }
        devices.extend(node(&entry.path(), &meta));
    }
}

/// A device as an OCI configuration lists it; `None` for what is no device.
fn node(target: &Path, meta: &Metadata) -> Option<Value> {
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    let number = meta.rdev();
    Some(json!({
        "path": target,
        "type": if kind.is_block_device() { "b" } else { "c" },
        "major": rustix::fs::major(number),
        "minor": rustix::fs::minor(number),
        "fileMode": meta.permissions().mode() & 0o7777,
        "uid": meta.uid(),
        "gid": meta.gid(),
    }))
}

/// Devices that were asked for: their nodes, and rules that let them be used.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) nodes: Vec<Value>,
    pub(super) rules: Vec<Value>,
}

/// Looks devices up on this host; a folder stands for all devices in it. The error says which is not there.
pub(super) fn chosen(devices: &[Device]) -> Result<Chosen, String> {
    let mut chosen = Chosen::default();
    for device in devices {
        let before = chosen.nodes.len();
        let (source, target) = (Path::new(&device.source), Path::new(&device.target));
        choose(source, target, device.access, 0, &mut chosen)?;
        if chosen.nodes.len() == before {
            return Err(format!("`{}` is not a device of this host", device.source));
        }
    }
    Ok(chosen)
}

fn choose(
    source: &Path,
    target: &Path,
    access: DeviceAccess,
    depth: u32,
    chosen: &mut Chosen,
) -> Result<(), String> {
    let shown = source.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("this host has no device `{shown}`"),
        _ => format!("this host's device `{shown}` could not be looked at: {error}"),
    };
    let meta = fs::metadata(source).map_err(failed)?;
    if meta.is_dir() && depth < DEEPEST {
        for entry in fs::read_dir(source).map_err(failed)?.flatten() {
            choose(&entry.path(), &target.join(entry.file_name()), access, depth + 1, chosen)?;
        }
    }
    if let Some(node) = node(target, &meta) {
        let (kind, major, minor) = (&node["type"], &node["major"], &node["minor"]);
        chosen.rules.push(json!({
            "allow": true, "type": kind, "major": major, "minor": minor,
            "access": letters(access),
        }));
        chosen.nodes.push(node);
    }
    Ok(())
}

/// A rule as an OCI configuration lists it.
pub(super) fn rule(rule: &DeviceRule) -> Value {
    let kind = match rule.kind {
        DeviceKind::Any => "a",
        DeviceKind::Block => "b",
        DeviceKind::Character => "c",
    };
    let access = letters(rule.access);
    json!({ "allow": true, "type": kind, "major": rule.major, "minor": rule.minor, "access": access })
}

fn letters(access: DeviceAccess) -> String {
    let letters = [(access.read, 'r'), (access.write, 'w'), (access.make, 'm')];
    letters.iter().filter(|(allowed, _)| *allowed).map(|(_, letter)| letter).collect()
}
