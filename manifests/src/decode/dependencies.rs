//! `depends_on`: what starts first.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::spec::{Dependency, DependencyCondition, RestartCondition, ServiceSpec};

use super::Decoder;
use crate::keys::DEPENDENCY;
use crate::tree::{At, Data, Key, Node, shorten};

const CONDITIONS: [(&str, DependencyCondition); 3] = [
    ("service_started", DependencyCondition::Started),
    ("service_healthy", DependencyCondition::Healthy),
    ("service_completed_successfully", DependencyCondition::Completed),
];

/// The services that a service waits for, of those that the file has, each once.
pub(super) fn dependencies(d: &Decoder<'_>, node: &Node, services: &[&str]) -> Vec<Dependency> {
    let mut found = BTreeMap::new();
    let mut push = |at: At, one: Dependency, required: bool| {
        let name = one.service.as_str();
        if services.contains(&name) {
            found.insert(name.to_owned(), one);
        } else if required {
            let message = format!("`depends_on` names `{}`, which is no service", shorten(name));
            d.problems.error_hint(at, message, d.hint(name, services.iter().copied()));
        }
    };
    match &node.data {
        Data::Mapping(pairs) => {
            for (key, node) in pairs {
                if let Some((one, required)) = dependency(d, key, node) {
                    push(key.at, one, required);
                }
            }
        }
        _ => {
            for item in d.list(node, "depends_on").unwrap_or_default() {
                if let Some(name) = d.scalar(item, "depends_on") {
                    push(item.at, Dependency::started(name), true);
                }
            }
        }
    }
    found.into_values().collect()
}

/// The long form, and whether the other service must be there.
fn dependency(d: &Decoder<'_>, key: &Key, node: &Node) -> Option<(Dependency, bool)> {
    let fields = d.fields(node, &format!("dependency `{}`", shorten(&key.text)), &DEPENDENCY)?;
    let condition = match fields.get("condition") {
        Some(node) => d.word(node, "condition", &CONDITIONS)?,
        None => DependencyCondition::Started,
    };
    let flag = |name| fields.get(name).and_then(|node| d.boolean(node, name));
    let restart = flag("restart").unwrap_or(false);
    let one = Dependency { service: key.text.clone(), condition, restart };
    Some((one, flag("required").unwrap_or(true)))
}

/// Warns of services that never stay completed.
pub(super) fn check_completions(
    d: &Decoder<'_>,
    pairs: &[(Key, Node)],
    services: &BTreeMap<String, ServiceSpec>,
) {
    for (key, node) in pairs {
        let Some(service) = services.get(&key.text) else { continue };
        let waits = |one: &&Dependency| one.condition == DependencyCondition::Completed;
        for one in service.depends_on.iter().filter(waits) {
            let other = services.get(&one.service);
            if other.is_some_and(|other| other.restart.condition == RestartCondition::Any) {
                let at = node.get("depends_on").map_or(key.at, |node| node.at);
                let name = &one.service;
                let message = format!(
                    "`{name}` starts again whenever it completes: give it `restart: on-failure`"
                );
                d.problems.warn(at, message);
            }
        }
    }
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
                let next = &next.service;
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
            depends_on: after.iter().map(|&name| Dependency::started(name)).collect(),
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
