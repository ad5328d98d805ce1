//! Volumes and tmpfs, short (`data:/var/lib/data:ro`) and long (`{type, source, target, …}`).

use std::collections::BTreeSet;
use std::path::Path;

use swarm_proto::spec::{FileMount, Mount, MountSource, Tmpfs};

use super::stack::Declared;
use super::{Decoder, Fields, container, contents, files, service};
use crate::keys::{BIND, MOUNT, MOUNT_TMPFS, MOUNT_VOLUME};
use crate::load::absolute;
use crate::paths::BESIDE;
use crate::tree::{At, Data, Node, shorten};
use crate::units::parse_bytes;

/// The highest permissions.
const MOST_MODE: u32 = 0o7777;
const TMPFS_OPTIONS: [&str; 12] =
    ["size", "mode", "uid", "gid", "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"];

/// What a service has mounted.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    /// Volumes, folders and files of the hosts, memory.
    pub(super) mounts: Vec<Mount>,
    /// Secrets, configs, and files beside the stack file.
    pub(super) files: Vec<FileMount>,
}

/// One of either.
enum One {
    Mount(Mount),
    File(FileMount),
}

/// All mounts of a service in the order of the file, `tmpfs` last, then secrets and configs.
pub(super) fn mounts(d: &Decoder<'_>, fields: &Fields<'_>, declared: &Declared<'_>) -> Mounted {
    let mut mounted = Mounted::default();
    let mut targets = BTreeSet::new();
    let mut push = |at: At, one: Option<One>| {
        let target = match &one {
            None => return,
            Some(One::Mount(mount)) => &mount.target,
            Some(One::File(file)) => &file.target,
        };
        if !targets.insert(target.clone()) {
            let message = format!("something is mounted at `{}` already", shorten(target));
            d.problems.error_hint(at, message, "remove one of them");
            return;
        }
        match one {
            Some(One::Mount(mount)) => mounted.mounts.push(mount),
            Some(One::File(file)) => mounted.files.push(file),
            None => {}
        }
    };
    if let Some(node) = fields.get("volumes") {
        for item in d.list(node, "volumes").unwrap_or_default() {
            let mount = match &item.data {
                Data::Mapping(_) => long(d, item, declared),
                Data::Scalar { text, .. } => short(d, item.at, text, declared),
                _ => {
                    let wanted = "`source:target` or a mapping with `type`";
                    d.expected(item, "a volume", wanted, "");
                    None
                }
            };
            push(item.at, mount);
        }
    }
    if let Some(node) = fields.get("tmpfs") {
        for (at, text) in d.one_or_more(node, "tmpfs").unwrap_or_default() {
            push(at, tmpfs(d, at, &text).map(One::Mount));
        }
    }
    for kind in contents::KINDS {
        for (at, file) in contents::grants(d, kind, fields, declared) {
            push(at, Some(One::File(file)));
        }
    }
    // In the order in which they are written, files beside the stack file before other configs.
    mounted.files.sort_by_key(|file| file.kind);
    mounted
}

/// `[source:]target[:options]`
fn short(d: &Decoder<'_>, at: At, text: &str, declared: &Declared<'_>) -> Option<One> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            let message = format!("volume `{}` has too many colons", shorten(text));
            d.problems.error_hint(at, message, "write `source:target` or `source:target:ro`");
            return None;
        }
    };
    let (mut read_only, mut no_copy) = (false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => {}
            "nocopy" => no_copy = true,
            "z" | "Z" => d
                .problems
                .warn(at, format!("option `{option}` has no effect: SELinux labels are not set")),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                d.later(at, option, "leave the option out");
            }
            _ => {
                let message = format!("volume option `{}` is unknown", shorten(option));
                d.problems.error_hint(at, message, d.hint(option, ["ro", "rw", "nocopy"]));
            }
        }
    }
    let source = match source {
        None => MountSource::Anonymous,
        Some(source) if source.starts_with('.') || source.starts_with(BESIDE) => {
            let target = target_path(d, at, target)?;
            return files::bind(d, at, source, target, read_only, declared).map(One::File);
        }
        Some(source) if source.starts_with(['/', '~']) => {
            container::check_template(d, at, source);
            MountSource::Bind { path: host_path(d, source) }
        }
        Some(source) => named(d, at, source, no_copy, declared)?,
    };
    let target = target_path(d, at, target)?;
    Some(One::Mount(Mount { target, source, read_only }))
}

