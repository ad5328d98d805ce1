//! Stack files from the command line to sources.

use std::io::Read;
use std::path::PathBuf;

use swarm_manifests::{Environment, ManifestError, ManifestErrors, Source, Stack, Warning};

use crate::failure::Failure;
use crate::output;

/// Stack files that were opened, and what they are read in.
pub(crate) struct Files {
    pub(crate) sources: Vec<Source>,
    pub(crate) environment: Environment,
}

impl Files {
    /// Opens the files; `-` is standard input. The name goes before what they say.
    pub(crate) fn open(files: &[PathBuf], name: Option<&str>) -> Result<Self, Failure> {
        if let Some(name) = name
            && !swarm_manifests::is_stack_name(name)
        {
            return Err(Failure::usage(format!("`{name}` cannot be a stack's name")).hint(
                "use lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit",
            ));
        }
        let mut environment = Environment::of_process()
            .map_err(|error| Failure::refused(format!("the working directory is gone: {error}")))?;
        environment.stack_name = name.map(str::to_owned);
        let mut sources = Vec::new();
        let mut errors: Vec<ManifestError> = Vec::new();
        for file in files {
            if file.as_os_str() == "-" {
                sources.push(standard_input(&environment)?);
                continue;
            }
            match swarm_manifests::open(file, &environment) {
                Ok(source) => sources.push(source),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(Self { sources, environment })
        } else {
            Err(refused(&ManifestErrors(errors)))
        }
    }

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
pub(crate) fn warn(warnings: &[Warning]) {
    for warning in warnings {
        output::warn(&warning.to_string());
    }
}

fn standard_input(environment: &Environment) -> Result<Source, Failure> {
    // One byte more than is accepted, so that the reader sees that it is too much.
    const MOST: u64 = (1 << 20) + 1;
    let mut content = Vec::new();
    std::io::stdin()
        .lock()
        .take(MOST)
        .read_to_end(&mut content)
        .map_err(|error| Failure::refused(format!("cannot read standard input: {error}")))?;
    Ok(Source { name: "-".to_owned(), folder: environment.working_dir.clone(), content })
}
