//! `context`: named clusters.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use swarm_proto::id::Timestamp;

use crate::context::{Context, Contexts};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, View};

/// What to do with contexts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ContextCommand {
    /// Lists contexts
    Ls,
    /// Makes a context the current one
    Use {
        /// The context
        name: String,
    },
    /// Adds or replaces a context; `--identity` is kept with it
    Set {
        /// The context
        name: String,
        /// Controllers: `unix:///PATH` or `ADDRESS[:PORT]`
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// Forgets contexts
    Rm {
        /// The contexts
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// A context, as `context ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ContextView {
    name: String,
    current: bool,
    hosts: Vec<String>,
    identity: Option<PathBuf>,
}

impl View for ContextView {
    const COLUMNS: &'static [&'static str] = &["NAME", "CURRENT", "HOSTS"];
    const WIDE_COLUMNS: &'static [&'static str] = &["IDENTITY"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let current = if self.current { "*" } else { "" };
        vec![self.name.clone(), current.to_owned(), self.hosts.join(",")]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.identity.as_ref().map(|path| path.display().to_string()).unwrap_or_default()]
    }
}

pub(crate) fn run(
    command: ContextCommand,
    path: &Path,
    identity: Option<PathBuf>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let mut contexts = Contexts::load(path)?;
    match command {
        ContextCommand::Ls => {
            let view = |(name, context): (&String, &Context)| ContextView {
                name: name.clone(),
                current: contexts.current.as_ref() == Some(name),
                hosts: context.hosts.clone(),
                identity: context.identity.clone(),
            };
            let views: Vec<ContextView> = contexts.contexts.iter().map(view).collect();
            output::data(&view::list(&views, format, Timestamp::default())?);
            return Ok(ExitCode::SUCCESS);
        }
        ContextCommand::Use { name } => {
            let context = contexts.resolve(Some(&name))?;
            contexts.select(&name, context);
            output::talk(&format!("context `{name}` is the current one"));
        }
        ContextCommand::Set { name, hosts } => {
            let identity = identity.map(std::path::absolute).transpose().map_err(|error| {
                Failure::refused(format!("the working directory is gone: {error}"))
            })?;
            contexts.contexts.insert(name.clone(), Context { hosts, identity });
            output::talk(&format!(
                "context `{name}` is set; `swarmctl context use {name}` selects it"
            ));
        }
        ContextCommand::Rm { names } => {
            for name in names {
                contexts.resolve(Some(&name))?;
                contexts.remove(&name);
                output::talk(&format!("context `{name}` is forgotten"));
            }
        }
    }
    contexts.save(path)?;
    Ok(ExitCode::SUCCESS)
}
