//! `depends_on`: what starts first.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::spec::ServiceSpec;

use super::Decoder;
use crate::keys::DEPENDENCY;
use crate::tree::{At, Data, Key, Node, shorten};

/// The services that a service waits for, of those that the file has, each once.
pub(super) fn dependencies(d: &Decoder<'_>, node: &Node, services: &[&str]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut push = |at: At, name: &str, required: bool| {
        if services.contains(&name) {
            found.insert(name.to_owned());
        } else if required {
            let message = format!("`depends_on` names `{}`, which is no service", shorten(name));
            d.problems.error_hint(at, message, d.hint(name, services.iter().copied()));
        }
    };
    match &node.data {
        Data::Mapping(pairs) => {
            for (key, node) in pairs {
                if let Some(required) = dependency(d, key, node) {
                    push(key.at, &key.text, required);
                }
            }
        }
        _ => {
            for item in d.list(node, "depends_on").unwrap_or_default() {
                if let Some(name) = d.scalar(item, "depends_on") {
                    push(item.at, name, true);
                }
            }
        }
    }
    found.into_iter().collect()
}

/// The long form; whether the other service must be there.
fn dependency(d: &Decoder<'_>, key: &Key, node: &Node) -> Option<bool> {
    let fields = d.fields(node, &format!("dependency `{}`", shorten(&key.text)), &DEPENDENCY)?;
    if let Some(node) = fields.get("condition") {
        match d.scalar(node, "condition")? {
            word @ ("service_healthy" | "service_completed_successfully") => {
                d.later(node.at, &format!("condition: {word}"), "use `service_started`");
                return None;
            }
            _ => d.word(node, "condition", &[("service_started", ())])?,
        }
    }
    if let Some(node) = fields.get("restart")
        && d.boolean(node, "restart") == Some(true)
    {
        d.later(fields.key_at("restart"), "restart: true", "restart it with `service restart`");
    }
    Some(fields.get("required").and_then(|node| d.boolean(node, "required")).unwrap_or(true))
}

/// Refuses services that wait for each other.
pub(super) fn check_cycles(
    d: &Decoder<'_>,
    pairs: &[(Key, Node)],
    services: &BTreeMap<String, ServiceSpec>,
) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    for (key, node) in pairs {
        let Some(cycle) = cycle(&key.text, services).filter(|_| !told.contains(&key.text)) else {
            continue;
        };
        let at = node.get("depends_on").map_or(key.at, |node| node.at);
        let way = cycle.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
        let message = format!("services wait for each other: {way}");
        d.problems.error_hint(at, message, "remove one `depends_on`");
        told.extend(cycle);
    }
}

/// The shortest way from a service back to itself.
fn cycle(name: &str, services: &BTreeMap<String, ServiceSpec>) -> Option<Vec<String>> {
    let mut ways = vec![vec![name.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = services.get(way.last()?);
            for next in last.map(|service| service.depends_on.as_slice()).unwrap_or_default() {
                let way = [way.as_slice(), std::slice::from_ref(next)].concat();
                if next == name {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use swarm_proto::spec::{ContainerSpec, ImageSpec};

    use super::*;

    #[test]
    fn ways_back_are_found() {
        let service = |after: &[&str]| ServiceSpec {
            depends_on: after.iter().map(|&name| name.to_owned()).collect(),
            ..ServiceSpec::new(ContainerSpec::new(ImageSpec::new("a")))
        };
        let services = [
            ("a".to_owned(), service(&["b", "d"])),
            ("b".to_owned(), service(&["c"])),
            ("c".to_owned(), service(&["a"])),
            ("d".to_owned(), service(&[])),
            ("e".to_owned(), service(&["e"])),
            ("f".to_owned(), service(&["a"])),
        ]
        .into();
        let way = |name| cycle(name, &services).map(|way| way.join(""));
        assert_eq!(way("a").as_deref(), Some("abca"));
        assert_eq!(way("e").as_deref(), Some("ee"));
        assert_eq!((way("d"), way("f")), (None, None), "leading to a cycle is not being in it");
    }
}
