//! Rules of the code that no compiler checks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. The tests may import all.
const IMPORTS: [(&str, &[&str]); 7] = [
    ("proto", &[]),
    ("runtime", &[]),
    ("manifests", &["swarm_proto"]),
    ("manifests/dockerfile", &[]),
    ("controller", &["swarm_proto"]),
    ("agent", &["swarm_dockerfile", "swarm_proto", "swarm_runtime"]),
    ("swarmctl", &["swarm_dockerfile", "swarm_manifests", "swarm_proto", "swarm_runtime"]),
];

const CRATES: [&str; 7] = [
    "swarm_agent",
    "swarm_controller",
    "swarm_dockerfile",
    "swarm_manifests",
    "swarm_proto",
    "swarm_runtime",
    "swarmctl",
];

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: [&str; 6] = ["manager", "handler", "helper", "util", "common", "misc"];

/// A file has at most this many lines, its unit tests not counted.
const LONGEST: usize = 600;

/// What a folder may have at the top of the project.
const TOP: [&str; 17] = [
    ".cargo",
    ".ci",
    ".config",
    ".git",
    "agent",
    "controller",
    "docs",
    "manifests",
    "packaging",
    "proto",
    "runtime",
    "swarmctl",
    "target",
    "tests",
    ".github",
    ".vscode",
    ".idea",
];

struct Source {
    /// From the project's root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn krate(&self) -> &str {
        // The one crate that is below another's folder.
        if self.path.starts_with("manifests/dockerfile") {
            return "manifests/dockerfile";
        }
        self.path.iter().next().and_then(|part| part.to_str()).unwrap()
    }

    fn is_test(&self) -> bool {
        let tests = self.path.iter().any(|part| part == "tests");
        tests || self.path.ends_with("tests.rs") || self.path.ends_with("strategies.rs")
    }

    /// The code without its unit tests at the end of the file.
    fn code(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod ");
        let end =
            end.filter(|at| self.text[*at..].lines().nth(2).is_some_and(|l| l.ends_with('{')));
        &self.text[..end.unwrap_or(self.text.len())]
    }

    /// Lines that are not comments, numbered from one.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code().lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources() -> Vec<Source> {
    let tops = IMPORTS.iter().map(|(name, _)| *name).filter(|name| !name.contains('/'));
    let mut folders: Vec<PathBuf> = tops.chain(["tests"]).map(|name| root().join(name)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the sources were found");
    found
}

/// Fails with every broken place at once.
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Whether a word stands in a line on its own.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].chars().next_back().is_some_and(is_word)
            && !line[at + word.len()..].chars().next().is_some_and(is_word)
    })
}

#[test]
fn crates_import_only_whom_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.into();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.krate() != "tests") {
        let own = match source.krate() {
            "swarmctl" => "swarmctl".to_owned(),
            "manifests/dockerfile" => "swarm_dockerfile".to_owned(),
            other => format!("swarm_{other}"),
        };
        for (number, line) in source.lines() {
            for name in CRATES {
                let may = name == own || allowed[source.krate()].contains(&name);
                if line.contains(&format!("{name}::")) && !may {
                    broken.push(format!("{}:{number}: {name}", source.path.display()));
                }
            }
            let kernel_only = source.krate() == "swarmctl" && names(line, "swarm_runtime");
            let in_lab = source.path.starts_with("swarmctl/src/lab")
                || source.path == Path::new("swarmctl/src/lab.rs");
            if kernel_only && !(in_lab && line.contains("swarm_runtime::kernel")) {
                broken.push(format!(
                    "{}:{number}: only the lab, only the kernel",
                    source.path.display()
                ));
            }
        }
    }
    assert_none("a crate imports one that it must not know", &broken);
}

#[test]
fn files_stay_short() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.path.display(), source.code().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none("a file is too long", &broken);
}

