//! What `docker stack config`, whose client needs no engine, makes of the example stacks. What it prints is read as a
//! file, so that both sides are in one form. `golden/docker.txt` lists each difference with its reason; one that has
//! none, is new or is gone fails.
#![expect(clippy::print_stderr, reason = "says that nothing was compared")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use expect_test::expect_file;
use swarm_manifests::{Environment, Source, Stack, Value, read, read_sources, resolved, yaml};

use crate::{environment, files_in, folder};

/// The first one whose words are in a difference is its reason.
const REASONS: [(&str, &str); 14] = [
    ("Additional property name", "a stack may name itself, as the specification has it"),
    ("Additional property scale", "`scale` is a key of the specification"),
    ("Additional property pull_policy", "`pull_policy` is a key of the specification"),
    ("depends_on must be a list", "the long form says more, as the specification has it"),
    ("tmpfs.size must be a integer", "a size may have a unit, as the specification has it"),
    ("read_only must be a boolean", "`yes` is a truth value also where no variable stands for it"),
    ("VERBOSE must be a string", "a truth value is the text that was written"),
    ("Compose file version: <nil>", "a null is a key that is left out"),
    ("limit `core` needs", "docker leaves zeros out of what it prints"),
    ("].host_ip", "Swarm publishes on all addresses; here on the one that is given"),
    (
        "services.nothing.",
        "an empty list is empty, as the specification has it; Swarm runs the image's own",
    ),
    (
        "services.escapes.command",
        "words are split as a shell does; Swarm drops every backslash in double quotes",
    ),
    (
        "environment.QUOTED",
        "quotes are not part of a value, as the specification has it; Swarm keeps them",
    ),
    (
        "ports[9090/90/tcp]",
        "ports differ by their targets, too, as the specification has it; Swarm keeps the last",
    ),
];

/// Runs it in the folder and with the variables that our own reading has.
fn docker(files: &[&str]) -> Output {
    let mut command = Command::new("docker");
    command.args(["stack", "config"]).current_dir(folder());
    for file in files {
        command.args(["-c", file]);
    }
    command.env_clear().envs(environment().vars);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DOCKER_CONFIG", "/nonexistent").output().unwrap()
}

/// Whether a client is installed that knows the command; that of Debian 12 (20.10) does not.
fn is_installed() -> bool {
    let output = Command::new("docker").args(["stack", "config", "--help"]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--skip-interp"))
}

fn cases() -> Vec<Vec<String>> {
    let mut cases: Vec<Vec<String>> = Vec::new();
    for path in ["examples", "examples/stacks"] {
        cases.extend(files_in(path).into_iter().map(|file| vec![file]));
    }
    // Docker knows neither `content` nor `environment` there, and tells of either by chance.
    cases.retain(|case| case != &["examples/contents.yml"]);
    cases.push(vec!["counter/stack.yml".to_owned()]);
    for [below, above] in [["base", "production"], ["swarm", "swarm-production"]] {
        cases.push([below, above].map(|name| format!("examples/layers/{name}.yml")).to_vec());
    }
    cases
}

/// Each thing that differs, in one line.
fn differences(files: &[&str]) -> Vec<String> {
    let environment = Environment { stack_name: Some("x".to_owned()), ..environment() };
    let paths: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let (ours, _) = read(&paths, &environment).unwrap();
    let output = docker(files);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Of several services with the long form it names any.
        let said = match said.trim() {
            said if said.ends_with(".depends_on must be a list") => "depends_on must be a list",
            said => said,
        };
        return vec![format!("docker refuses it: {said}")];
    }
    // What it prints has its variables replaced already, but a lone dollar sign is not doubled.
    let printed = String::from_utf8(output.stdout).unwrap().replace('$', "$$");
    let source = Source {
        name: "docker".to_owned(),
        folder: folder().join(paths[0].parent().unwrap()),
        content: printed.into_bytes(),
    };
    match read_sources(&[source], &environment) {
        Ok((theirs, _)) => between(&leaves(&ours), &leaves(&theirs)),
        Err(errors) => vec![format!("what docker prints is refused: {}", errors.0[0].message)],
    }
}

/// Each value by its path.
fn leaves(stack: &Stack) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    add(&mut found, String::new(), &resolved(stack));
    found
}

fn add(found: &mut BTreeMap<String, String>, path: String, value: &Value) {
    match value {
        Value::Map(pairs) => {
            for (key, value) in pairs {
                let dot = if path.is_empty() { "" } else { "." };
                add(found, format!("{path}{dot}{key}"), value);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                let label = label(value).unwrap_or_else(|| index.to_string());
                add(found, format!("{path}[{label}]"), value);
            }
        }
        value => {
            found.insert(path, yaml::to_string(value).unwrap().trim_end().to_owned());
        }
    }
}

/// What tells ports and mounts apart: their order means nothing.
fn label(item: &Value) -> Option<String> {
    let Value::Map(pairs) = item else { return None };
    let words = ["published", "target", "protocol"].into_iter().filter_map(|key| {
        match pairs.iter().find(|(known, _)| known == key)? {
            (_, Value::Text(text)) => Some(text.clone()),
            (_, Value::Integer(number)) => Some(number.to_string()),
            _ => None,
        }
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join("/"))
}

fn between(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Vec<String> {
    let mut paths: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    let said = |side: &BTreeMap<String, String>, path: &String| {
        side.get(path).cloned().unwrap_or_else(|| "nothing".to_owned())
    };
    paths
        .into_iter()
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path}: here {}, docker {}", said(ours, path), said(theirs, path)))
        .collect()
}

#[test]
fn docker_makes_the_same_of_the_examples() {
    if !is_installed() {
        eprintln!("skipped: no `docker` client with `stack config` is installed, nothing compared");
        return;
    }
    let cases = cases();
    let mut table = format!("{} stacks compared with `docker stack config`\n", cases.len());
    let mut unexplained = Vec::new();
    for files in &cases {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let differences = differences(&files);
        if !differences.is_empty() {
            table.extend(["\n", &files.join(" + "), "\n"]);
        }
        for difference in differences {
            let reason = REASONS.iter().find(|(words, _)| difference.contains(words));
            match reason {
                Some((_, reason)) => table.extend(["  ", &difference, "\n    ", reason, "\n"]),
                None => unexplained.push(format!("{}: {difference}", files.join(" + "))),
            }
        }
    }
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
    expect_file![folder().join("tests/golden/docker.txt")].assert_eq(&table);
}
