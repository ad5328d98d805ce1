//! `deploy`: from a stack file to running tasks.

use std::time::Duration;

use swarm_manifests::Stack;
use swarm_proto::wire;

use super::build;
use super::build::stack::When;
use super::files::StackFiles;
use super::{Call, Waiting, duration};
use crate::connect::request_id;
use crate::contents;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, DeployView};
use crate::wait::{self, Goal, Outcome};

/// How long new tasks must have run before a deploy counts as done.
const SETTLE: &str = "500ms";

/// Deploys a stack and waits until every service runs as the file says.
///
/// Ctrl-C ends the waiting, not the deploy: the exit code is 0 then. When the time is over before all runs, the exit
/// code is 3 and the deploy goes on as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    files: StackFiles,
    /// The stack's name; by default the file's `name`, else its folder's
    #[arg(long)]
    name: Option<String>,
    /// Remove services of the stack that the file no longer has, once the others run
    #[arg(long)]
    prune: bool,
    /// Build the images of services with `build`, also those that a node has
    #[arg(long)]
    build: bool,
    #[command(flatten)]
    waiting: Waiting,
    /// How long new tasks must have run before the deploy counts as done
    #[arg(long, default_value = SETTLE, value_parser = duration, value_name = "DURATION")]
    settle: Duration,
}

/// Deploys a stack in the words of `docker stack deploy`, and waits until every service runs.
#[derive(Debug, clap::Args)]
pub(crate) struct StackDeploy {
    #[command(flatten)]
    files: StackFiles,
    /// The stack's name
    name: String,
    /// Remove services of the stack that the file no longer has, once the others run
    #[arg(long)]
    prune: bool,
    /// Return at once, do not wait until all runs
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false")]
    #[arg(default_missing_value = "true", action = clap::ArgAction::Set)]
    detach: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
    /// When to ask the registry what a tag stands for: here always
    #[arg(long, value_name = "WHEN", value_parser = ["always", "changed", "never"])]
    #[arg(default_value = "always", hide = true)]
    resolve_image: String,
    /// Send the registry's credentials to the hosts
    #[arg(long, hide = true)]
    with_registry_auth: bool,
}

pub(crate) async fn run_stack(deploy: StackDeploy, call: &Call) -> Result<(), Failure> {
    if deploy.with_registry_auth {
        output::warn(
            "`--with-registry-auth` is not supported yet: hosts ask registries without credentials",
        );
    }
    if deploy.resolve_image != "always" {
        output::warn("`--resolve-image` has no effect: each deploy asks what a tag stands for");
    }
    let waiting = Waiting { detach: deploy.detach, timeout: deploy.timeout };
    let StackDeploy { files, name, prune, .. } = deploy;
    let settle = duration(SETTLE).map_err(Failure::usage)?;
    run(Deploy { files, name: Some(name), prune, build: false, waiting, settle }, call).await
}

/// Reads a stack, has its images built and sends the bytes of its secrets and configs: what is left is to ask for it.
pub(super) async fn prepare(
    files: &StackFiles,
    name: Option<&str>,
    prune: bool,
    when: When,
    call: &Call,
) -> Result<(Stack, wire::DeployRequest), Failure> {
    let mut stack = files.open(name)?.read()?;
    build::stack::build(&mut stack, when, call).await?;
    contents::send(&call.cluster, &stack.contents).await?;
    let (request_id, spec) = (request_id()?, Some((&stack.spec).into()));
    Ok((stack, wire::DeployRequest { request_id, stack: spec, prune }))
}

pub(crate) async fn run(deploy: Deploy, call: &Call) -> Result<(), Failure> {
    let when = if deploy.build { When::Always } else { When::Missing };
    let (stack, request) =
        prepare(&deploy.files, deploy.name.as_deref(), deploy.prune, when, call).await?;
    let answer = call.cluster.call(async |mut client| client.deploy(request.clone()).await).await?;
    let name = &stack.spec.name;
    for change in &answer.changes {
        output::talk(change);
    }
    for warning in &answer.warnings {
        output::warn(warning);
    }
    if let Some(note) = note_of_kept(name, &answer.kept) {
        output::talk(&note);
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
        kept: answer.kept.iter().map(|key| format!("{name}_{key}")).collect(),
        leaving: answer.leaving.iter().map(|key| format!("{name}_{key}")).collect(),
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

/// Which services the file no longer has, though they go on.
fn note_of_kept(stack: &str, kept: &[String]) -> Option<String> {
    let names: Vec<String> = kept.iter().map(|key| format!("`{stack}_{key}`")).collect();
    let (verb, they) = match names.len() {
        0 => return None,
        1 => ("is", "it stays"),
        _ => ("are", "they stay"),
    };
    let names = names.join(", ");
    Some(format!("{names} {verb} no longer in the file: {they}, unless deployed with `--prune`"))
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
