//! `profiles`: which services are part of the stack.

use std::collections::{BTreeMap, BTreeSet};

use crate::keys::SERVICE;
use crate::load::Loader;
use crate::problem::Problems;
use crate::tree::{At, Data, Key, Node, shorten};

/// Takes services out whose profiles are all off.
pub(crate) fn keep(loader: &Loader<'_>, tree: &mut Node, enabled: &[String]) {
    let problems = loader.problems;
    let Data::Mapping(pairs) = &mut tree.data else { return };
    let services = pairs.iter_mut().find(|(key, _)| key.text == "services");
    let Some((services_key, Node { data: Data::Mapping(services), .. })) = services else { return };
    let mut off: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    services.retain_mut(|(key, service)| {
        let Some((profiles_key, profiles)) = service.take("profiles") else { return true };
        let names = profile_names(&profiles_key, &profiles, problems);
        let above = format!("services.{}.", key.text);
        loader.keep_taken(above, &SERVICE, (profiles_key, profiles));
        let on = names.is_empty()
            || names.iter().any(|name| enabled.iter().any(|on| on == name || on == "*"));
        if !on {
            off.insert(key.text.clone(), names);
        }
        on
    });
    for (key, service) in services.iter_mut() {
        check_dependencies(key, service, &off, problems);
    }
    if services.is_empty() && !off.is_empty() {
        let names: BTreeSet<&str> = off.values().flatten().map(String::as_str).collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
        let hint = format!("enable one with `--profile`: {}", names.join(", "));
        problems.error_hint(services_key.at, "the profiles of all services are off", hint);
        problems.settle(services_key.at);
    }
}

fn profile_names(key: &Key, node: &Node, problems: &Problems) -> BTreeSet<String> {
    let Data::Sequence(items) = &node.data else {
        if !node.is_null() {
            let message = format!("`profiles` must be a list, found {}", node.found());
            problems.error_hint(key.at, message, "write `profiles: [NAME]`");
        }
        return BTreeSet::new();
    };
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
    };
    let mut names = BTreeSet::new();
    for item in items {
        match item.text() {
            Some(text) if is_name(text) => {
                names.insert(text.to_owned());
            }
            _ => {
                let message = format!("a profile must be a name, found {}", item.found());
                let hint = "a name is letters, digits, `_`, `.` and `-`, first a letter or digit";
                problems.error_hint(item.at, message, hint);
            }
        }
    }
    names
}

/// A service that is on needs those that it depends on, unless it says `required: false`.
fn check_dependencies(
    key: &Key,
    service: &mut Node,
    off: &BTreeMap<String, BTreeSet<String>>,
    problems: &Problems,
) {
    let Data::Mapping(pairs) = &mut service.data else { return };
    let found = pairs.iter_mut().find(|(key, _)| key.text == "depends_on");
    let Some((_, dependencies)) = found else { return };
    let refuse = |at: At, name: &str| {
        let Some(profiles) = off.get(name) else { return };
        let message = format!(
            "service `{}` depends on `{}`, whose profile is off",
            shorten(&key.text),
            shorten(name)
        );
        let profile = profiles.first().map(String::as_str).unwrap_or_default();
        problems.error_hint(at, message, format!("enable it with `--profile {profile}`"));
    };
    match &mut dependencies.data {
        Data::Sequence(items) => {
            for item in items {
                refuse(item.at, item.text().unwrap_or_default());
            }
        }
        Data::Mapping(pairs) => pairs.retain(|(key, settings)| {
            let optional = settings.get("required").and_then(Node::text) == Some("false");
            if optional && off.contains_key(&key.text) {
                return false;
            }
            refuse(key.at, &key.text);
            true
        }),
        Data::Null | Data::Scalar { .. } => {}
    }
}
