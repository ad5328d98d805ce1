//! Stack files from the command line to sources.

use std::path::PathBuf;

use swarm_manifests::{Environment, ManifestErrors, Source, Stack, Warning};

use crate::failure::Failure;
use crate::output;

/// Which files a stack is read from, and what they are read in.
#[derive(Debug, clap::Args)]
pub(crate) struct StackFiles {
    /// A stack file, `-` for standard input; later files lie on top of earlier ones. By default `compose.yaml`,
    /// `compose.yml`, `docker-compose.yml` or `docker-compose.yaml` and its `override`, here or in a folder above
    #[arg(short, long, short_alias = 'c', alias = "compose-file", value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// A file of variables, below those of the environment and in place of `.env`; a later one goes before an earlier one
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A profile to enable, `*` for all
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// The folder that paths in the files start at, and that `.env` is in; by default the first file's
    #[arg(long, value_name = "FOLDER")]
    project_directory: Option<PathBuf>,
}

/// Stack files that were opened, and what they are read in.
pub(crate) struct Files {
    pub(crate) sources: Vec<Source>,
    pub(crate) environment: Environment,
}

impl StackFiles {
    /// Opens the files. The name goes before what they say.
    pub(crate) fn open(&self, name: Option<&str>) -> Result<Files, Failure> {
        if let Some(name) = name
            && !swarm_manifests::is_stack_name(name)
        {
            return Err(Failure::usage(format!("`{name}` cannot be a stack's name")).hint(
                "use lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit",
            ));
        }
        let process = Environment::of_process()
            .map_err(|error| Failure::refused(format!("the working directory is gone: {error}")))?;
        let environment = Environment {
            stack_name: name.map(str::to_owned),
            profiles: self.profile.clone(),
            env_files: self.env_file.clone(),
            project_directory: self.project_directory.clone(),
            ..process
        };
        let opened = swarm_manifests::open(&self.file, &environment);
        let (sources, warnings) = opened.map_err(|errors| refused(&errors))?;
        warn(&warnings);
        Ok(Files { sources, environment })
    }
}

impl Files {
    /// Reads the stack; says what is worth a word.
    pub(crate) fn read(&self) -> Result<Stack, Failure> {
        let read = swarm_manifests::read_sources(&self.sources, &self.environment);
        let (stack, warnings) = read.map_err(|errors| refused(&errors))?;
        warn(&warnings);
        Ok(stack)
    }
}

/// That files are refused.
pub(crate) fn refused(errors: &ManifestErrors) -> Failure {
    Failure::refused(errors.to_string())
}

/// Says what works but is worth a word.
fn warn(warnings: &[Warning]) {
    for warning in warnings {
        output::warn(&warning.to_string());
    }
}
