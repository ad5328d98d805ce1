//! The top level: name, services, networks, volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use swarm_proto::spec::{
    ContentKind, MountSource, NetworkMode, NetworkSpec, PortMode, PortSpec, Protocol, ServiceSpec,
    StackSpec, VolumeSpec,
};

use super::{Decoder, contents, dependencies, external, is_name, networks, service};
use crate::keys::{EXTERNAL_NAME, STACK, VOLUME, X_SWARM_STACK, X_SWARM_VOLUME};
use crate::tree::{At, Key, Node, shorten};

/// More would not fit into the cluster's state as one stack.
const MOST_SERVICES: usize = 1000;

/// What the file declares: services by name, networks and volumes with their places.
pub(super) struct Declared<'n> {
    /// The stack's name.
    pub(super) stack: String,
    pub(super) services: Vec<&'n str>,
    pub(super) networks: BTreeMap<&'n str, At>,
    pub(super) volumes: BTreeMap<&'n str, At>,
    /// The networks that stand for a host's own, or for none.
    pub(super) network_modes: BTreeMap<&'n str, NetworkMode>,
    secrets: BTreeMap<&'n str, At>,
    configs: BTreeMap<&'n str, At>,
}

impl Declared<'_> {
    /// Secrets or configs.
    pub(super) fn contents(&self, kind: ContentKind) -> &BTreeMap<&str, At> {
        match kind {
            ContentKind::Secret => &self.secrets,
            ContentKind::Config => &self.configs,
        }
    }
}

pub(super) fn stack(d: &Decoder<'_>, tree: &Node, name: Option<&str>) -> Option<StackSpec> {
    let fields = d.fields(tree, "a stack file", &STACK)?;
    if let Some(version) = fields.get("version") {
        d.scalar(version, "version");
    }
    if let Some(node) = fields.get("x-swarm") {
        d.fields(node, "`x-swarm` of a stack", &X_SWARM_STACK);
    }
    let pairs = |key| {
        let node = fields.get(key);
        node.and_then(|node| d.pairs(node, &format!("`{key}`"))).unwrap_or_default()
    };
    let (networks, volumes) = (pairs("networks"), pairs("volumes"));
    let (secrets, configs) = (pairs("secrets"), pairs("configs"));
    let places =
        |pairs: &'_ [(Key, Node)]| -> Vec<At> { pairs.iter().map(|(key, _)| key.at).collect() };
    let services = pairs("services");
    let declared = Declared {
        stack: stack_name(d, &fields, name),
        services: services.iter().map(|(key, _)| key.text.as_str()).collect(),
        networks: networks.iter().map(|(key, _)| key.text.as_str()).zip(places(networks)).collect(),
        volumes: volumes.iter().map(|(key, _)| key.text.as_str()).zip(places(volumes)).collect(),
        network_modes: external::network_modes(networks),
        secrets: secrets.iter().map(|(key, _)| key.text.as_str()).zip(places(secrets)).collect(),
        configs: configs.iter().map(|(key, _)| key.text.as_str()).zip(places(configs)).collect(),
    };
    let mut stack = StackSpec { name: declared.stack.clone(), ..StackSpec::default() };
    if services.is_empty() {
        let hint = "write the services below `services:`, each with an `image`";
        d.problems.error_hint(
            fields.key_at("services"),
            "a stack needs at least one service",
            hint,
        );
    }
    if let Some((key, _)) = services.get(MOST_SERVICES) {
        let message = format!("a stack has at most {MOST_SERVICES} services");
        d.problems.error_hint(key.at, message, "split it into several stacks");
    }
    for (key, node) in services.iter().take(MOST_SERVICES) {
        check_key(d, key, "service");
        if let Some(spec) = service::service(d, key, node, &declared) {
            stack.services.insert(key.text.clone(), spec);
        }
    }
    check_ports(d, services, &stack.services);
    dependencies::check_cycles(d, services, &stack.services);
    dependencies::check_completions(d, services, &stack.services);
    let modes = &declared.network_modes;
    stack.networks = networks::networks(d, networks, &stack.services, modes);
    stack.volumes = self::volumes(d, volumes, &stack.services);
    for (kind, pairs) in contents::KINDS.into_iter().zip([secrets, configs]) {
        contents::contents(d, kind, pairs, &mut stack);
    }
    stack.name_externals();
    check_full_names(d, networks, volumes, &stack);
    Some(stack)
}

