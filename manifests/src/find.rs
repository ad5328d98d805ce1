//! Which files a stack is read from when the user names none, and which files of variables go with them.

use std::path::{Path, PathBuf};

use crate::interpolate::{Budget, Scope};
use crate::load::Variables;
use crate::problem::{ManifestError, Problems};
use crate::tree::At;
use crate::{Environment, dotenv, open_file};

/// Names of the file, the preferred first.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Names of the file that lies on it.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The files of a stack: those given, else those of `COMPOSE_FILE`, else the first folder's upwards that has one of the
/// default names, with what lies on it. Also what is worth a word about the choice.
pub(crate) fn files(
    given: &[PathBuf],
    environment: &Environment,
) -> Result<(Vec<PathBuf>, Vec<String>), ManifestError> {
    if !given.is_empty() {
        return Ok((given.to_vec(), Vec::new()));
    }
    let folder = environment.project_directory.as_deref().unwrap_or(Path::new(""));
    let folder = environment.working_dir.join(folder);
    // What is wrong with a file of variables is said when it is read for good.
    let vars = variables(&folder, environment, &Problems::new(&[]));
    let vars = vars.as_ref().unwrap_or(&environment.vars);
    if let Some(list) = vars.get("COMPOSE_FILE").filter(|list| !list.is_empty()) {
        let separator = vars.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
        let separator = if separator.is_empty() { ":" } else { separator };
        return Ok((list.split(separator).map(PathBuf::from).collect(), Vec::new()));
    }
    for folder in environment.working_dir.ancestors() {
        let mut words = Vec::new();
        let Some(file) = choose(folder, &NAMES, &mut words) else { continue };
        let files = [Some(file), choose(folder, &OVERRIDES, &mut words)];
        let relative = |file: PathBuf| {
            file.strip_prefix(&environment.working_dir).map(Path::to_owned).unwrap_or(file)
        };
        return Ok((files.into_iter().flatten().map(relative).collect(), words));
    }
    let message = format!("has no {}, nor has a folder above it", NAMES.join(", "));
    let folder = environment.working_dir.display().to_string();
    Err(ManifestError::of_file(&folder, &message, Some("name the stack file with `-f FILE`")))
}

fn choose(folder: &Path, names: &[&str], words: &mut Vec<String>) -> Option<PathBuf> {
    let found: Vec<&&str> = names.iter().filter(|name| folder.join(name).is_file()).collect();
    let first = *found.first()?;
    if found.len() > 1 {
        words.push(format!("`{first}` is read, the other stack files beside it are not"));
    }
    Some(folder.join(first))
}

/// The variables of the process, with those of files below them: of the files given, else those of `COMPOSE_ENV_FILES`,
/// else `.env` in the stack's folder, unless `COMPOSE_DISABLE_ENV_FILE` is true. A later file goes before an earlier one.
/// Nothing when one of them is wrong.
pub(crate) fn variables(
    folder: &Path,
    environment: &Environment,
    problems: &Problems,
) -> Option<Variables> {
    let (mut below, budget) = (Variables::new(), Budget::default());
    let errors = problems.count();
    for file in env_files(folder, environment) {
        let opened = open_file(&file, environment).map_err(|error| problems.of_no_place(error));
        let Ok(source) = opened else { continue };
        let Some(source) = problems.add_source(source) else {
            problems.error(At::default(), "the files of variables are too many or too large");
            break;
        };
        let outer = Scope::of_two(&environment.vars, &below);
        let found = dotenv::read(source, dotenv::Form::Compose, outer, &budget, problems);
        below.extend(found.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    below.extend(environment.vars.iter().map(|(key, value)| (key.clone(), value.clone())));
    (problems.count() == errors).then_some(below)
}

fn env_files(folder: &Path, environment: &Environment) -> Vec<PathBuf> {
    let mut files = environment.env_files.clone();
    if files.is_empty() {
        let list = environment.vars.get("COMPOSE_ENV_FILES").map_or("", String::as_str);
        files = list.split(',').filter(|file| !file.is_empty()).map(PathBuf::from).collect();
    }
    let is_off = environment.vars.get("COMPOSE_DISABLE_ENV_FILE");
    let is_off = is_off.is_some_and(|word| ["1", "true"].contains(&word.to_lowercase().as_str()));
    if files.is_empty() && !is_off {
        let file = folder.join(".env");
        if file.is_file() {
            files.push(file.strip_prefix(&environment.working_dir).unwrap_or(&file).to_owned());
        }
    }
    files
}
