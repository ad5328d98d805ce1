//! `plan`: what a deploy would bring about, and whom it would take places from.

use super::build::stack::When;
use super::deploy::prepare;
use super::files::StackFiles;
use super::{Call, now};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, PlanView, PlannedTaskView};

/// Says what a deploy would change, where its first tasks would go, and which tasks of lower priority would make place
///
/// Nothing is changed, but the stack's secrets and configs are sent, and forgotten an hour later.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    files: StackFiles,
    /// The stack's name; by default the file's `name`, else its folder's
    #[arg(long)]
    name: Option<String>,
    /// Also remove services of the stack that the file no longer has
    #[arg(long)]
    prune: bool,
}

pub(crate) async fn run(plan: Plan, call: &Call) -> Result<(), Failure> {
    let name = plan.name.as_deref();
    let (stack, request) = prepare(&plan.files, name, plan.prune, When::Never, call).await?;
    let answer =
        call.cluster.call(async |mut client| client.plan_deploy(request.clone()).await).await?;
    let view = PlanView::of(&stack.spec.name, answer);
    match call.format {
        Format::Json => output::data(&view::json(&view)?),
        Format::Yaml => output::data(&view::yaml(&view)?),
        Format::Name => output::data(&view.stack),
        Format::Table | Format::Wide => show(&view, call.format)?,
    }
    Ok(())
}

/// What would change, and then the tasks. Both are the answer, so both are data.
fn show(view: &PlanView, format: Format) -> Result<(), Failure> {
    for warning in &view.warnings {
        output::warn(warning);
    }
    if view.cut {
        output::warn("the plan is cut: more tasks would be made or stopped than are shown");
    }
    let changes = view.changes.iter();
    let mut text = changes.fold(String::new(), |text, change| text + change + "\n");
    if text.is_empty() {
        text = format!("stack `{}` would be unchanged\n", view.stack);
    }
    let rows: Vec<PlannedTaskView> = view.rows();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&view::list(&rows, format, now(swarm_proto::id::Timestamp(0)))?);
    }
    output::data(&text);
    Ok(())
}