/// No two networks, and no two volumes, have the same name in the cluster.
fn check_full_names(
    d: &Decoder<'_>,
    networks: &[(Key, Node)],
    volumes: &[(Key, Node)],
    stack: &StackSpec,
) {
    let name = |(key, spec): (&'_ String, &NetworkSpec)| spec.full_name(&stack.name, key);
    let names = stack.networks.iter().map(|pair| (pair.0.as_str(), name(pair)));
    check_names(d, "network", networks, names);
    let name = |(key, spec): (&'_ String, &VolumeSpec)| spec.full_name(&stack.name, key);
    let names = stack.volumes.iter().map(|pair| (pair.0.as_str(), name(pair)));
    check_names(d, "volume", volumes, names);
}

/// The rule for a stack's name, in words.
const NAME_RULE: &str = "a stack's name is lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit";

/// Whether a text can be a stack's name: lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit.
pub fn is_stack_name(text: &str) -> bool {
    is_name(text) && text.bytes().all(|c| !c.is_ascii_uppercase() && c != b'.')
}

/// `--name`, else `name:`, else the folder's name made fit.
fn stack_name(d: &Decoder<'_>, fields: &super::Fields<'_>, given: Option<&str>) -> String {
    let checked = |at: At, name: &str| {
        if !is_stack_name(name) {
            let message = format!("`{}` cannot be a stack's name", shorten(name));
            d.problems.error_hint(at, message, NAME_RULE);
        }
        name.to_owned()
    };
    let of_file = fields.get("name").and_then(|node| Some(checked(node.at, d.text(node, "name")?)));
    if let Some(name) = given {
        return checked(fields.at, name);
    }
    if let Some(name) = of_file {
        return name;
    }
    let name = name_of_folder(d.folder);
    if name.is_empty() {
        let message = format!("the folder `{}` gives the stack no name", d.folder.display());
        d.problems.error_hint(fields.at, message, "add `name: …` to the file, or use `--name`");
    }
    name
}

/// The name of a stack whose files say none; empty where the folder has no letter or digit.
pub(crate) fn name_of_folder(folder: &Path) -> String {
    let folder = folder.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let kept: String = folder
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-' || *c == '_')
        .collect();
    kept.trim_start_matches(['-', '_']).chars().take(63).collect()
}

pub(super) fn check_key(d: &Decoder<'_>, key: &Key, kind: &str) {
    if !is_name(&key.text) {
        let message = format!("`{}` cannot be the name of a {kind}", shorten(&key.text));
        let hint =
            "a name is letters, digits, `-`, `_` and `.`, at most 63, first a letter or digit";
        d.problems.error_hint(key.at, message, hint);
    }
}

/// Two networks or volumes with one full name.
fn check_names<'s>(
    d: &Decoder<'_>,
    kind: &str,
    pairs: &[(Key, Node)],
    names: impl Iterator<Item = (&'s str, String)>,
) {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (key, full) in names {
        if let Some(owner) = owners.insert(full.clone(), key) {
            let at = pairs.iter().find(|(pair, _)| pair.text == key).map(|(key, _)| key.at);
            let message = format!("{kind} `{key}` has the name `{full}`, as has `{owner}`");
            d.problems.error_hint(at.unwrap_or_default(), message, "give one of them another name");
        }
    }
}

/// Two services of one stack that want the same port of the hosts.
fn check_ports(d: &Decoder<'_>, nodes: &[(Key, Node)], services: &BTreeMap<String, ServiceSpec>) {
    let mut taken: BTreeMap<(u16, Protocol), Vec<(&str, &PortSpec)>> = BTreeMap::new();
    for (key, node) in nodes {
        for port in services.get(&key.text).into_iter().flat_map(|service| &service.ports) {
            let Some(published) = port.published else { continue };
            let others = taken.entry((published, port.protocol)).or_default();
            let clash = others.iter().find(|(_, other)| clashes(port, other));
            if let Some((owner, _)) = clash {
                let at = node.get("ports").map_or(key.at, |ports| ports.at);
                let message = format!(
                    "service `{}` publishes port {published}/{}, already taken by service `{owner}`",
                    key.text, port.protocol
                );
                d.problems.error_hint(at, message, "give one of them another `published` port");
            } else {
                others.push((&key.text, port));
            }
        }
    }
}

/// Whether two published ports can meet on a host.
pub(super) fn clashes(a: &PortSpec, b: &PortSpec) -> bool {
    let addresses_meet = match (a.host_address, b.host_address) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let both_on_host = a.mode == PortMode::Host && b.mode == PortMode::Host;
    a.published.is_some()
        && a.published == b.published
        && a.protocol == b.protocol
        && addresses_meet
        && !both_on_host
}

fn volumes(
    d: &Decoder<'_>,
    pairs: &[(Key, Node)],
    services: &BTreeMap<String, ServiceSpec>,
) -> BTreeMap<String, VolumeSpec> {
    let mounts = services.values().flat_map(|service| &service.container.mounts);
    let used: BTreeSet<&str> = mounts
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { volume, .. } => Some(volume.as_str()),
            _ => None,
        })
        .collect();
    let mut volumes = BTreeMap::new();
    for (key, node) in pairs {
        check_key(d, key, "volume");
        let Some(spec) = volume(d, key, node) else { continue };
        if used.contains(key.text.as_str()) {
            volumes.insert(key.text.clone(), spec);
        } else {
            d.problems.warn(key.at, format!("volume `{}` is not used by any service", key.text));
        }
    }
    volumes
}

fn volume(d: &Decoder<'_>, key: &Key, node: &Node) -> Option<VolumeSpec> {
    let place = format!("volume `{}`", key.text);
    let fields = d.fields(node, &place, &VOLUME)?;
    if let Some(driver) = fields.get("driver") {
        d.word(driver, "driver", &[("local", ())]);
    }
    if let Some(node) = fields.get("x-swarm") {
        d.fields(node, "`x-swarm` of a volume", &X_SWARM_VOLUME);
    }
    let (external, old_name) = external::external(d, &fields, &EXTERNAL_NAME);
    let name = fields.get("name").and_then(|node| object_name(d, node)).or(old_name);
    if external {
        external::refuse_others(d, &fields, &place, &["driver", "labels"]);
        return Some(VolumeSpec { name, external, ..VolumeSpec::default() });
    }
    let labels = fields.get("labels").map(|node| d.labels(node)).unwrap_or_default();
    Some(VolumeSpec { name, labels, external })
}

/// A full name of a network or volume, as `name:` gives it.
pub(super) fn object_name(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let name = d.text(node, "name")?;
    if !is_name(name) {
        let hint =
            "a name is letters, digits, `-`, `_` and `.`, at most 63, first a letter or digit";
        d.problems.error_hint(node.at, format!("`{}` cannot be a name", shorten(name)), hint);
        return None;
    }
    Some(name.to_owned())
}
