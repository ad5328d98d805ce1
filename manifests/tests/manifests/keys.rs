//! Every key of the table, in a file of its own: what it means, or the answer that the table has.

use std::fmt::Write as _;
use std::path::PathBuf;

use expect_test::expect_file;
use swarm_manifests::keys::{self, Answer, Entry, Level, Shape};
use swarm_manifests::{
    Environment, KeyOutcome, ManifestErrors, Source, Warning, read_sources, report, resolved, yaml,
};

use crate::folder;

fn source(text: &str) -> Source {
    let folder = folder().join("examples/layers");
    Source { name: "x.yml".to_owned(), folder, content: text.as_bytes().to_vec() }
}

fn environment() -> Environment {
    let vars = [("TOKEN".to_owned(), "hidden".to_owned())].into();
    Environment { vars, ..Environment::default() }
}

fn read(text: &str) -> Result<(String, Vec<Warning>), ManifestErrors> {
    let (stack, warnings) = read_sources(&[source(text)], &environment())?;
    Ok((yaml::to_string(&resolved(&stack)).unwrap(), warnings))
}

/// What must stand beside a key for the file to be whole.
fn beside(above: &str, path: &str) -> Vec<(&'static str, &'static str)> {
    match above {
        "" => beside_all(path),
        "secrets.*" | "configs.*" if path.ends_with(".content") => Vec::new(),
        "secrets.*" | "configs.*" if path.contains(".external") => Vec::new(),
        "secrets.*" | "configs.*" if path.ends_with(".environment") => Vec::new(),
        "secrets.*" | "configs.*" => vec![("file", "base.yml")],
        "services.*.secrets[]" | "services.*.configs[]" | "services.*.build.secrets[]" => {
            vec![("source", "key")]
        }
        "services" if path.contains("depends_on") => vec![("db", "{image: db}")],
        // What extends another one, or is off, needs another one.
        "services" if path.contains(".extends") || path.ends_with(".profiles") => {
            vec![("base", "{image: base}")]
        }
        "services.*.x-swarm.placement.near[]" | "services.*.x-swarm.placement.apart[]" => {
            vec![("service", "web")]
        }
        "services.*" if path.contains("memswap_limit") => {
            vec![("image", "web"), ("mem_limit", "64m")]
        }
        "services.*" if path.contains(".x-swarm.job.") => {
            vec![("image", "web"), ("deploy", "{mode: replicated-job}")]
        }
        "services.*.x-swarm.job"
            if ["time_zone", "missed", "concurrency"].iter().any(|key| path.ends_with(key)) =>
        {
            vec![("schedule", "\"@daily\"")]
        }
        "services.*.x-swarm.update" if path.ends_with("hold") => vec![("order", "blue-green")],
        "services.*" if path.contains(".autoscale") => {
            vec![("image", "web"), ("deploy", "{resources: {limits: {cpus: 1, memory: 64m}}}")]
        }
        "services.*.x-swarm.autoscale" => vec![("max", "10"), ("cpu", "50%")],
        "services.*.x-swarm.autoscale.scrape" => {
            vec![("port", "80"), ("metric", "up"), ("target", "1")]
        }
        "services.*" => vec![("image", "web")],
        "services.*.x-swarm.health.http" => vec![("port", "80")],
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec" => {
            vec![("kind", "gpu"), ("value", "1")]
        }
        "services.*.deploy.resources.reservations.devices[]" => vec![("capabilities", "[gpu]")],
        "services.*.pre_stop[]" => vec![("command", "drain")],
        "services.*.devices[]" => vec![("source", "/dev/null")],
        "include[]" => vec![("path", "included.yml")],
        "services.*.extends" => vec![("service", "base")],
        "services.*.env_file[]" => vec![("path", "web.env")],
        "services.*.ports[]" => vec![("target", "80")],
        "services.*.volumes[]" if path.contains(".bind") => {
            vec![("type", "bind"), ("source", "/a"), ("target", "/b")]
        }
        "services.*.volumes[]" if path.contains(".tmpfs") => {
            vec![("type", "tmpfs"), ("target", "/t")]
        }
        "services.*.volumes[]" => vec![("type", "volume"), ("source", "data"), ("target", "/data")],
        "services.*.ulimits.*" | "services.*.build.ulimits.*" => {
            vec![("soft", "1"), ("hard", "50000")]
        }
        _ => Vec::new(),
    }
}

