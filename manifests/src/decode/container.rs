//! How one container of a service runs.

use std::collections::BTreeMap;

use swarm_proto::spec::{ContainerSpec, ImageSpec, NetworkMode, PullPolicy, Resources, Sharing};
use swarm_proto::template::{TASK_FIELDS, Template};

use super::stack::Declared;
use super::{
    Decoder, Fields, environment, health, isolation, legacy, limits, logging, mounts, resolver,
};
use crate::image::ImageReference;
use crate::tree::{At, Data, Key, Node, shorten};

const PULL_POLICIES: [(&str, PullPolicy); 4] = [
    // What a tag stands for is asked of the registry with each deploy.
    ("always", PullPolicy::Missing),
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
    let capabilities =
        |key| fields.get(key).map(|node| limits::capabilities(d, node, key)).unwrap_or_default();
    let mounts::Mounted { mounts, files } = mounts::mounts(d, fields, declared);
    let environment = environment::environment(d, fields);
    let image = image(d, key, fields, declared);
    let grace = fields.get("stop_grace_period");
    let extra_hosts = fields.get("extra_hosts");
    let (extra_hosts, extra_hosts_v6) =
        extra_hosts.map(|node| resolver::extra_hosts(d, node)).unwrap_or_default();
    let sharing = isolation::sharing(d, fields, declared);
    Some(ContainerSpec {
        entrypoint: fields.get("entrypoint").and_then(|node| words(d, node, "entrypoint")),
        command: fields.get("command").and_then(|node| words(d, node, "command")),
        environment,
        user: fields.get("user").and_then(|node| user(d, node)),
        working_dir: fields.get("working_dir").and_then(|node| working_dir(d, node)),
        hostname: fields.get("hostname").and_then(|node| hostname(d, node)),
        labels: environment::labels(d, fields),
        mounts,
        extra_hosts,
        cap_add: capabilities("cap_add"),
        cap_drop: capabilities("cap_drop"),
        privileged: flag("privileged"),
        read_only: flag("read_only"),
        init: flag("init"),
        tty: flag("tty"),
        sysctls: fields.get("sysctls").map(|node| sysctls(d, node, sharing)).unwrap_or_default(),
        ulimits: fields.get("ulimits").map(|node| limits::ulimits(d, node)).unwrap_or_default(),
        stop_signal: fields.get("stop_signal").and_then(|node| limits::signal(d, node)),
        stop_grace_period: grace
            .and_then(|node| d.duration(node, "stop_grace_period"))
            .unwrap_or(ContainerSpec::STOP_GRACE_PERIOD),
        resources,
        domainname: fields.get("domainname").and_then(|node| resolver::domainname(d, node)),
        stdin_open: flag("stdin_open"),
        shm_size: fields.get("shm_size").and_then(|node| limits::shm_size(d, node)),
        groups: fields.get("group_add").map(|node| legacy::groups(d, node)).unwrap_or_default(),
        oom_score_adj: fields.get("oom_score_adj").and_then(|node| limits::oom_score_adj(d, node)),
        dns: resolver::dns(d, fields),
        extra_hosts_v6,
        sharing,
        security: isolation::security(d, fields),
        devices: fields.get("devices").map(|node| isolation::devices(d, node)).unwrap_or_default(),
        device_rules: isolation::device_rules(d, fields),
        annotations: annotations(d, fields),
        logging: fields.get("logging").map(|node| logging::logging(d, node)).unwrap_or_default(),
        files,
        health: health::health(d, fields),
        pre_stop: fields
            .get("pre_stop")
            .map(|node| health::hooks(d, node, "pre_stop"))
            .unwrap_or_default(),
        ..ContainerSpec::new(image?)
    })
}

fn annotations(d: &Decoder<'_>, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let pairs = fields.get("annotations").and_then(|node| d.assignments(node, "annotations"));
    let pairs = pairs.unwrap_or_default().into_iter();
    pairs.map(|(key, value)| (key.text, value.unwrap_or_default())).collect()
}

