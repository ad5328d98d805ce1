//! Several files on top of each other: scalars replace, mappings merge, lists append, and some lists are keyed.

use std::collections::HashMap;

use crate::tree::{Data, Key, Node};

/// Lists of `KEY=value` that are the same as a mapping, by the last part of their path.
const ASSIGNMENTS: [&str; 4] = ["environment", "labels", "sysctls", "extra_hosts"];
/// Values that a later file replaces whole.
const REPLACED: [&str; 3] = ["command", "entrypoint", "aliases"];

/// All files as one tree; `None` when there is no file.
pub(crate) fn merge(trees: Vec<Node>) -> Option<Node> {
    trees.into_iter().reduce(|below, above| lay(below, above, &mut Vec::new()))
}

fn lay(below: Node, above: Node, path: &mut Vec<String>) -> Node {
    if above.is_null() {
        return below;
    }
    let name = path.last().map_or("", String::as_str);
    if REPLACED.contains(&name) {
        return above;
    }
    let (below, above) = if ASSIGNMENTS.contains(&name) || name == "networks" {
        (as_mapping(below, name), as_mapping(above, name))
    } else {
        (below, above)
    };
    let at = above.at;
    match (below.data, above.data) {
        (Data::Mapping(below), Data::Mapping(above)) => {
            Node { at, data: Data::Mapping(lay_pairs(below, above, path)) }
        }
        (Data::Sequence(below), Data::Sequence(above)) => {
            Node { at, data: Data::Sequence(lay_items(below, above, name)) }
        }
        (_, data) => Node { at, data },
    }
}

fn lay_pairs(
    mut below: Vec<(Key, Node)>,
    above: Vec<(Key, Node)>,
    path: &mut Vec<String>,
) -> Vec<(Key, Node)> {
    let places: HashMap<String, usize> =
        below.iter().enumerate().map(|(place, (key, _))| (key.text.clone(), place)).collect();
    for (key, value) in above {
        let Some(place) = places.get(&key.text) else {
            below.push((key, value));
            continue;
        };
        path.push(key.text.clone());
        let old = std::mem::replace(&mut below[*place].1, Node { at: value.at, data: Data::Null });
        below[*place] = (key, lay(old, value, path));
        path.pop();
    }
    below
}

/// Appends; a volume with the same target and a port that publishes the same replace what was there.
fn lay_items(mut below: Vec<Node>, above: Vec<Node>, name: &str) -> Vec<Node> {
    let places: HashMap<String, usize> = below
        .iter()
        .enumerate()
        .filter_map(|(place, item)| Some((identity(item, name)?, place)))
        .collect();
    for item in above {
        match identity(&item, name).and_then(|identity| places.get(&identity)) {
            Some(place) => below[*place] = item,
            None => below.push(item),
        }
    }
    below
}

fn identity(item: &Node, name: &str) -> Option<String> {
    let text = |node: &Node| match &node.data {
        Data::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    };
    match (name, &item.data) {
        ("volumes", Data::Scalar { text, .. }) => {
            let mut parts = text.split(':');
            let first = parts.next();
            parts.next().or(first).map(str::to_owned)
        }
        ("volumes", _) => item.get("target").and_then(text),
        ("ports", Data::Scalar { text, .. }) => Some(text.clone()),
        ("ports", _) => {
            let part = |key| item.get(key).and_then(text).unwrap_or_default();
            Some(format!("{}:{}/{}", part("published"), part("target"), part("protocol")))
        }
        _ => None,
    }
}

/// A list of `KEY=value` (or of names) as the mapping that it stands for.
fn as_mapping(node: Node, name: &str) -> Node {
    let Data::Sequence(items) = node.data else { return node };
    let separators: &[char] = if name == "extra_hosts" { &['=', ':'] } else { &['='] };
    let pair = |item: Node| {
        let at = item.at;
        let Data::Scalar { text, .. } = item.data else { return Err(item) };
        let (key, data) = match text.split_once(separators) {
            Some((key, value)) => {
                (key.to_owned(), Data::Scalar { text: value.to_owned(), plain: false })
            }
            None => (text, Data::Null),
        };
        Ok((Key { text: key, at }, Node { at, data }))
    };
    let mut pairs: Vec<(Key, Node)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in items {
        match pair(item) {
            Ok(pair) => {
                let place = *places.entry(pair.0.text.clone()).or_insert(pairs.len());
                if place < pairs.len() {
                    pairs[place] = pair;
                } else {
                    pairs.push(pair);
                }
            }
            // Not a list of this form: the decode says so, at this place.
            Err(item) => return Node { at: node.at, data: Data::Sequence(vec![item]) },
        }
    }
    Node { at: node.at, data: Data::Mapping(pairs) }
}
