//! `events`: what happened, and what happens.

use super::Call;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::state::Change;
use crate::view::{self, EventView};
use crate::watch::Watch;

/// Tells what happened lately
///
/// Without `-f`: the last change of each object that the cluster still knows, oldest first. With it: what happens from
/// now on, a line each (JSON: one object a line), until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(events: &Events, call: &Call) -> Result<(), Failure> {
    if !events.follow {
        let state = crate::state::State::get(&call.cluster, call.stale).await?;
        let views = EventView::of_past(&state);
        output::data(&view::list(&views, call.format, state.clock)?);
        return Ok(());
    }
    let mut watch = Watch::of_whatever_is_known(&call.cluster);
    let mut has_begun = false;
    loop {
        let change = tokio::select! {
            change = watch.next() => change?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        if change == Change::Snapshot {
            if has_begun {
                output::talk("note: the connection was lost; what happened meanwhile is not shown");
            }
            has_begun = true;
        }
        if let Some(event) = EventView::of(&watch.state, &change)
            && !print(&event, call.format)?
        {
            return Ok(());
        }
    }
}

/// Whether somebody still reads.
fn print(event: &EventView, format: Format) -> Result<bool, Failure> {
    let line = match format {
        Format::Json => view::json_line(event)?,
        Format::Yaml => format!("---\n{}", view::yaml(event)?),
        Format::Name => event.name.clone() + "\n",
        Format::Table | Format::Wide => event.line() + "\n",
    };
    Ok(output::raw(line.as_bytes()).is_ok())
}
