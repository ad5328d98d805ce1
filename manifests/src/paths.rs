//! Which values are paths on the workstation, relative to the file that they stand in.

use std::path::Path;

use crate::load::absolute;
use crate::tree::{Data, Node};

/// Where paths stand. `*` is any key or item.
const PATHS: [&str; 9] = [
    "services.*.env_file",
    "services.*.env_file.*",
    "services.*.env_file.*.path",
    "services.*.label_file",
    "services.*.label_file.*",
    "services.*.credential_spec.file",
    "services.*.build.context",
    "secrets.*.file",
    "configs.*.file",
];
/// Begins an absolute path that was a relative one: what lies there is on the workstation, and not on the hosts.
pub(crate) const BESIDE: &str = "/./";
const SOURCE: &str = "services.*.volumes.*.source";
/// Volumes in their short form, whose source may be a path.
const VOLUMES: &str = "services.*.volumes.*";
/// A context in its short form.
const CONTEXT: &str = "services.*.build";

/// Makes the paths of an included or extended file absolute, since it may lie in another folder than the first one.
pub(crate) fn make_absolute(tree: &mut Node, folder: &Path) {
    walk(tree, folder, &mut Vec::new());
}

fn walk(node: &mut Node, folder: &Path, path: &mut Vec<String>) {
    // Nothing that is a path lies deeper.
    const DEEPEST: usize = 5;
    if path.len() > DEEPEST {
        return;
    }
    match &mut node.data {
        Data::Mapping(pairs) => {
            let is_bind =
                pairs.iter().any(|(key, value)| key.text == "type" && value.text() == Some("bind"));
            let is_mount = matches(path, VOLUMES);
            for (key, value) in pairs {
                if is_mount && key.text == "source" && !is_bind {
                    continue;
                }
                path.push(key.text.clone());
                walk(value, folder, path);
                path.pop();
            }
        }
        Data::Sequence(items) => {
            for item in items {
                path.push("-".to_owned());
                walk(item, folder, path);
                path.pop();
            }
        }
        Data::Scalar { text, .. } => {
            if let Some(new) = replaced(text, folder, path) {
                *text = new;
            }
        }
        Data::Null => {}
    }
}

fn replaced(text: &str, folder: &Path, path: &[String]) -> Option<String> {
    let full = |part: &str| absolute(folder, part).display().to_string();
    let beside = |part: &str| format!("{BESIDE}{}", full(part).trim_start_matches('/'));
    if text.starts_with('~') || text.is_empty() {
        return None;
    }
    if matches(path, VOLUMES) {
        let (source, rest) = text.split_once(':')?;
        return source.starts_with('.').then(|| format!("{}:{rest}", beside(source)));
    }
    if matches(path, SOURCE) {
        return (!text.starts_with('/')).then(|| beside(text));
    }
    let is_context = matches(path, CONTEXT) || path.last().is_some_and(|key| key == "context");
    if is_context && text.contains("://") {
        return None;
    }
    let is_path = matches(path, CONTEXT) || PATHS.iter().any(|pattern| matches(path, pattern));
    is_path.then(|| full(text))
}

fn matches(path: &[String], pattern: &str) -> bool {
    let mut keys = path.iter();
    pattern.split('.').all(|part| keys.next().is_some_and(|key| part == "*" || part == key))
        && keys.next().is_none()
}
