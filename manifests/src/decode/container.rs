//! How one container of a service runs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use swarm_proto::spec::{ContainerSpec, ImageSpec, PullPolicy, Resources};

use super::stack::Declared;
use super::{Decoder, Fields, environment, limits, mounts};
use crate::image::ImageReference;
use crate::tree::{Data, Key, Node, shorten};

const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("missing", PullPolicy::Missing),
    ("if_not_present", PullPolicy::Missing),
    ("never", PullPolicy::Never),
];

pub(super) fn container(
    d: &Decoder<'_>,
    key: &Key,
    fields: &Fields<'_>,
    declared: &Declared<'_>,
    resources: Resources,
) -> Option<ContainerSpec> {
    let flag = |key| fields.get(key).and_then(|node| d.boolean(node, key)).unwrap_or(false);
    let text = |key| fields.get(key).and_then(|node| template(d, node, key));
    let capabilities =
        |key| fields.get(key).map(|node| limits::capabilities(d, node, key)).unwrap_or_default();
    let mounts = mounts::mounts(d, fields, declared);
    let environment = environment::environment(d, fields);
    let image = image(d, key, fields);
    let grace = fields.get("stop_grace_period");
    Some(ContainerSpec {
        entrypoint: fields.get("entrypoint").and_then(|node| words(d, node, "entrypoint")),
        command: fields.get("command").and_then(|node| words(d, node, "command")),
        environment,
        user: fields.get("user").and_then(|node| user(d, node)),
        working_dir: fields.get("working_dir").and_then(|node| working_dir(d, node)),
        hostname: text("hostname"),
        labels: fields.get("labels").map(|node| d.labels(node)).unwrap_or_default(),
        mounts,
        extra_hosts: fields.get("extra_hosts").map(|node| extra_hosts(d, node)).unwrap_or_default(),
        cap_add: capabilities("cap_add"),
        cap_drop: capabilities("cap_drop"),
        privileged: flag("privileged"),
        read_only: flag("read_only"),
        init: flag("init"),
        tty: flag("tty"),
        sysctls: fields.get("sysctls").map(|node| sysctls(d, node)).unwrap_or_default(),
        ulimits: fields.get("ulimits").map(|node| limits::ulimits(d, node)).unwrap_or_default(),
        stop_signal: fields.get("stop_signal").and_then(|node| limits::signal(d, node)),
        stop_grace_period: grace
            .and_then(|node| d.duration(node, "stop_grace_period"))
            .unwrap_or(ContainerSpec::STOP_GRACE_PERIOD),
        resources,
        ..ContainerSpec::new(image?)
    })
}

fn image(d: &Decoder<'_>, key: &Key, fields: &Fields<'_>) -> Option<ImageSpec> {
    let policy = fields.get("pull_policy");
    let pull_policy = policy.and_then(|node| match d.scalar(node, "pull_policy")? {
        "always" | "build" | "daily" | "weekly" => {
            let hint = "leave it out: each deploy asks the registry what a tag stands for";
            d.later(fields.key_at("pull_policy"), "pull_policy", hint);
            None
        }
        _ => d.word(node, "pull_policy", &PULL_POLICIES),
    });
    let Some(node) = fields.get("image") else {
        let message = format!("service `{}` has no `image`", shorten(&key.text));
        let hint = match fields.get("build") {
            Some(_) => "`build` is not supported yet: build and push the image, and name it here",
            None => "add `image: NAME:TAG`",
        };
        d.problems.error_hint(key.at, message, hint);
        return None;
    };
    match d.text(node, "image")?.parse::<ImageReference>() {
        Ok(image) => Some(ImageSpec {
            reference: image.name(),
            digest: image.digest,
            pull_policy: pull_policy.unwrap_or_default(),
        }),
        Err(error) => {
            d.problems.error(node.at, format!("image is not valid: {error}"));
            None
        }
    }
}

