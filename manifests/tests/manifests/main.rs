//! The example stacks are golden inputs: what each means, or what is said about it. `UPDATE_EXPECT=1` rewrites.
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![expect(clippy::needless_raw_string_hashes, reason = "as expect-test writes them")]

mod contents;
mod docker;
mod keys;
mod merge;
#[path = "../../fuzz/pieces.rs"]
mod pieces;
mod project;
mod random;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use swarm_manifests::{Environment, read, yaml};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn environment() -> Environment {
    let vars = [
        ("HOME", "/home/user"),
        ("LOG_LEVEL", "warn"),
        ("FROM_OUTSIDE", "given"),
        ("APP_TAG", "4.2"),
    ];
    let vars = vars.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Environment { vars: BTreeMap::from(vars), working_dir: folder(), ..Environment::default() }
}

/// What reading says, without the place where the tree is checked out.
fn transcript(files: &[&str]) -> String {
    transcript_in(files, &environment())
}

fn transcript_in(files: &[&str], environment: &Environment) -> String {
    let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    let text = match read(&files, environment) {
        Ok((stack, warnings)) => {
            let mut text = yaml::to_string(&stack.spec).unwrap();
            for warning in warnings {
                text.extend(["warning: ", &warning.to_string(), "\n"]);
            }
            text
        }
        Err(errors) => format!("error: {errors}\n"),
    };
    text.replace(folder().to_str().unwrap(), "/stacks")
}

fn files_in(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder().join(path)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "yml"))
        .map(|file| file.strip_prefix(folder()).unwrap().display().to_string())
        .collect();
    names.sort();
    names
}

fn golden(file: &str) -> PathBuf {
    let name = Path::new(file).strip_prefix("examples").unwrap().with_extension("txt");
    folder().join("tests/golden").join(name)
}

#[test]
fn good_examples_mean_this() {
    let files = files_in("examples");
    assert!(files.len() >= 3);
    for file in files {
        let text = transcript(&[&file]);
        assert!(!text.starts_with("error:"), "{text}");
        expect_file![golden(&file)].assert_eq(&text);
    }
}

#[test]
fn bad_examples_are_explained() {
    let files = files_in("examples/bad");
    assert!(files.len() >= 18);
    for file in files {
        let text = transcript(&[&file]);
        assert!(text.starts_with("error:"), "{file} is good?\n{text}");
        expect_file![golden(&file)].assert_eq(&text);
    }
}

#[test]
fn files_lie_on_top_of_each_other() {
    let text = transcript(&["examples/layers/base.yml", "examples/layers/production.yml"]);
    expect_file![folder().join("tests/golden/layers.txt")].assert_eq(&text);
}

#[test]
fn the_counter_is_read() {
    let text = transcript(&["counter/stack.yml"]);
    expect_file![folder().join("tests/golden/counter.txt")].assert_eq(&text);
}

#[test]
fn files_that_are_not_there() {
    let text = transcript(&["examples/none.yml", "examples"]);
    expect_test::expect![[r#"
        error: `examples/none.yml` does not exist

        hint: name the stack file with `-f FILE`

        error: `examples` is a folder

        hint: name the stack file in it
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_given_name_goes_first() {
    let file = [PathBuf::from("examples/words.yml")];
    let named = |name: &str| Environment { stack_name: Some(name.to_owned()), ..environment() };
    assert_eq!(read(&file, &named("other")).unwrap().0.spec.name, "other");
    assert!(read(&file, &named("Other")).is_err());
}
