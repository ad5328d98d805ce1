//! Reads stack files (compose) into a [`Stack`]: a `StackSpec`, and the bytes of the secrets and configs that it names.
//!
//! The way of a file: YAML events with positions → tree → `${…}` replaced → `include` and `extends` → files merged →
//! `profiles` → typed decode. Every problem of a file is found in one go and points at its place. Nothing here talks to
//! a cluster.
//!
//! Variables of compose itself count where no option is given: `COMPOSE_FILE` with `COMPOSE_PATH_SEPARATOR` for the
//! files, `COMPOSE_PROFILES`, `COMPOSE_PROJECT_NAME` for the name (before what the file says), `COMPOSE_ENV_FILES` and
//! `COMPOSE_DISABLE_ENV_FILE`. All but the last two may also stand in `.env`. The stack's name is in turn the variable
//! `COMPOSE_PROJECT_NAME`.

mod build;
mod decode;
mod dotenv;
mod extends;
mod find;
mod image;
mod include;
mod interpolate;
pub mod keys;
mod load;
mod merge;
mod nearest;
mod parse;
mod paths;
mod problem;
mod profiles;
mod report;
mod stack;
mod tree;
mod units;
mod value;
mod write;
pub mod yaml;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use build::{Build, BuildSecret, BuildSteps, Recipe};
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
    /// The profiles that are on, `*` for all; where there is none, those of `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Files of variables below the given ones, in place of `.env`; a later one goes before an earlier one.
    pub env_files: Vec<PathBuf>,
    /// The folder to which paths in the files are relative, in place of the first file's.
    pub project_directory: Option<PathBuf>,
}

impl Environment {
    /// The process's own variables and working directory. Variables that are not UTF-8 are left out.
    pub fn of_process() -> std::io::Result<Self> {
        let vars = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { vars, working_dir: std::env::current_dir()?, ..Self::default() })
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

/// Reads one stack from files, later ones on top of earlier ones; see [`open`] for which.
pub fn read(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<(Stack, Vec<Warning>), ManifestErrors> {
    let (sources, mut warnings) = open(files, environment)?;
    let (stack, more) = read_sources(&sources, environment)?;
    warnings.extend(more);
    Ok((stack, warnings))
}

/// Reads one stack from contents at hand, later ones on top of earlier ones.
pub fn read_sources(
    sources: &[Source],
    environment: &Environment,
) -> Result<(Stack, Vec<Warning>), ManifestErrors> {
    let mut problems = Problems::new(sources);
    let loaded = load::load(sources, environment, true, &problems);
    let stack = loaded.and_then(|loaded| loaded.decode(&problems));
    let warnings = problems.take_warnings();
    match stack {
        Some(stack) if problems.is_empty() => Ok((stack, warnings)),
        _ => Err(problems.into_errors()),
    }
}

/// The files on top of each other as one tree, with their `${…}` as they are.
pub fn merged(sources: &[Source], environment: &Environment) -> Result<Value, ManifestErrors> {
    let problems = Problems::new(sources);
    match load::load(sources, environment, false, &problems) {
        Some(loaded) if problems.is_empty() => Ok(write::tree(&loaded.tree)),
        _ => Err(problems.into_errors()),
    }
}

/// What becomes of each key that the files use. An error of syntax leaves nothing to report of.
pub fn report(
    sources: &[Source],
    environment: &Environment,
) -> Result<(Report, Vec<Warning>), ManifestErrors> {
    let mut problems = Problems::new(sources);
    let Some(loaded) = load::load(sources, environment, true, &problems) else {
        return Err(problems.into_errors());
    };
    loaded.decode(&problems);
    let warnings = problems.take_warnings();
    Ok((report::report(&loaded.tree, loaded.taken, problems), warnings))
}

/// Opens the files of a stack; `-` is standard input. Without files they are those of `COMPOSE_FILE`, else those with
/// the default names, in the working directory or the nearest one above it. Also what is worth a word about the choice.
pub fn open(
    files: &[PathBuf],
    environment: &Environment,
) -> Result<(Vec<Source>, Vec<Warning>), ManifestErrors> {
    let (files, words) =
        find::files(files, environment).map_err(|error| ManifestErrors(vec![error]))?;
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    for file in &files {
        match open_file(file, environment) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok((sources, words.into_iter().map(Warning::of_files).collect()))
    } else {
        Err(ManifestErrors(errors))
    }
}

fn open_file(file: &Path, environment: &Environment) -> Result<Source, ManifestError> {
    let name = file.display().to_string();
    if name == "-" {
        let mut content = Vec::new();
        // One byte more than is accepted, so that the reader sees that it is too much.
        let input = std::io::stdin().lock().take(MAX_FILE_BYTES as u64 + 1);
        return match { input }.read_to_end(&mut content) {
            Ok(_) => Ok(Source { name, folder: environment.working_dir.clone(), content }),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                Err(ManifestError::of_file("standard input", &message, None))
            }
        };
    }
    let path = environment.working_dir.join(file);
    let content = read_file(&path).map_err(|why| {
        let hint = match why.as_str() {
            "does not exist" => Some("name the stack file with `-f FILE`"),
            "is a folder" => Some("name the stack file in it"),
            _ => None,
        };
        ManifestError::of_file(&name, &why, hint)
    })?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(Source { name, folder, content })
}

/// The bytes of a file that another one names, or why there are none. What has no end, or waits for a writer, is refused.
pub(crate) fn read_named_file(path: &Path) -> Result<Vec<u8>, String> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() && !metadata.is_file() => {
            Err("is a device or pipe, not a file".to_owned())
        }
        _ => read_file(path),
    }
}

/// The bytes of a file, or why there are none.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if metadata.is_dir() {
        return Err("is a folder".to_owned());
    }
    // A device or pipe has no end that could be seen before.
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() > MAX_FILE_BYTES {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(content)
}