fn long(d: &Decoder<'_>, node: &Node, declared: &Declared<'_>) -> Option<One> {
    let fields = d.fields(node, "a volume", &MOUNT)?;
    let Some(kind) = fields.get("type") else {
        let hint = "`type` is `volume`, `bind` or `tmpfs`";
        d.problems.error_hint(node.at, "a volume needs `type`", hint);
        return None;
    };
    let kind = match d.scalar(kind, "type")? {
        "npipe" | "cluster" | "image" => {
            d.later(kind.at, "this type", "use `volume`, `bind` or `tmpfs`");
            return None;
        }
        _ => d.word(kind, "type", &[("volume", "volume"), ("bind", "bind"), ("tmpfs", "tmpfs")])?,
    };
    for other in ["volume", "bind", "tmpfs"] {
        if other != kind && fields.get(other).is_some() {
            let message = format!("options of `{other}` do not go with type `{kind}`");
            d.problems.error_hint(fields.key_at(other), message, "remove them, or change the type");
        }
    }
    let target = fields.get("target");
    if target.is_none() {
        let message = "a volume needs `target`";
        d.problems.error_hint(node.at, message, "it is the path in the container");
    }
    let target = target.and_then(|node| target_path(d, node.at, d.text(node, "target")?));
    let read_only = fields.get("read_only").and_then(|node| d.boolean(node, "read_only"));
    let read_only = read_only.unwrap_or(false);
    if kind == "bind"
        && let Some(node) = fields.get("source")
        && let Some(source) = d.text(node, "source").filter(|source| files::is_beside(source))
    {
        bind_options(d, &fields);
        return files::bind(d, node.at, source, target?, read_only, declared).map(One::File);
    }
    let source = match kind {
        "volume" => volume_source(d, &fields, declared),
        "bind" => bind_source(d, node, &fields),
        _ => tmpfs_source(d, &fields),
    };
    Some(One::Mount(Mount { target: target?, source: source?, read_only }))
}

fn volume_source(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    declared: &Declared<'_>,
) -> Option<MountSource> {
    let options = fields.get("volume").and_then(|node| d.fields(node, "`volume`", &MOUNT_VOLUME));
    let no_copy =
        options.and_then(|options| d.boolean(options.get("nocopy")?, "nocopy")).unwrap_or(false);
    match fields.get("source") {
        Some(node) => named(d, node.at, d.text(node, "source")?, no_copy, declared),
        None => Some(MountSource::Anonymous),
    }
}

fn bind_options(d: &Decoder<'_>, fields: &Fields<'_>) {
    let options = fields.get("bind").and_then(|node| d.fields(node, "`bind`", &BIND));
    if let Some(options) = options
        && let Some(node) = options.get("create_host_path")
        && d.boolean(node, "create_host_path") == Some(true)
    {
        let hint = "make the folder on the hosts, or use a named volume";
        d.later(options.key_at("create_host_path"), "create_host_path: true", hint);
    }
}

fn bind_source(d: &Decoder<'_>, node: &Node, fields: &Fields<'_>) -> Option<MountSource> {
    bind_options(d, fields);
    let Some(source) = fields.get("source") else {
        let hint = "it is the path on the hosts";
        d.problems.error_hint(node.at, "a bind mount needs `source`", hint);
        return None;
    };
    let text = d.text(source, "source")?;
    container::check_template(d, source.at, text);
    Some(MountSource::Bind { path: host_path(d, text) })
}

fn tmpfs_source(d: &Decoder<'_>, fields: &Fields<'_>) -> Option<MountSource> {
    if let Some(node) = fields.get("source") {
        d.problems.error_hint(node.at, "a tmpfs has no `source`", "remove it");
    }
    let Some(node) = fields.get("tmpfs") else {
        return Some(MountSource::Tmpfs(Tmpfs::default()));
    };
    let options = d.fields(node, "`tmpfs`", &MOUNT_TMPFS)?;
    let size = options.get("size").and_then(|node| d.bytes(node, "size"));
    let mode = options.get("mode").and_then(|node| file_mode(d, node, "mode"));
    Some(MountSource::Tmpfs(Tmpfs { size, mode, ..Tmpfs::default() }))
}