/// The same at the top of a file.
fn beside_all(path: &str) -> Vec<(&'static str, &'static str)> {
    match path {
        _ if path.starts_with("networks") => {
            vec![("services", "{web: {image: web, networks: [front]}}")]
        }
        _ if path.starts_with("volumes") => {
            vec![("services", "{web: {image: web, volumes: [\"data:/data\"]}}")]
        }
        _ if path.starts_with("secrets") => {
            vec![("services", "{web: {image: web, secrets: [key]}}")]
        }
        _ if path.starts_with("configs") => {
            vec![("services", "{web: {image: web, configs: [key]}}")]
        }
        _ if path.contains(".secrets") => vec![("secrets", "{key: {file: base.yml}}")],
        _ if path.contains(".configs") => {
            vec![("configs", "{key: {file: base.yml}, page: {content: hello}}")]
        }
        _ => vec![
            ("name", "keys"),
            ("services", "{web: {image: web}}"),
            ("networks", "{front: }"),
            ("volumes", "{data: }"),
        ],
    }
}

/// A name for `*`.
fn named(above: &str) -> &'static str {
    match above {
        "networks" | "services.*.networks" => "front",
        "volumes" => "data",
        "secrets" | "configs" => "key",
        "services.*.ulimits" | "services.*.build.ulimits" => "nofile",
        "services.*.depends_on" => "db",
        _ => "web",
    }
}

/// A file in which only one key is of interest.
fn file(path: &str, value: &str) -> String {
    let mut value = value.to_owned();
    let mut rest = path;
    loop {
        let (above, name) = rest.rsplit_once('.').unwrap_or(("", rest));
        let lists = name.matches("[]").count();
        let (name, is_listed) = (name.trim_end_matches("[]"), lists > 0);
        if is_listed {
            value = format!("[{value}]");
        }
        let name = if name == "*" { named(above) } else { name };
        let mut pairs = format!("{name}: {value}");
        for (other, text) in beside(above, path).iter().filter(|(other, _)| *other != name) {
            write!(pairs, ", {other}: {text}").unwrap();
        }
        value = format!("{{{pairs}}}");
        if above.is_empty() {
            return value;
        }
        rest = above;
    }
}

/// A value for a key that shares the answer of the one above.
fn sample(shape: Shape) -> String {
    match shape {
        Shape::Text | Shape::Any => "a".to_owned(),
        Shape::Flag => "true".to_owned(),
        Shape::Integer | Shape::Number => "1".to_owned(),
        Shape::Duration => "1s".to_owned(),
        Shape::Bytes => "1m".to_owned(),
        Shape::Words(words) => words[0].to_owned(),
        Shape::Pairs => "{a: b}".to_owned(),
        Shape::Mapping(Level { keys }) => {
            format!("{{{}: {}}}", keys[0].name, sample(keys[0].shape))
        }
        Shape::Named(inner) => format!("{{a: {}}}", sample(*inner)),
        Shape::List(inner) => format!("[{}]", sample(*inner)),
        Shape::Either(forms) => sample(forms[0]),
    }
}

fn values(entry: &Entry) -> Vec<String> {
    match (entry.key.examples, entry.key.answer) {
        ([], Answer::Inner) => vec![sample(entry.key.shape)],
        (examples, _) => examples.iter().map(|example| (*example).to_owned()).collect(),
    }
}

/// The nearest key above (or this one) that has an answer of its own.
fn owner<'e>(entries: &'e [Entry], entry: &'e Entry) -> &'e Entry {
    let mut path = entry.path.as_str();
    loop {
        let plain = path.trim_end_matches("[]").trim_end_matches(".*");
        let found = entries.iter().find(|entry| entry.path == plain);
        if let Some(found) = found.filter(|entry| entry.key.answer != Answer::Inner) {
            return found;
        }
        path = path.rsplit_once('.').unwrap().0;
    }
}

/// The lines that a key adds.
fn added(text: &str, base: &str) -> String {
    let mut rest: Vec<&str> = base.lines().collect();
    let is_new = |line: &&str| match rest.iter().position(|known| known == line) {
        Some(place) => {
            rest.remove(place);
            false
        }
        None => true,
    };
    text.lines().filter(is_new).fold(String::new(), |text, line| text + "    " + line + "\n")
}

