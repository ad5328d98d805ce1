//! What users see of objects: one stable shape for each, as JSON and YAML, and columns for tables.
//!
//! The shapes are a contract that scripts rely on: fields are added, never renamed or taken away. Times are RFC 3339 in
//! UTC; what is not there is `null`; sizes are bytes.

mod autoscale;
mod cluster;
mod content;
mod doctor;
mod event;
mod image;
mod job;
mod key;
mod login;
mod network;
mod node;
mod plan;
mod rebalance;
mod service;
mod share;
mod stack;
mod task;
mod version;
mod volume;
mod why;

pub use autoscale::{AutoscaleView, ScaledByView, ScalingView, ScrapeView, TargetView};
pub use cluster::{ClusterView, MemberView, NetworkingView, QuorumView, RebalanceSettingView};
pub use content::ContentView;
pub use doctor::{DifferenceView, DoctorView};
pub use event::EventView;
pub use image::{HistoryView, ImageDetailsView, ImageView, LayerView};
pub use job::{JobView, RunView, ScheduleView};
pub use key::KeyView;
pub use login::LoginView;
pub use network::NetworkView;
pub use node::{ControllerView, NodeView};
pub use plan::{PlanView, PlannedTaskView, PreemptionView};
pub use rebalance::{MoveView, RebalanceView};
pub use service::{CompletionsView, PortView, ReplicasView, ServiceView, UpdateView};
pub use share::{ResourceView, ShareView};
pub use stack::{DeployView, StackView};
pub use task::{AddressView, TaskView};
pub use version::{ServerView, VersionView};
pub use volume::{FilledFromView, HoldingView, VolumeView};
pub use why::WhyView;

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use swarm_proto::id::Timestamp;

use crate::failure::Failure;
use crate::output::Format;

/// Something that is shown as a row, or whole.
pub trait View: Serialize {
    /// The columns of a table.
    const COLUMNS: &'static [&'static str];
    /// Further columns of `-o wide`.
    const WIDE_COLUMNS: &'static [&'static str];

    /// What `-o name` prints.
    fn name(&self) -> String;

    /// One cell for each column; ages are counted up to `now`.
    fn cells(&self, now: Timestamp) -> Vec<String>;

    /// One cell for each further column.
    fn wide_cells(&self, now: Timestamp) -> Vec<String>;
}

/// A list of objects in the wanted form.
pub fn list<V: View>(views: &[V], format: Format, now: Timestamp) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(table(views, now, false)),
        Format::Wide => Ok(table(views, now, true)),
        Format::Json => json(&views),
        Format::Yaml => yaml(&views),
        Format::Name => Ok(views.iter().map(|view| view.name() + "\n").collect()),
    }
}

/// One object whole, in the wanted form; for people as YAML.
pub fn whole<V: View>(view: &V, format: Format) -> Result<String, Failure> {
    match format {
        Format::Table | Format::Wide | Format::Yaml => yaml(view),
        Format::Json => json(view),
        Format::Name => Ok(view.name() + "\n"),
    }
}

/// JSON for people and scripts, ending in a new line.
pub fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::because("cannot write JSON", &error))
}

/// JSON on one line, ending in a new line.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n").map_err(|error| Failure::because("cannot write JSON", &error))
}

/// YAML, ending in a new line.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    swarm_manifests::yaml::to_string(value)
        .map_err(|error| Failure::refused(format!("cannot write YAML: {error}")))
}

/// Columns without lines, as Docker's.
pub(crate) fn table<V: View>(views: &[V], now: Timestamp, is_wide: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let wide = if is_wide { V::WIDE_COLUMNS } else { &[] };
    table.set_header(V::COLUMNS.iter().chain(wide));
    for view in views {
        let wide = if is_wide { view.wide_cells(now) } else { Vec::new() };
        table.add_row(view.cells(now).into_iter().chain(wide).map(|cell| one_line(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

/// A cell's text on one line, without characters that move the cursor.
fn one_line(text: &str) -> String {
    let is_blank = |c: char| c.is_control() || c.is_whitespace();
    text.split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A time as RFC 3339 in UTC.
pub(crate) fn time(time: Timestamp) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::new(),
    }
}

/// How long ago, in the largest unit that fits: `12s`, `5m`, `3h`, `4d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    span(now.since(since))
}

/// A span in its largest unit.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes in the largest binary unit that fits, with one decimal below ten.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..UNITS.len() - 1).take_while(|power| bytes >> (10 * (power + 1)) > 0).count();
    if power == 0 {
        return format!("{bytes} B");
    }
    let tenths = (bytes >> (10 * (power - 1))) * 10 / 1024;
    match (tenths / 10, tenths % 10) {
        (whole @ 0..10, tenth) => format!("{whole}.{tenth} {}", UNITS[power]),
        (whole, _) => format!("{whole} {}", UNITS[power]),
    }
}

/// What is said of an object's stack; nothing of one that belongs to none.
fn owned(stack: &str, said: &str) -> Option<String> {
    (!stack.is_empty()).then(|| said.to_owned())
}

/// An image's name as people write it: without what docker.io implies.
pub(crate) fn short_image(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    short.strip_prefix("library/").unwrap_or(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_for_people() {
        let sizes = [0, 1023, 1024, 1536, 10 << 20, (5 << 30) + (1 << 29), u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 MiB", "5.5 GiB", "16777215 TiB"]
        );
        let spans = [5, 119, 120, 7_199, 7_200, 172_799, 172_800].map(Duration::from_secs);
        assert_eq!(spans.map(span), ["5s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        assert_eq!(one_line("a\nb\t c\u{1b}[2J"), "a b c [2J");
    }

    #[test]
    fn times_in_utc() {
        assert_eq!(time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
