//! Reads stack files (compose) into a [`Stack`]: a `StackSpec`, and the bytes of the secrets and configs that it names.
//!
//! The way of a file: YAML events with positions → tree → `${…}` replaced → files merged → typed decode. Every
//! problem of a file is found in one go and points at its place. Nothing here talks to a cluster.

mod decode;
mod image;
mod interpolate;
pub mod keys;
mod merge;
mod nearest;
mod parse;
mod problem;
mod report;
mod stack;
mod tree;
mod units;
mod value;
mod write;
pub mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use decode::is_stack_name;
pub use image::{ImageReference, InvalidImage};
pub use nearest::nearest;
pub use problem::{ManifestError, ManifestErrors, Warning};
pub use report::{KeyOutcome, KeyUse, Report};
pub use stack::{ContentSource, Stack};
pub use units::{parse_bytes, parse_duration};
pub use value::Value;
pub use write::{hash, resolved};

use problem::Problems;
use tree::Node;

/// Larger files are refused: a stack file is written by people.
const MAX_FILE_BYTES: usize = 1 << 20;

/// What the files are read in.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables for `${…}`, for environment keys without a value, and `HOME` for `~`.
    pub vars: BTreeMap<String, String>,
    /// Relative file names start here.
    pub working_dir: PathBuf,
    /// The stack's name, before what the files say.
    pub stack_name: Option<String>,
}

impl Environment {
    /// The process's own variables and working directory. Variables that are not UTF-8 are left out.
    pub fn of_process() -> std::io::Result<Self> {
        let vars = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { vars, working_dir: std::env::current_dir()?, stack_name: None })
    }
}

/// The content of one file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name in messages, as the user gave it.
    pub name: String,
    /// Its folder, to which paths in it are relative.
    pub folder: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Reads one stack from files, later ones on top of earlier ones.
pub fn read(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<(Stack, Vec<Warning>), ManifestErrors> {
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match open(file, environment) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        read_sources(&sources, environment)
    } else {
        Err(ManifestErrors(errors))
    }
}

/// Reads one stack from contents at hand, later ones on top of earlier ones.
pub fn read_sources(
    sources: &[Source],
    environment: &Environment,
) -> Result<(Stack, Vec<Warning>), ManifestErrors> {
    let mut problems = Problems::new(sources);
    let tree = tree(sources, Some(environment), &problems);
    let stack = tree.and_then(|tree| decode::stack(&tree, environment, folder(sources), &problems));
    let warnings = problems.take_warnings();
    match stack {
        Some(stack) if problems.is_empty() => Ok((stack, warnings)),
        _ => Err(problems.into_errors()),
    }
}

/// The files on top of each other as one tree, with their `${…}` as they are.
pub fn merged(sources: &[Source]) -> Result<Value, ManifestErrors> {
    let problems = Problems::new(sources);
    match tree(sources, None, &problems) {
        Some(tree) => Ok(write::tree(&tree)),
        None => Err(problems.into_errors()),
    }
}

/// What becomes of each key that the files use. An error of syntax leaves nothing to report of.
pub fn report(
    sources: &[Source],
    environment: &Environment,
) -> Result<(Report, Vec<Warning>), ManifestErrors> {
    let mut problems = Problems::new(sources);
    let Some(tree) = tree(sources, Some(environment), &problems) else {
        return Err(problems.into_errors());
    };
    decode::stack(&tree, environment, folder(sources), &problems);
    let warnings = problems.take_warnings();
    Ok((report::report(&tree, problems), warnings))
}

/// The files on top of each other, their variables replaced in an environment; `None` when something is wrong.
fn tree(
    sources: &[Source],
    environment: Option<&Environment>,
    problems: &Problems<'_>,
) -> Option<Node> {
    let mut trees = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        if let Some(mut tree) = parse::parse(index, &source.content, problems) {
            if let Some(environment) = environment {
                interpolate::replace(&mut tree, &environment.vars, problems);
            }
            trees.push(tree);
        }
    }
    if problems.is_empty() { merge::merge(trees) } else { None }
}

/// Relative paths start at the first file's folder.
fn folder(sources: &[Source]) -> &Path {
    sources.first().map_or(Path::new("/"), |source| source.folder.as_path())
}

/// Reads a file's bytes.
pub fn open(file: &Path, environment: &Environment) -> Result<Source, ManifestError> {
    let name = file.display().to_string();
    let path = environment.working_dir.join(file);
    let refused = |what: String, hint: Option<&str>| ManifestError::of_file(&name, &what, hint);
    let metadata = std::fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refused("does not exist".to_owned(), Some("name the stack file with `-f FILE`"))
        }
        _ => refused(format!("cannot be read: {error}"), None),
    })?;
    if metadata.is_dir() {
        return Err(refused("is a folder".to_owned(), Some("name the stack file in it")));
    }
    if metadata.len() > MAX_FILE_BYTES as u64 {
        return Err(refused("is larger than 1 MiB".to_owned(), None));
    }
    let content =
        std::fs::read(&path).map_err(|error| refused(format!("cannot be read: {error}"), None))?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(Source { name, folder, content })
}
