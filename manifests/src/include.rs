//! `include`: other projects whose services, networks, volumes, secrets and configs become part of this one.

use std::path::{Path, PathBuf};

use crate::interpolate::Scope;
use crate::keys::STACK;
use crate::load::{self, LONGEST_CHAIN, Loader, Project, Variables, absolute};
use crate::tree::{At, Data, Key, Node, shorten};
use crate::{dotenv, paths};

const KEYS: [&str; 3] = ["path", "project_directory", "env_file"];
/// What an included project brings in.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "secrets", "configs"];

/// One entry, with its paths made absolute.
struct Entry {
    at: At,
    files: Vec<(At, PathBuf)>,
    folder: PathBuf,
    env_files: Vec<(At, PathBuf)>,
}

/// Brings in what a file includes, and takes `include` out of it.
pub(crate) fn include(
    loader: &Loader<'_>,
    tree: &mut Node,
    folder: &Path,
    variables: &Variables,
    chain: &mut Vec<PathBuf>,
) {
    let Some((key, mut list)) = tree.take("include") else { return };
    loader.replace_names(&mut list, variables);
    if chain.len() == 1 {
        loader.keep_taken(String::new(), &STACK, (key.clone(), list.clone()));
    }
    let Data::Sequence(items) = &list.data else {
        if !list.is_null() {
            let message = format!("`include` must be a list, found {}", list.found());
            loader.problems.error_hint(key.at, message, "write `include: [FILE]`");
            loader.note_hole();
        }
        return;
    };
    for item in items {
        let project = entry(loader, item, folder)
            .and_then(|entry| Some((load(loader, &entry, variables, chain)?, entry)));
        let Some((mut project, entry)) = project else {
            loader.note_hole();
            continue;
        };
        paths::make_absolute(&mut project, &entry.folder);
        if loader.may_copy(&project, entry.at) {
            import(loader, tree, project, entry.at);
        }
    }
}

fn entry(loader: &Loader<'_>, item: &Node, folder: &Path) -> Option<Entry> {
    let problems = loader.problems;
    let at = item.at;
    let path = match &item.data {
        Data::Scalar { .. } => item,
        Data::Mapping(_) => {
            load::refuse_unknown(item, "`include`", &KEYS, problems);
            let path = item.get("path").filter(|path| !path.is_null());
            if path.is_none() {
                problems.error_hint(at, "an entry of `include` needs `path`", "name its file");
            }
            path?
        }
        _ => {
            let message = format!("an entry of `include` must be a path, found {}", item.found());
            problems.error_hint(at, message, "write `- FILE`, or `- path: FILE`");
            return None;
        }
    };
    let full = |texts: Vec<(At, String)>, from: &Path| -> Vec<(At, PathBuf)> {
        texts.into_iter().map(|(at, text)| (at, absolute(from, &text))).collect()
    };
    let texts = load::texts(path, "`path`", problems);
    if !texts.iter().all(|(at, text)| load::is_local(text, *at, problems)) {
        return None;
    }
    let files = full(texts, folder);
    let (_, first) = files.first()?;
    let own = item.get("project_directory").filter(|node| !node.is_null());
    let project_folder = match own.map(|node| load::texts(node, "`project_directory`", problems)) {
        Some(texts) => absolute(folder, &texts.first()?.1),
        None => first.parent().unwrap_or(Path::new("/")).to_path_buf(),
    };
    let default = project_folder.join(".env");
    let env_files = match item.get("env_file").filter(|node| !node.is_null()) {
        Some(node) => full(load::texts(node, "`env_file`", problems), folder),
        None if default.is_file() => vec![(at, default)],
        None => Vec::new(),
    };
    Some(Entry { at, files, folder: project_folder, env_files })
}

fn load(
    loader: &Loader<'_>,
    entry: &Entry,
    variables: &Variables,
    chain: &mut Vec<PathBuf>,
) -> Option<Node> {
    let mut below = Variables::new();
    let errors = loader.problems.count();
    for (at, path) in &entry.env_files {
        let source = loader.open(path, *at, "env_file")?;
        let outer = Scope::of_two(variables, &below);
        let form = dotenv::Form::Compose;
        let found = dotenv::read(source, form, outer, &loader.budget, loader.problems);
        below.extend(found.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    if loader.problems.count() > errors {
        return None;
    }
    // What the including project knows goes first.
    below.extend(variables.iter().map(|(key, value)| (key.clone(), value.clone())));
    let mut files = Vec::new();
    for (at, path) in &entry.files {
        if chain.contains(path) || chain.len() >= LONGEST_CHAIN {
            let shown = |path: &PathBuf| {
                let shown = path.strip_prefix(loader.working_dir).unwrap_or(path);
                format!("`{}`", shorten(&shown.display().to_string()))
            };
            let steps: Vec<String> = chain.iter().chain([path]).map(shown).collect();
            let message = format!("files include each other: {}", steps.join(" → "));
            loader.problems.error_hint(*at, message, "take one of these out of `include`");
            return None;
        }
        let source = loader.open(path, *at, "included file")?;
        files.push((path.clone(), loader.parse(source)?));
    }
    loader.project(Project { files, folder: &entry.folder, variables: &below }, chain)
}

/// Puts an included project's sections into a tree. What both have must be the same.
fn import(loader: &Loader<'_>, tree: &mut Node, mut project: Node, at: At) {
    for section in SECTIONS {
        let Some((section_key, Node { data: Data::Mapping(new), at: section_at })) =
            project.take(section)
        else {
            continue;
        };
        let Data::Mapping(sections) = &mut tree.data else { return };
        let place = sections.iter().position(|(key, _)| key.text == section);
        let place = place.unwrap_or_else(|| {
            let data = Data::Mapping(Vec::new());
            sections.push((section_key, Node { at: section_at, data }));
            sections.len() - 1
        });
        let into = &mut sections[place].1;
        if into.is_null() {
            into.data = Data::Mapping(Vec::new());
        }
        let Data::Mapping(pairs) = &mut into.data else { continue };
        add(loader, section, pairs, new, at);
    }
}

fn add(
    loader: &Loader<'_>,
    section: &str,
    pairs: &mut Vec<(Key, Node)>,
    new: Vec<(Key, Node)>,
    at: At,
) {
    let known: std::collections::HashMap<String, usize> =
        pairs.iter().enumerate().map(|(place, (key, _))| (key.text.clone(), place)).collect();
    for (key, value) in new {
        let Some(place) = known.get(&key.text) else {
            pairs.push((key, value));
            continue;
        };
        let (own, node) = &pairs[*place];
        if node.same(&value) {
            continue;
        }
        let kind = section.trim_end_matches('s');
        let message = format!(
            "{kind} `{}` is also in {}, which {} includes",
            shorten(&key.text),
            loader.problems.place(key.at),
            loader.problems.place(at)
        );
        let hint = "rename one of them, or change the included one in a further `-f` file";
        loader.problems.error_hint(own.at, message, hint);
    }
}