#[test]
fn each_key_is_honoured_or_answered_as_the_table_says() {
    let entries = keys::entries();
    let mut transcript = String::new();
    for entry in &entries {
        for value in values(entry) {
            let text = file(&entry.path, &value);
            let name = owner(&entries, entry).key.name;
            writeln!(transcript, "{}: {value}", entry.path).unwrap();
            match (entry.answer, read(&text)) {
                (Answer::Honoured | Answer::Adapted(_), Ok((resolved, _))) => {
                    let base = file(&entry.path, "null");
                    let base = read(&base).map(|(base, _)| base).unwrap_or_default();
                    transcript += &added(&resolved, &base);
                }
                (Answer::Hint(why), Ok((_, warnings))) => {
                    let expected = format!("`{name}` has no effect: {why}");
                    let found = warnings.iter().any(|warning| warning.message == expected);
                    assert!(found, "{text}: {warnings:?}");
                    writeln!(transcript, "    warning: {expected}").unwrap();
                }
                (Answer::Later(hint), Err(errors)) => {
                    let hint = if hint.is_empty() { "remove it for now" } else { hint };
                    let message = format!("`{name}` is not supported yet");
                    assert_refused(&text, &errors, &message, hint);
                    writeln!(transcript, "    error: {message}; {hint}").unwrap();
                }
                (Answer::Never { why, instead }, Err(errors)) => {
                    let instead = if instead.is_empty() { "remove it" } else { instead };
                    let message = format!("`{name}` cannot be honoured: {why}");
                    assert_refused(&text, &errors, &message, instead);
                    writeln!(transcript, "    error: {message}; {instead}").unwrap();
                }
                (answer, Ok((resolved, _))) => {
                    panic!("{text} is {answer:?}, but read:\n{resolved}")
                }
                (answer, Err(errors)) => panic!("{text} is {answer:?}, but: {errors}"),
            }
        }
    }
    let transcript = transcript.replace(folder().to_str().unwrap(), "/stacks");
    expect_file![folder().join("tests/golden/keys.txt")].assert_eq(&transcript);
}

fn assert_refused(text: &str, errors: &ManifestErrors, message: &str, hint: &str) {
    let [error] = errors.0.as_slice() else { panic!("{text}: {errors}") };
    assert_eq!((error.message.as_str(), error.hint.as_deref()), (message, Some(hint)), "{text}");
}

#[test]
fn the_report_says_the_same_of_each_key() {
    for entry in keys::entries().iter().filter(|entry| entry.key.answer != Answer::Inner) {
        for value in values(entry) {
            let text = file(&entry.path, &value);
            let (report, _) = report(&[source(&text)], &environment()).unwrap();
            assert!(report.errors.is_empty(), "{text}: {:?}", report.errors);
            let refused = matches!(entry.answer, Answer::Later(_) | Answer::Never { .. });
            assert_eq!(report.is_refused(), refused, "{text}");
            let matches = |key: &&swarm_manifests::KeyUse| {
                let last = key.path.rsplit('.').next().unwrap();
                last == entry.key.name && matches_answer(&key.outcome, entry.answer)
            };
            assert!(report.keys.iter().any(|key| matches(&key)), "{text}: {report:#?}");
        }
    }
}

fn matches_answer(outcome: &KeyOutcome, answer: Answer) -> bool {
    match answer {
        Answer::Honoured | Answer::Inner => *outcome == KeyOutcome::Honoured,
        Answer::Adapted(how) => *outcome == KeyOutcome::Adapted(how.to_owned()),
        Answer::Hint(why) => *outcome == KeyOutcome::NoEffect(why.to_owned()),
        Answer::Later(_) | Answer::Never { .. } => matches!(outcome, KeyOutcome::Refused(_)),
    }
}

#[test]
fn the_table_has_every_key_of_the_schemas() {
    let text = std::fs::read_to_string(folder().join("tests/manifests/schema_keys.txt")).unwrap();
    let entries = keys::entries();
    let mut missing = Vec::new();
    let mut count = 0;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (above, names) = line.split_once(": ").unwrap();
        for name in names.split(' ') {
            let path = if above == "." { name.to_owned() } else { format!("{above}.{name}") };
            count += 1;
            if !entries.iter().any(|entry| entry.path == path) {
                missing.push(path);
            }
        }
    }
    assert!(count > 290, "{count} keys");
    assert!(missing.is_empty(), "the table has no {missing:#?}");
}

#[test]
fn the_documentation_is_made_of_the_table() {
    let page: PathBuf = folder().parent().unwrap().join("docs/stack-files.md");
    expect_file![page].assert_eq(&keys::page());
}
