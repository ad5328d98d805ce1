//! `external`: networks and volumes that the file does not make, but finds under their full names.

use std::collections::BTreeMap;

use swarm_proto::spec::NetworkMode;

use super::stack::object_name;
use super::{Decoder, Fields, truth};
use crate::keys::Level;
use crate::tree::{Data, Key, Node, shorten};

/// Whether an object is external, and its name in the old form: `true`, or `{name: other}`.
pub(super) fn external(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    old_form: &'static Level,
) -> (bool, Option<String>) {
    let Some(node) = fields.get("external") else { return (false, None) };
    if let Data::Mapping(_) = node.data {
        let fields = d.fields(node, "`external`", old_form);
        return (true, fields.and_then(|fields| object_name(d, fields.get("name")?)));
    }
    (d.boolean(node, "external").unwrap_or(false), None)
}

/// Refuses keys that say what an external object is: it is that already.
pub(super) fn refuse_others(d: &Decoder<'_>, fields: &Fields<'_>, place: &str, keys: &[&str]) {
    for key in keys.iter().filter(|key| fields.get(key).is_some()) {
        let message = format!("{place} is external: its `{key}` is not the file's to say");
        d.problems.error_hint(fields.key_at(key), message, "remove this, or `external`");
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.data {
        Data::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The networks of a file that stand for a host's own, or for none, by key: Swarm's way to say `network_mode`.
pub(super) fn network_modes(pairs: &[(Key, Node)]) -> BTreeMap<&str, NetworkMode> {
    let mode = |(key, node): &'_ (Key, Node)| -> Option<NetworkMode> {
        let external = node.get("external")?;
        let named = node.get("name").or_else(|| external.get("name")).and_then(text);
        let is_external = match &external.data {
            Data::Scalar { text, .. } => truth(text) == Some(true),
            Data::Mapping(_) => true,
            _ => false,
        };
        match named.unwrap_or(&key.text) {
            "host" if is_external => Some(NetworkMode::Host),
            "none" if is_external => Some(NetworkMode::None),
            _ => None,
        }
    };
    pairs.iter().filter_map(|pair| Some((pair.0.text.as_str(), mode(pair)?))).collect()
}

/// What a service's only network stands for. One that has others beside it is refused.
pub(super) fn mode_of_networks(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    modes: &BTreeMap<&str, NetworkMode>,
) -> NetworkMode {
    let Some(node) = fields.get("networks") else { return NetworkMode::Own };
    let names: Vec<&str> = match &node.data {
        Data::Sequence(items) => items.iter().filter_map(text).collect(),
        Data::Mapping(pairs) => pairs.iter().map(|(key, _)| key.text.as_str()).collect(),
        _ => Vec::new(),
    };
    let found = names.iter().find_map(|name| Some((*name, *modes.get(name)?)));
    match found {
        None => NetworkMode::Own,
        Some((_, mode)) if names.len() == 1 => mode,
        Some((name, _)) => {
            let message = format!(
                "network `{}` is no overlay: a service cannot be on others beside it",
                shorten(name)
            );
            d.problems.error_hint(node.at, message, "leave it alone, or remove it");
            NetworkMode::Own
        }
    }
}
