//! How far a container is apart from its host: namespaces, `security_opt`, devices.

use swarm_proto::spec::{
    Device, DeviceAccess, DeviceKind, DeviceRule, IpcMode, NetworkMode, Seccomp, Security, Sharing,
};

use super::stack::Declared;
use super::{Decoder, Fields, external, mounts};
use crate::keys::DEVICE;
use crate::tree::{At, Data, Node, shorten};
use crate::yaml;

/// A profile is a part of the stack, which has room for several.
const LARGEST_PROFILE: u64 = 128 << 10;
const NEVER_ANOTHER: &str = "the other container may be on another host";

/// `pid`, `ipc`, `uts`, `cgroup`, `cgroupns_mode`, `network_mode`
pub(super) fn sharing(d: &Decoder<'_>, fields: &Fields<'_>, declared: &Declared<'_>) -> Sharing {
    let word = |key: &str| fields.get(key).and_then(|node| Some((node, d.scalar(node, key)?)));
    let host = |key: &str| word(key).is_some_and(|(node, text)| is_host(d, node, key, text));
    let cgroup = |key: &str| {
        let words = [("host", true), ("private", false)];
        fields.get(key).and_then(|node| d.word(node, key, &words)).unwrap_or(false)
    };
    if let Some(node) = fields.get("userns_mode") {
        d.word(node, "userns_mode", &[("host", ())]);
    }
    let (of_spec, of_swarm) = (cgroup("cgroup"), cgroup("cgroupns_mode"));
    let mode = word("network_mode").map(|(node, text)| network(d, node, text));
    let of_networks = external::mode_of_networks(d, fields, &declared.network_modes);
    let sharing = Sharing {
        network: mode.unwrap_or(of_networks),
        ipc: word("ipc").map(|(node, text)| ipc(d, node, text)).unwrap_or_default(),
        pid: host("pid"),
        uts: host("uts"),
        cgroup: of_spec || of_swarm,
    };
    let by_networks = mode.is_none() && of_networks != NetworkMode::Own;
    refuse_clashes(d, fields, sharing, by_networks);
    sharing
}

/// Refuses keys that are about what a container does not have of its own.
fn refuse_clashes(d: &Decoder<'_>, fields: &Fields<'_>, sharing: Sharing, by_networks: bool) {
    let by_mode = sharing.network != NetworkMode::Own && !by_networks;
    let clashes: [(bool, &str, &[&str]); 4] = [
        (by_mode, "`network_mode`", &["networks", "ports", "container_name"]),
        (by_networks, "a network that is no overlay", &["ports", "container_name"]),
        (sharing.uts, "`uts: host`", &["hostname", "domainname"]),
        (sharing.ipc != IpcMode::Own, "`ipc`", &["shm_size"]),
    ];
    for (_, with, keys) in clashes.into_iter().filter(|(shared, _, _)| *shared) {
        for key in keys.iter().filter(|key| fields.get(key).is_some()) {
            let message = format!("`{key}` does not go with {with}");
            d.problems.error_hint(fields.key_at(key), message, "remove one of them");
        }
    }
}

fn is_host(d: &Decoder<'_>, node: &Node, key: &str, text: &str) -> bool {
    if text.starts_with("service:") || text.starts_with("container:") {
        never_another(d, node, key);
        return false;
    }
    // `private`, or nothing in quotes, is what it is without the key.
    !text.is_empty() && d.word(node, key, &[("host", true), ("private", false)]).unwrap_or(false)
}

fn never_another(d: &Decoder<'_>, node: &Node, key: &str) {
    let message = format!("`{key}` of another container cannot be honoured: {NEVER_ANOTHER}");
    d.problems.error_hint(node.at, message, format!("use `{key}: host`, or remove it"));
}

fn network(d: &Decoder<'_>, node: &Node, text: &str) -> NetworkMode {
    if text.starts_with("service:") || text.starts_with("container:") {
        let message =
            format!("the network of another container cannot be honoured: {NEVER_ANOTHER}");
        d.problems.error_hint(
            node.at,
            message,
            "let both join a network: they find each other by name",
        );
        return NetworkMode::Own;
    }
    if text == "bridge" || text == "default" {
        let message =
            format!("`network_mode: {text}` has no effect: the stack's own network is used");
        d.problems.warn(node.at, message);
        return NetworkMode::Own;
    }
    let words = [("host", NetworkMode::Host), ("none", NetworkMode::None)];
    d.word(node, "network_mode", &words).unwrap_or_default()
}

