use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Scaling, ScalingReport, TargetReport};
use swarm_proto::spec::Autoscale;

use super::{View, time};

/// A service whose number of tasks follows what is measured, as `autoscale` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AutoscaleView {
    /// The full name, `<stack>_<key>`.
    pub service: String,
    /// How many tasks it shall have.
    pub replicas: u32,
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Each target.
    pub targets: Vec<TargetView>,
    /// Running tasks whose numbers count.
    pub counted: u32,
    /// How many tasks there should be by what is measured now.
    pub wanted: Option<u32>,
    /// Why it is not scaled to that.
    pub held: Option<String>,
}

/// A target beside what is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetView {
    /// `cpu`, `memory`, `requests` or `scrape`.
    pub metric: String,
    /// What one task should have: percent of its reservation or limit, or the number itself, as a text.
    pub target: String,
    /// What it has on average.
    pub measured: Option<String>,
    /// How many tasks were measured.
    pub tasks: u32,
    /// What stands behind the numbers in a table.
    #[serde(skip)]
    unit: &'static str,
}

impl TargetView {
    fn of(report: &TargetReport) -> Self {
        Self {
            metric: report.metric.as_str().to_owned(),
            target: report.target.to_string(),
            measured: report.measured.map(|number| number.to_string()),
            tasks: report.tasks,
            unit: report.metric.unit(),
        }
    }

    /// `cpu 35%/70%`
    fn words(&self) -> String {
        let Self { metric, target, unit, .. } = self;
        match &self.measured {
            Some(measured) => format!("{metric} {measured}{unit}/{target}{unit}"),
            None => format!("{metric} ?/{target}{unit}"),
        }
    }
}

impl AutoscaleView {
    /// The view of a report.
    pub fn of(report: &ScalingReport) -> Self {
        Self {
            service: report.service.clone(),
            replicas: report.replicas,
            min: report.min,
            max: report.max,
            targets: report.targets.iter().map(TargetView::of).collect(),
            counted: report.counted,
            wanted: report.wanted,
            held: report.held.clone(),
        }
    }
}

impl View for AutoscaleView {
    const COLUMNS: &'static [&'static str] =
        &["SERVICE", "REPLICAS", "BOUNDS", "TARGETS", "WANTED", "HELD"];
    const WIDE_COLUMNS: &'static [&'static str] = &["COUNTED"];

    fn name(&self) -> String {
        self.service.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let targets: Vec<String> = self.targets.iter().map(TargetView::words).collect();
        vec![
            self.service.clone(),
            self.replicas.to_string(),
            format!("{}-{}", self.min, self.max),
            targets.join(", "),
            self.wanted.map_or_else(|| "?".to_owned(), |wanted| wanted.to_string()),
            self.held.clone().unwrap_or_default(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.counted.to_string()]
    }
}

/// By what a service's number of tasks is scaled, as `service inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScaledByView {
    /// The fewest tasks.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Percent of its reservation or limit of CPUs that a task should use.
    pub cpu: Option<u32>,
    /// The same of memory.
    pub memory: Option<u32>,
    /// New connections a second that a task should have, as a text.
    pub requests: Option<String>,
    /// A number that tasks tell.
    pub scrape: Option<ScrapeView>,
    /// Seconds for which fewer tasks must have been wanted before there are fewer.
    pub stabilisation: u64,
    /// The least seconds between two changes.
    pub cool_down: u64,
    /// The last change; null before the first.
    pub last: Option<ScalingView>,
}

/// Where tasks tell a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScrapeView {
    /// The port in the container.
    pub port: u16,
    /// Of the page.
    pub path: String,
    /// Its name there.
    pub metric: String,
    /// How much of it one task should have, as a text.
    pub target: String,
}

/// A change of a number of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScalingView {
    /// When.
    pub at: String,
    /// How many there were.
    pub from: u32,
    /// How many there have been since.
    pub to: u32,
    /// Why.
    pub reason: String,
}

impl ScaledByView {
    pub(super) fn of(autoscale: &Autoscale, last: Option<&Scaling>) -> Self {
        Self {
            min: autoscale.min,
            max: autoscale.max,
            cpu: autoscale.cpu,
            memory: autoscale.memory,
            requests: autoscale.requests.map(|target| target.to_string()),
            scrape: autoscale.scrape.as_ref().map(|target| ScrapeView {
                port: target.scrape.port,
                path: target.scrape.path.clone(),
                metric: target.scrape.metric.clone(),
                target: target.target.to_string(),
            }),
            stabilisation: autoscale.stabilisation.as_secs(),
            cool_down: autoscale.cool_down.as_secs(),
            last: last.map(|last| ScalingView {
                at: time(last.at),
                from: last.from,
                to: last.to,
                reason: last.reason.clone(),
            }),
        }
    }
}
