//! Networks: what the file declares, and what services join.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use swarm_proto::spec::{NetworkAttachmentSpec, NetworkMode, NetworkSpec, ServiceSpec};

use super::external::{external, refuse_others};
use super::stack::{Declared, check_key, object_name};
use super::{Decoder, Fields, is_name};
use crate::keys::{EXTERNAL_NAME, IPAM, IPAM_CONFIG, NETWORK, NETWORK_ATTACHMENT, X_SWARM_NETWORK};
use crate::tree::{At, Data, Key, Node, shorten};

/// The network of services that name none.
const DEFAULT: &str = "default";

/// The networks that some service uses.
pub(super) fn networks(
    d: &Decoder<'_>,
    pairs: &[(Key, Node)],
    services: &BTreeMap<String, ServiceSpec>,
    modes: &BTreeMap<&str, NetworkMode>,
) -> BTreeMap<String, NetworkSpec> {
    let used: BTreeSet<&str> = services
        .values()
        .flat_map(|service| &service.networks)
        .map(|attachment| attachment.network.as_str())
        .collect();
    let mut networks = BTreeMap::new();
    if used.contains(DEFAULT) {
        networks.insert(DEFAULT.to_owned(), NetworkSpec::default());
    }
    for (key, node) in pairs {
        check_key(d, key, "network");
        let Some(spec) = network(d, key, node) else { continue };
        if used.contains(key.text.as_str()) {
            networks.insert(key.text.clone(), spec);
        } else if !modes.contains_key(key.text.as_str()) {
            d.problems.warn(key.at, format!("network `{}` is not used by any service", key.text));
        }
    }
    networks
}

fn network(d: &Decoder<'_>, key: &Key, node: &Node) -> Option<NetworkSpec> {
    let fields = d.fields(node, &format!("network `{}`", key.text), &NETWORK)?;
    if let Some(driver) = fields.get("driver")
        && d.scalar(driver, "driver").is_some_and(|driver| driver != "overlay")
    {
        let hint = "leave `driver` out: every network of a stack is an overlay over all hosts";
        d.expected(driver, "driver", "`overlay`", hint);
    }
    if let Some(attachable) = fields.get("attachable") {
        d.boolean(attachable, "attachable");
    }
    if let Some(node) = fields.get("x-swarm") {
        d.fields(node, "`x-swarm` of a network", &X_SWARM_NETWORK);
    }
    let (external, old_name) = external(d, &fields, &EXTERNAL_NAME);
    let name = fields.get("name").and_then(|node| object_name(d, node)).or(old_name);
    if external {
        let place = format!("network `{}`", shorten(&key.text));
        refuse_others(d, &fields, &place, &["driver", "ipam", "internal", "labels", "attachable"]);
        if name.as_deref().unwrap_or(&key.text) == "bridge" {
            let message = format!("{place} is each host's own bridge, which no service can join");
            d.problems.error_hint(key.at, message, "use a network of the stack");
        }
        return Some(NetworkSpec { name, external, ..NetworkSpec::default() });
    }
    Some(NetworkSpec {
        name,
        subnet: fields.get("ipam").and_then(|node| ipam(d, node)),
        internal: fields
            .get("internal")
            .and_then(|node| d.boolean(node, "internal"))
            .unwrap_or(false),
        labels: fields.get("labels").map(|node| d.labels(node)).unwrap_or_default(),
        external,
    })
}

fn ipam(d: &Decoder<'_>, node: &Node) -> Option<(Ipv4Addr, u8)> {
    let fields = d.fields(node, "`ipam`", &IPAM)?;
    if let Some(driver) = fields.get("driver") {
        d.word(driver, "driver", &[("default", ())]);
    }
    let configs = fields.get("config").and_then(|node| d.list(node, "config"))?;
    if let Some(second) = configs.get(1) {
        d.problems.error_hint(second.at, "a network has one subnet", "remove all but the first");
    }
    let fields = d.fields(configs.first()?, "`ipam.config`", &IPAM_CONFIG)?;
    let node = fields.get("subnet")?;
    let text = d.scalar(node, "subnet")?;
    let subnet = subnet(text);
    if let Err(why) = &subnet {
        d.expected(node, "subnet", "an IPv4 subnet such as `10.5.0.0/24`", why);
    }
    subnet.ok()
}