/// Permissions: octal in quotes or after a zero (`"1777"`, `0o1777`, `01777`), else the number that stands there.
fn file_mode(d: &Decoder<'_>, node: &Node, name: &str) -> Option<u32> {
    let found = match &node.data {
        Data::Scalar { text, plain } => match text.strip_prefix("0o") {
            Some(digits) => octal(digits),
            None if !plain || text.starts_with('0') => octal(text),
            None => text.parse().ok().filter(|mode| *mode <= MOST_MODE),
        },
        _ => None,
    };
    if found.is_none() {
        d.expected(node, name, "permissions such as `0o1777`", "");
    }
    found
}

fn octal(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|c| c.is_ascii_digit());
    u32::from_str_radix(digits, 8).ok().filter(|mode| plain && *mode <= MOST_MODE)
}

/// Service-level `tmpfs`: `/run` or `/run:size=64m,mode=0750,uid=1000`.
fn tmpfs(d: &Decoder<'_>, at: At, text: &str) -> Option<Mount> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut tmpfs, mut read_only) = (Tmpfs::default(), false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "exec" => tmpfs.executable = None,
            "noexec" => tmpfs.executable = Some(false),
            "suid" => tmpfs.set_user_id = true,
            "nosuid" => tmpfs.set_user_id = false,
            "dev" => tmpfs.devices = true,
            "nodev" => tmpfs.devices = false,
            _ => tmpfs_value(d, at, option, &mut tmpfs),
        }
    }
    let target = target_path(d, at, path)?;
    Some(Mount { target, source: MountSource::Tmpfs(tmpfs), read_only })
}

/// An option of a tmpfs with a value.
fn tmpfs_value(d: &Decoder<'_>, at: At, option: &str, tmpfs: &mut Tmpfs) {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let known = match name {
        "size" => put(&mut tmpfs.size, parse_bytes(value)),
        "mode" => put(&mut tmpfs.mode, octal(value)),
        "uid" => put(&mut tmpfs.uid, value.parse().ok()),
        "gid" => put(&mut tmpfs.gid, value.parse().ok()),
        _ => {
            let node = Node { at, data: Data::Scalar { text: name.to_owned(), plain: false } };
            let message = format!("tmpfs option `{}` is unknown", shorten(name));
            service::unknown_word(d, &node, message, TMPFS_OPTIONS);
            return;
        }
    };
    if !known {
        let message = format!("`{}` does not fit the tmpfs option `{name}`", shorten(value));
        let hint = "write it as `size=64m`, `mode=1777`, `uid=1000` or `gid=1000`";
        d.problems.error_hint(at, message, hint);
    }
}

/// Puts a value in its place; whether there was one.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

fn named(
    d: &Decoder<'_>,
    at: At,
    name: &str,
    no_copy: bool,
    declared: &Declared<'_>,
) -> Option<MountSource> {
    if container::is_template(name) {
        let hint = "a template may stand in the path of a host's folder, and in `target`";
        d.later(at, "a template in a volume's name", hint);
        return None;
    }
    if declared.volumes.contains_key(name) {
        return Some(MountSource::Volume { volume: name.to_owned(), no_copy, external: None });
    }
    let hint = match d.nearest(name, declared.volumes.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if name.contains('/') => {
            format!("a path on the hosts starts with `./` or `/`: `./{}`", shorten(name))
        }
        None => format!("declare it: a line `{}:` under the top-level `volumes:`", shorten(name)),
    };
    d.problems.error_hint(at, format!("volume `{}` is not defined", shorten(name)), hint);
    None
}

/// An absolute path in the container, without `.`, `..` and double slashes.
pub(super) fn target_path(d: &Decoder<'_>, at: At, text: &str) -> Option<String> {
    container::check_template(d, at, text);
    let path = absolute(Path::new("/"), text);
    if !text.starts_with('/') || path == Path::new("/") {
        let message = format!("`{}` is not an absolute path in the container", shorten(text));
        d.problems.error_hint(
            at,
            message,
            "write it as `/path`; the root itself cannot be mounted over",
        );
        return None;
    }
    Some(path.display().to_string())
}

/// A path on the hosts: `~` is `$HOME`, relative ones start at the file's folder.
pub(super) fn host_path(d: &Decoder<'_>, text: &str) -> String {
    let home = || d.vars.get("HOME").map_or("/root", String::as_str);
    let path = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            absolute(Path::new("/"), &format!("{}{rest}", home()))
        }
        _ => absolute(d.folder, text),
    };
    path.display().to_string()
}