/// Only one module for each crate may use a thing; its path, or the start of it.
fn assert_only_in(rule: &str, word: &str, places: &[&str]) {
    let mut broken = Vec::new();
    for source in &sources() {
        if places.iter().any(|place| source.path.starts_with(place)) || source.is_test() {
            continue;
        }
        let found = source.lines().find(|(_, line)| names(line, word));
        broken.extend(found.map(|(number, _)| format!("{}:{number}", source.path.display())));
    }
    assert_none(rule, &broken);
}

#[test]
fn the_database_has_one_door() {
    assert_only_in("`sled` is named outside of the disk", "sled", &["controller/src/shell/disk"]);
}

#[test]
fn the_yaml_library_has_one_door() {
    let mut places = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if source.lines().any(|(_, line)| names(line, "serde_yaml")) {
            places.insert((source.krate().to_owned(), source.path.clone()));
        }
    }
    let crates: BTreeSet<&String> = places.iter().map(|(krate, _)| krate).collect();
    assert!(places.len() == crates.len(), "`serde_yaml` is named by several modules: {places:?}");
}

#[test]
fn each_crate_has_one_module_with_unsafe_code() {
    let mut places: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.path.ends_with("tidy.rs")) {
        let begins = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
        if source.lines().any(|(_, line)| begins.iter().any(|begin| line.contains(begin))) {
            places.entry(source.krate().to_owned()).or_default().insert(source.path.clone());
        }
    }
    let broken: Vec<String> = places
        .into_iter()
        .filter(|(_, paths)| paths.len() > 1 || paths.iter().any(|path| !path.ends_with("sys.rs")))
        .map(|(krate, paths)| format!("{krate}: {paths:?}"))
        .collect();
    assert_none("unsafe code belongs into a crate's one sys.rs", &broken);
}

#[test]
fn only_the_seccomp_tables_know_an_architecture() {
    let mut broken = Vec::new();
    for source in &sources() {
        if source.path.starts_with("runtime/src/seccomp") || source.path.ends_with("tidy.rs") {
            continue;
        }
        let found = source.lines().find(|(_, line)| line.contains("target_arch"));
        broken.extend(found.map(|(number, _)| format!("{}:{number}", source.path.display())));
    }
    assert_none("code depends on the processor", &broken);
}

#[test]
fn names_say_what_a_thing_is() {
    let mut broken = Vec::new();
    for source in &sources() {
        if source.path.ends_with("tidy.rs") {
            continue;
        }
        let file = source.path.display().to_string().to_lowercase();
        broken.extend(
            EMPTY_WORDS
                .iter()
                .filter(|word| names_part(&file, word))
                .map(|word| format!("{file}: {word}")),
        );
        for (number, line) in source.lines() {
            let Some(name) = declared(line) else { continue };
            let broken_word = EMPTY_WORDS.iter().find(|word| names_part(&snake(name), word));
            broken
                .extend(broken_word.map(|_| format!("{}:{number}: {name}", source.path.display())));
        }
    }
    assert_none("a name says nothing", &broken);
}

/// The name that a line declares.
fn declared(line: &str) -> Option<&str> {
    let mut words =
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
    let keyword = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static", "let"];
    words.find(|word| keyword.contains(word))?;
    words.find(|word| *word != "mut")
}

/// `SomeName` as `some_name`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn names_part(name: &str, word: &str) -> bool {
    let plural = format!("{word}s");
    name.split(|c: char| !c.is_alphanumeric()).any(|part| part == word || part == plural)
}

#[test]
fn dependencies_come_from_the_workspace_table() {
    let mut broken = Vec::new();
    for krate in IMPORTS.iter().map(|(name, _)| *name).chain(["tests"]) {
        let text = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']');
            } else if table.ends_with("dependencies")
                && !line.trim().is_empty()
                && !line.trim_start().starts_with('#')
                && !line.contains("workspace = true")
            {
                broken.push(format!("{krate}/Cargo.toml: {line}"));
            }
        }
    }
    assert_none("a version or path is named outside of the root Cargo.toml", &broken);
}

#[test]
fn the_top_of_the_project_is_settled() {
    let broken: Vec<String> = fs::read_dir(root())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !TOP.contains(&name.as_str()))
        .collect();
    assert_none("a folder does not belong at the top", &broken);
}