fn subnet(text: &str) -> Result<(Ipv4Addr, u8), String> {
    if text.contains("::") {
        return Err("IPv6 is not supported yet".to_owned());
    }
    let (address, length) = text.split_once('/').ok_or("add the prefix length: `/24`")?;
    let address: Ipv4Addr =
        address.parse().map_err(|_| format!("`{}` is not an address", shorten(address)))?;
    let length: u8 = length
        .parse()
        .ok()
        .filter(|length| (8..=29).contains(length))
        .ok_or_else(|| format!("the prefix length is 8 to 29, found `{}`", shorten(length)))?;
    let first = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - length)));
    let unusable = address.is_loopback() || address.is_multicast() || address.is_link_local();
    if unusable || address.octets()[0] == 0 || address.octets()[0] >= 240 {
        return Err("choose a private subnet, such as one in `10.0.0.0/8`".to_owned());
    }
    if first == address {
        Ok((address, length))
    } else {
        Err(format!("its first address is `{first}`"))
    }
}

/// The networks that a service joins: those it names, else the default one. On each it is found by its `container_name`
/// too.
pub(super) fn attachments(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    declared: &Declared<'_>,
) -> Vec<NetworkAttachmentSpec> {
    let mut found = named_networks(d, fields.get("networks"), declared);
    let name = fields.get("container_name");
    if let Some(name) = name.and_then(|node| name_on_network(d, node, "container_name")) {
        for attachment in &mut found {
            if !attachment.aliases.contains(&name) {
                attachment.aliases.push(name.clone());
                attachment.aliases.sort();
            }
        }
    }
    found
}

fn named_networks(
    d: &Decoder<'_>,
    node: Option<&Node>,
    declared: &Declared<'_>,
) -> Vec<NetworkAttachmentSpec> {
    let mut found: Vec<NetworkAttachmentSpec> = Vec::new();
    let mut names = BTreeSet::new();
    match node.map(|node| (node, &node.data)) {
        Some((_, Data::Sequence(items))) => {
            for item in items {
                let Some(name) = d.text(item, "networks") else { continue };
                if !names.insert(name) {
                    let message = format!("network `{}` is named twice", shorten(name));
                    d.problems.error_hint(item.at, message, "remove one of them");
                    continue;
                }
                push(d, &mut found, name, item.at, Vec::new(), declared);
            }
        }
        Some((_, Data::Mapping(pairs))) => {
            for (key, node) in pairs {
                let aliases = aliases(d, &key.text, node);
                push(d, &mut found, &key.text, key.at, aliases, declared);
            }
        }
        Some((node, _)) => d.expected(node, "networks", "a list or a mapping of networks", ""),
        None => {}
    }
    if found.is_empty() {
        found.push(NetworkAttachmentSpec::new(DEFAULT));
    }
    found
}

fn push(
    d: &Decoder<'_>,
    found: &mut Vec<NetworkAttachmentSpec>,
    name: &str,
    at: At,
    aliases: Vec<String>,
    declared: &Declared<'_>,
) {
    if name != DEFAULT && !declared.networks.contains_key(name) {
        let known = declared.networks.keys().copied();
        let hint = match d.nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("declare it: a line `{}:` under the top-level `networks:`", shorten(name))
            }
        };
        d.problems.error_hint(at, format!("network `{}` is not defined", shorten(name)), hint);
    }
    found.push(NetworkAttachmentSpec { aliases, ..NetworkAttachmentSpec::new(name) });
}

fn aliases(d: &Decoder<'_>, network: &str, node: &Node) -> Vec<String> {
    let place = format!("network `{}` of a service", shorten(network));
    let Some(fields) = d.fields(node, &place, &NETWORK_ATTACHMENT) else {
        return Vec::new();
    };
    let items = fields.get("aliases").and_then(|node| d.list(node, "aliases")).unwrap_or_default();
    let aliases: BTreeSet<String> =
        items.iter().filter_map(|item| name_on_network(d, item, "aliases")).collect();
    aliases.into_iter().collect()
}

fn name_on_network(d: &Decoder<'_>, node: &Node, key: &str) -> Option<String> {
    let name = d.scalar(node, key)?;
    if is_name(name) {
        return Some(name.to_owned());
    }
    let message = format!("`{}` cannot be a name on a network", shorten(name));
    let hint = "a name is letters, digits, `-`, `_` and `.`, at most 63";
    d.problems.error_hint(node.at, message, hint);
    None
}