fn ipc(d: &Decoder<'_>, node: &Node, text: &str) -> IpcMode {
    if text.starts_with("service:") || text.starts_with("container:") {
        never_another(d, node, "ipc");
        return IpcMode::Own;
    }
    if text == "shareable" {
        let message = "`ipc: shareable` is as `private`: no other container can join";
        d.problems.warn(node.at, message);
        return IpcMode::Own;
    }
    let words = [("host", IpcMode::Host), ("private", IpcMode::Own), ("none", IpcMode::None)];
    d.word(node, "ipc", &words).unwrap_or_default()
}

/// `security_opt`: `key=value`, or `key:value` as it was once written.
pub(super) fn security(d: &Decoder<'_>, fields: &Fields<'_>) -> Security {
    let mut security = Security::default();
    let items = fields.get("security_opt").and_then(|node| d.list(node, "security_opt"));
    for item in items.unwrap_or_default() {
        let Some(text) = d.scalar(item, "security_opt") else { continue };
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (key.trim(), value.trim()) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = Some(true),
            ("no-new-privileges", "false") => security.no_new_privileges = Some(false),
            ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
            ("seccomp", value) if !value.is_empty() => {
                let text = profile(d, item.at, value);
                security.seccomp = text.map_or(Seccomp::Default, Seccomp::Profile);
            }
            ("systempaths", "unconfined") => security.unmasked = true,
            ("apparmor", "unconfined" | "docker-default") | ("label", "disable") => {
                let message = format!("`{}` has no effect: none is applied here", shorten(text));
                d.problems.warn(item.at, message);
            }
            ("apparmor" | "label" | "writable-cgroups", _) => {
                d.later(item.at, &shorten(text), "");
            }
            _ => {
                let message = format!("security option `{}` is unknown", shorten(text));
                let hint = "there are `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE` and \
                            `systempaths=unconfined`";
                d.problems.error_hint(item.at, message, hint);
            }
        }
    }
    security
}

/// A profile of system calls, which travels with the stack: the file of this name, or the text itself.
fn profile(d: &Decoder<'_>, at: At, value: &str) -> Option<String> {
    let text = if value.starts_with('{') { Ok(value.to_owned()) } else { read_profile(d, value) };
    let checked = text.and_then(|text| match yaml::json_object(&text) {
        Ok(keys) if keys.iter().any(|key| key == "defaultAction") => Ok(text),
        Ok(_) => Err("has no `defaultAction`".to_owned()),
        Err(why) => Err(format!("is not valid: {why}")),
    });
    match checked {
        Ok(text) => Some(text),
        Err(why) => {
            let hint = format!("its file is looked for from `{}`", d.folder.display());
            let message = format!("seccomp profile `{}` {why}", shorten(value));
            d.problems.error_hint(at, message, hint);
            None
        }
    }
}

fn read_profile(d: &Decoder<'_>, path: &str) -> Result<String, String> {
    let found = mounts::host_path(d, path);
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let meta = std::fs::metadata(&found).map_err(unreadable)?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    if meta.len() > LARGEST_PROFILE {
        return Err("is larger than 128 KiB".to_owned());
    }
    std::fs::read_to_string(&found).map(|text| text.trim().to_owned()).map_err(unreadable)
}

/// `devices`: `/dev/fuse`, `/dev/a:/dev/b:rw` or `{source, target, permissions}`
pub(super) fn devices(d: &Decoder<'_>, node: &Node) -> Vec<Device> {
    let items = d.list(node, "devices").unwrap_or_default();
    let device = |item: &Node| match &item.data {
        Data::Mapping(_) => long_device(d, item),
        Data::Scalar { text, .. } => short_device(d, item.at, text),
        _ => {
            d.expected(item, "a device", "`source:target:rwm` or a mapping with `source`", "");
            None
        }
    };
    items.iter().filter_map(device).collect()
}