/// A command: a list as it is, or one text split as a shell would, without running one.
fn words(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Vec<String>> {
    match &node.data {
        Data::Sequence(_) => d.texts(node, name),
        Data::Scalar { text, .. } => {
            let words = shlex::split(text);
            if words.is_none() {
                let message = format!("`{name}` has a quote that is never closed");
                d.problems.error_hint(node.at, message, "close it, or write the command as a list");
            }
            words
        }
        _ => {
            d.expected(node, name, "a text or a list of texts", "");
            None
        }
    }
}

/// A text in which Docker would fill in `{{.Task.Slot}}` and the like, which is not there yet.
fn template(d: &Decoder<'_>, node: &Node, name: &str) -> Option<String> {
    let text = d.scalar(node, name)?;
    refuse_templates(d, node, text);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    if text.contains("{{") || (text.len() <= 64 && text.split('.').all(is_label)) {
        return Some(text.to_owned());
    }
    let hint = "a host name is letters, digits, `-` and `.`, at most 64";
    d.problems.error_hint(node.at, format!("`{}` cannot be a host name", shorten(text)), hint);
    None
}

/// Swarm fills in templates in some values; an unfilled one must not reach a container.
pub(super) fn refuse_templates(d: &Decoder<'_>, node: &Node, text: &str) {
    let is_template = |rest: &str| {
        let rest = rest.trim_start();
        [".Service.", ".Node.", ".Task."].iter().any(|known| rest.starts_with(known))
    };
    if text.split("{{").skip(1).any(is_template) {
        let message = format!("the template in `{}` is not supported yet", shorten(text));
        d.problems.error_hint(node.at, message, "write a fixed value");
    }
}

fn user(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.scalar(node, "user")?;
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|c| c.is_ascii_graphic() && c != b':' && c != b'/')
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_word(part)) {
        return Some(text.to_owned());
    }
    d.expected(node, "user", "`user`, `uid`, `user:group` or `uid:gid`", "");
    None
}

fn working_dir(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.text(node, "working_dir")?;
    if text.starts_with('/') {
        return Some(text.to_owned());
    }
    d.expected(node, "working_dir", "an absolute path in the container", "start it with `/`");
    None
}

fn sysctls(d: &Decoder<'_>, node: &Node) -> BTreeMap<String, String> {
    let pairs = d.assignments(node, "sysctls").unwrap_or_default();
    let mut sysctls = BTreeMap::new();
    for (key, value) in pairs {
        let is_name = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
        match value {
            Some(value) if key.text.bytes().all(is_name) && !key.text.contains("..") => {
                sysctls.insert(key.text, value);
            }
            Some(_) => d.problems.error_hint(
                key.at,
                format!("`{}` is not a kernel parameter", shorten(&key.text)),
                "write it as `net.core.somaxconn: 1024`",
            ),
            None => d.problems.error(key.at, format!("`{}` has no value", shorten(&key.text))),
        }
    }
    sysctls
}

/// A mapping, or a list of `name:address` or `name=address`.
fn extra_hosts(d: &Decoder<'_>, node: &Node) -> BTreeMap<String, Ipv4Addr> {
    let mut hosts = BTreeMap::new();
    let mut push = |node: &Node, name: &str, address: &str| {
        let address = address.trim();
        match address.parse::<Ipv4Addr>() {
            Ok(address) if !name.trim().is_empty() && !name.contains(char::is_whitespace) => {
                hosts.insert(name.trim().to_owned(), address);
            }
            _ if address == "host-gateway" => d.later(node.at, "host-gateway", "write an address"),
            _ if address.contains(':') => {
                d.later(node.at, "IPv6 in extra_hosts", "write an IPv4 address");
            }
            _ => {
                let wanted = "`name:address` with an IPv4 address";
                d.expected(node, "an item of `extra_hosts`", wanted, "");
            }
        }
    };
    match &node.data {
        Data::Mapping(pairs) => {
            for (key, node) in pairs {
                match &node.data {
                    Data::Scalar { text, .. } => push(node, &key.text, text),
                    _ => d.expected(node, "extra_hosts", "an IPv4 address", ""),
                }
            }
        }
        _ => {
            for item in d.list(node, "extra_hosts").unwrap_or_default() {
                let Some(text) = d.scalar(item, "extra_hosts") else { continue };
                let (name, address) = text.split_once(['=', ':']).unwrap_or((text, ""));
                push(item, name, address);
            }
        }
    }
    hosts
}