fn image(
    d: &Decoder<'_>,
    key: &Key,
    fields: &Fields<'_>,
    declared: &Declared<'_>,
) -> Option<ImageSpec> {
    let policy = fields.get("pull_policy");
    let is_built = fields.get("build").is_some();
    let pull_policy = policy.and_then(|node| match d.scalar(node, "pull_policy")? {
        "build" if is_built => Some(PullPolicy::Missing),
        "build" | "daily" | "weekly" => {
            let hint = "leave it out: each deploy asks the registry what a tag stands for";
            d.later(fields.key_at("pull_policy"), "pull_policy", hint);
            None
        }
        _ => d.word(node, "pull_policy", &PULL_POLICIES),
    });
    let found = match fields.get("image") {
        Some(node) => Some((node.at, d.text(node, "image")?.to_owned())),
        None => {
            is_built.then(|| (key.at, format!("{}_{}", declared.stack, key.text.to_lowercase())))
        }
    };
    let Some((at, text)) = found else {
        let message = format!("service `{}` has no `image`", shorten(&key.text));
        d.problems.error_hint(key.at, message, "add `image: NAME:TAG`, or `build: .`");
        return None;
    };
    match text.parse::<ImageReference>() {
        Ok(image) if is_built && image.digest.is_some() => {
            let hint = "name the image, and leave out what is in it";
            d.problems.error_hint(at, "an image that is built has no digest yet", hint);
            None
        }
        Ok(image) => Some(ImageSpec {
            reference: image.name(),
            digest: image.digest,
            pull_policy: pull_policy.unwrap_or_default(),
        }),
        Err(error) => {
            d.problems.error(at, format!("image is not valid: {error}"));
            None
        }
    }
}

/// A command: a list as it is, or one text split as a shell would, without running one.
pub(super) fn words(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Vec<String>> {
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

/// A host name, or a template of one.
fn hostname(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.scalar(node, "hostname")?;
    if is_template(text) {
        check_template(d, node.at, text);
        return Some(text.to_owned());
    }
    if resolver::is_host_name(text) {
        return Some(text.to_owned());
    }
    let hint = "a host name is letters, digits, `-` and `.`, at most 64";
    d.problems.error_hint(node.at, format!("`{}` cannot be a host name", shorten(text)), hint);
    None
}

/// Whether a text speaks of its task, service or node in `{{…}}`, which is filled in once the task has a node.
pub(super) fn is_template(text: &str) -> bool {
    let speaks = |action: &str| {
        let action = action.trim_start();
        let action = action.strip_prefix("index").map_or(action, str::trim_start);
        [".Service.", ".Node.", ".Task."].iter().any(|known| action.starts_with(known))
    };
    text.split("{{").skip(1).any(speaks)
}

/// Refuses a template that cannot be filled in.
pub(super) fn check_template(d: &Decoder<'_>, at: At, text: &str) {
    if !is_template(text) {
        return;
    }
    if let Err(error) = Template::parse(text, &TASK_FIELDS) {
        let known = TASK_FIELDS.map(|field| format!("`{{{{{field}}}}}`")).join(", ");
        let hint = format!("there are {known} and `{{{{index .Service.Labels \"key\"}}}}`");
        let message = format!("the template in `{}` is not valid: {error}", shorten(text));
        d.problems.error_hint(at, message, hint);
    }
}

pub(super) fn user(d: &Decoder<'_>, node: &Node) -> Option<String> {
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

pub(super) fn working_dir(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.text(node, "working_dir")?;
    if text.starts_with('/') {
        return Some(text.to_owned());
    }
    d.expected(node, "working_dir", "an absolute path in the container", "start it with `/`");
    None
}

fn sysctls(d: &Decoder<'_>, node: &Node, sharing: Sharing) -> BTreeMap<String, String> {
    let pairs = d.assignments(node, "sysctls").unwrap_or_default();
    let mut sysctls = BTreeMap::new();
    for (key, value) in pairs {
        let is_name = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
        let name = key.text.as_str();
        if name.starts_with("net.") && sharing.network == NetworkMode::Host {
            let message =
                format!("`{}` belongs to the network, which is the host's", shorten(name));
            d.problems.error_hint(key.at, message, "set it on the hosts themselves");
            continue;
        }
        match value {
            Some(value) if name.bytes().all(is_name) && !name.contains("..") => {
                sysctls.insert(key.text, value);
            }
            Some(_) => d.problems.error_hint(
                key.at,
                format!("`{}` is not a kernel parameter", shorten(name)),
                "write it as `net.core.somaxconn: 1024`",
            ),
            None => d.problems.error(key.at, format!("`{}` has no value", shorten(name))),
        }
    }
    sysctls
}
