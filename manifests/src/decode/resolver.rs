//! Names: `dns`, `dns_search`, `dns_opt`, `extra_hosts`, and host names.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarm_proto::spec::Dns;

use super::{Decoder, Fields};
use crate::tree::{At, Data, Node, shorten};

/// As many resolvers as the C library asks.
const MOST_SERVERS: usize = 3;

/// Addresses of further names, of IPv4 and of IPv6.
pub(super) type Hosts = (BTreeMap<String, Ipv4Addr>, BTreeMap<String, Ipv6Addr>);

pub(super) fn dns(d: &Decoder<'_>, fields: &Fields<'_>) -> Dns {
    let texts = |key: &str| {
        let node = fields.get(key);
        node.and_then(|node| d.one_or_more(node, key)).unwrap_or_default()
    };
    let servers = texts("dns");
    if let Some((at, _)) = servers.get(MOST_SERVERS) {
        let message = format!("only the first {MOST_SERVERS} servers of `dns` are asked");
        d.problems.warn(*at, message);
    }
    let server = |(at, text): &(At, String)| {
        let address = text.parse::<IpAddr>().ok();
        if address.is_none() {
            let message = format!("`{}` is not an address of a name server", shorten(text));
            d.problems.error_hint(*at, message, "write an address such as `10.0.0.53`");
        }
        address
    };
    let servers = servers.iter().take(MOST_SERVERS).filter_map(server).collect();
    let words = |key: &str, pairs: Vec<(At, String)>| -> Vec<String> {
        let plain = |(at, text): &(At, String)| {
            let fits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
            if !fits {
                d.problems.error(*at, format!("`{}` does not fit into `{key}`", shorten(text)));
            }
            fits
        };
        pairs.into_iter().filter(plain).map(|(_, text)| text).collect()
    };
    let search = words("dns_search", texts("dns_search"));
    let options = words("dns_opt", texts("dns_opt"));
    Dns { servers, search, options }
}

/// The name of a host, or of a domain.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    text.len() <= 64 && text.split('.').all(is_label)
}

pub(super) fn domainname(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.scalar(node, "domainname")?;
    if is_host_name(text) {
        return Some(text.to_owned());
    }
    let hint = "a domain is letters, digits, `-` and `.`, at most 64";
    d.problems.error_hint(node.at, format!("`{}` cannot be a domain", shorten(text)), hint);
    None
}

/// A mapping, or a list of `name:address` or `name=address`.
pub(super) fn extra_hosts(d: &Decoder<'_>, node: &Node) -> Hosts {
    let mut hosts = Hosts::default();
    match &node.data {
        Data::Mapping(pairs) => {
            for (key, node) in pairs {
                let addresses = if let Data::Sequence(items) = &node.data {
                    items
                } else {
                    std::slice::from_ref(node)
                };
                for node in addresses {
                    if let Some(text) = d.scalar(node, "extra_hosts") {
                        push(d, &mut hosts, node, &key.text, text);
                    }
                }
            }
        }
        _ => {
            for item in d.list(node, "extra_hosts").unwrap_or_default() {
                let Some(text) = d.scalar(item, "extra_hosts") else { continue };
                // The address may hold colons, the name does not.
                let (name, address) = text.split_once(['=', ':']).unwrap_or((text, ""));
                push(d, &mut hosts, item, name, address);
            }
        }
    }
    hosts
}

fn push(d: &Decoder<'_>, hosts: &mut Hosts, node: &Node, name: &str, address: &str) {
    let (name, address) = (name.trim(), address.trim());
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let named = is_host_name(name);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if named => put(d, &mut hosts.0, node, name, address),
        Ok(IpAddr::V6(address)) if named => put(d, &mut hosts.1, node, name, address),
        _ if address == "host-gateway" => d.later(node.at, "host-gateway", "write an address"),
        _ => {
            let wanted = "`name:address` with a host's name and an address of IPv4 or IPv6";
            d.expected(node, "an item of `extra_hosts`", wanted, "");
        }
    }
}

/// A host has one address of each kind: programs would take only the first of several.
fn put<T: Copy + Eq + Display>(
    d: &Decoder<'_>,
    hosts: &mut BTreeMap<String, T>,
    node: &Node,
    name: &str,
    address: T,
) {
    let first = *hosts.entry(name.to_owned()).or_insert(address);
    if first != address {
        let message = format!("host `{}` has the address `{first}` already", shorten(name));
        let hint = "one address of IPv4 and one of IPv6 are possible: remove one of them";
        d.problems.error_hint(node.at, message, hint);
    }
}
