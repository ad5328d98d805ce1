//! `deploy`: from a stack file to running tasks.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use swarm_manifests::{Environment, ManifestError, ManifestErrors, Source};
use swarm_proto::spec::StackSpec;
use swarm_proto::wire;

use super::{Call, Waiting, duration};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, DeployView};
use crate::wait::{self, Goal, Outcome};

/// Deploys a stack and waits until every service runs as the file says.
///
/// Ctrl-C ends the waiting, not the deploy: the exit code is 0 then. When the time is over before all runs, the exit
/// code is 3 and the deploy goes on as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// A stack file, `-` for standard input; later files lie on top of earlier ones
    #[arg(short, long, required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The stack's name; by default the file's `name`, else its folder's
    #[arg(long)]
    name: Option<String>,
    /// Remove services of the stack that the file no longer has
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    waiting: Waiting,
    /// How long new tasks must have run before the deploy counts as done
    #[arg(long, default_value = "500ms", value_parser = duration, value_name = "DURATION")]
    settle: Duration,
}

pub(crate) async fn run(deploy: Deploy, call: &Call) -> Result<(), Failure> {
    let stack = read(&deploy)?;
    let request = wire::DeployRequest {
        request_id: request_id()?,
        stack: Some((&stack).into()),
        prune: deploy.prune,
    };
    let answer = call.cluster.call(async |mut client| client.deploy(request.clone()).await).await?;
    let name = &stack.name;
    for change in &answer.changes {
        output::talk(change);
    }
    for warning in &answer.warnings {
        output::warn(warning);
    }
    if !answer.changed {
        output::talk(&format!("stack `{name}` is unchanged at revision {}", answer.revision));
    }
    let mut view = DeployView {
        stack: name.clone(),
        revision: answer.revision,
        changed: answer.changed,
        changes: answer.changes,
        warnings: answer.warnings,
        converged: false,
    };
    if !deploy.waiting.detach {
        let goal = Goal::Stack { name: name.clone(), revision: answer.revision };
        let settle = if answer.changed { deploy.settle } else { Duration::ZERO };
        match wait::until(&call.cluster, &goal, deploy.waiting.timeout, settle).await {
            Ok(Outcome::Reached) => view.converged = true,
            Ok(Outcome::Detached) => output::talk(&format!(
                "detached: the deploy goes on; see `swarmctl stack ps {name}`"
            )),
            Err(failure) => {
                print(&view, call)?;
                return Err(failure);
            }
        }
    }
    print(&view, call)
}

fn print(view: &DeployView, call: &Call) -> Result<(), Failure> {
    match call.format {
        // For a person, everything was said on the way.
        Format::Table | Format::Wide => {}
        Format::Name => output::data(&view.stack),
        Format::Json => output::data(&view::json(view)?),
        Format::Yaml => output::data(&view::yaml(view)?),
    }
    Ok(())
}

fn read(deploy: &Deploy) -> Result<StackSpec, Failure> {
    if let Some(name) = &deploy.name
        && !swarm_manifests::is_stack_name(name)
    {
        return Err(Failure::usage(format!("`{name}` cannot be a stack's name")).hint(
            "use lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit",
        ));
    }
    let mut environment = Environment::of_process()
        .map_err(|error| Failure::refused(format!("the working directory is gone: {error}")))?;
    environment.stack_name.clone_from(&deploy.name);
    let mut sources = Vec::new();
    let mut errors: Vec<ManifestError> = Vec::new();
    for file in &deploy.file {
        if file.as_os_str() == "-" {
            sources.push(standard_input(&environment)?);
            continue;
        }
        match swarm_manifests::open(file, &environment) {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(Failure::refused(ManifestErrors(errors).to_string()));
    }
    let (stack, warnings) = swarm_manifests::read_sources(&sources, &environment)
        .map_err(|errors| Failure::refused(errors.to_string()))?;
    for warning in warnings {
        output::warn(&warning.to_string());
    }
    Ok(stack)
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