fn short_device(d: &Decoder<'_>, at: At, text: &str) -> Option<Device> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        // As Docker: what is no path is what it may be used for.
        [source, permissions] if !permissions.starts_with('/') => (*source, *source, *permissions),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => {
            let message = format!("device `{}` has too many colons", shorten(text));
            d.problems.error_hint(at, message, "write `source:target:rwm`");
            return None;
        }
    };
    one_device(d, at, source, target, permissions)
}

fn long_device(d: &Decoder<'_>, node: &Node) -> Option<Device> {
    let fields = d.fields(node, "a device", &DEVICE)?;
    let Some(source) = fields.get("source") else {
        let hint = "it is the path on the hosts";
        d.problems.error_hint(node.at, "a device needs `source`", hint);
        return None;
    };
    let source = d.text(source, "source")?;
    let target = fields.get("target").map_or(Some(source), |node| d.text(node, "target"))?;
    let permissions = fields.get("permissions");
    let permissions = permissions.map_or(Some("rwm"), |node| d.scalar(node, "permissions"))?;
    one_device(d, node.at, source, target, permissions)
}

fn one_device(
    d: &Decoder<'_>,
    at: At,
    source: &str,
    target: &str,
    permissions: &str,
) -> Option<Device> {
    if !source.starts_with('/') && source.contains('=') {
        d.later(at, &format!("device {}", shorten(source)), "name the device's path");
        return None;
    }
    if let Some(path) = [source, target].into_iter().find(|path| !path.starts_with('/')) {
        let message = format!("`{}` is not an absolute path of a device", shorten(path));
        d.problems.error_hint(at, message, "write it as `/dev/fuse`");
        return None;
    }
    let access = access(d, at, permissions)?;
    Some(Device { source: source.to_owned(), target: target.to_owned(), access })
}

fn access(d: &Decoder<'_>, at: At, text: &str) -> Option<DeviceAccess> {
    let has = |letter| text.contains(letter);
    if text.is_empty() || !text.chars().all(|letter| "rwm".contains(letter)) {
        let message = format!("`{}` is not what a device may be used for", shorten(text));
        d.problems.error_hint(at, message, "write `r` (read), `w` (write) and `m` (make a node)");
        return None;
    }
    Some(DeviceAccess { read: has('r'), write: has('w'), make: has('m') })
}

/// `device_cgroup_rules`: `c 1:3 mr`, `a *:* rwm`
pub(super) fn device_rules(d: &Decoder<'_>, fields: &Fields<'_>) -> Vec<DeviceRule> {
    const KEY: &str = "device_cgroup_rules";
    let items = fields.get(KEY).and_then(|node| d.list(node, KEY)).unwrap_or_default();
    let rule = |item: &Node| {
        let text = d.scalar(item, KEY)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words.as_slice() {
            [kind, numbers, letters] => device_numbers(kind, numbers).map(|one| (one, *letters)),
            _ => None,
        };
        let Some(((kind, major, minor), letters)) = parsed else {
            let wanted = "a rule such as `c 1:3 rwm`, with `*` for any number";
            d.expected(item, "an item of `device_cgroup_rules`", wanted, "");
            return None;
        };
        Some(DeviceRule { kind, major, minor, access: access(d, item.at, letters)? })
    };
    items.iter().filter_map(rule).collect()
}

type Numbers = (DeviceKind, Option<u32>, Option<u32>);

fn device_numbers(kind: &str, numbers: &str) -> Option<Numbers> {
    let kind = match kind {
        "a" => DeviceKind::Any,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Character,
        _ => return None,
    };
    let number = |text: &str| match text {
        "*" => Some(None),
        digits => digits.parse::<u32>().ok().map(Some),
    };
    let (major, minor) = numbers.split_once(':')?;
    Some((kind, number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rules() {
        let table = [
            ("c", "1:3", Some((DeviceKind::Character, Some(1), Some(3)))),
            ("b", "7:*", Some((DeviceKind::Block, Some(7), None))),
            ("a", "*:*", Some((DeviceKind::Any, None, None))),
            ("x", "1:3", None),
            ("c", "1", None),
            ("c", "1:-3", None),
        ];
        for (kind, numbers, expected) in table {
            assert_eq!(device_numbers(kind, numbers), expected, "{kind} {numbers}");
        }
    }
}
