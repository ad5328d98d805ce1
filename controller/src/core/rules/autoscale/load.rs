//! How much a service's running tasks have to do, beside what they should have.

use std::time::Duration;

use swarm_proto::id::Timestamp;
use swarm_proto::object::{ScaleMetric, Service, TargetReport, Task, TaskUsage};
use swarm_proto::spec::{Autoscale, Decimal, Resources};

use super::Usage;
use crate::core::rules::slot::serves;
use crate::core::state::{State, tasks_of};

/// A task that started later has nothing to tell yet.
const SETTLED: Duration = Duration::from_secs(15);
/// What a task has that has just what it should, in millionths of that.
const WHOLE: u128 = 1_000_000;
/// So much more or less is as it should be.
const TOLERANCE: u128 = WHOLE / 10;

/// A target, and what was measured for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is about.
    pub metric: ScaleMetric,
    /// What one task should have.
    pub target: Decimal,
    /// Tasks that were measured.
    pub measured: u32,
    /// What they have together, in millionths of the target.
    pub load: u128,
    /// The same in thousandths of the metric's own unit.
    sum: u128,
}

/// How many tasks a target calls for, of a service with `replicas`, `counted` of which count. Where nothing was measured,
/// or all is as it should be, that is as many as there are. Tasks that were not measured may have nothing to do where
/// more are wanted, and all where fewer are.
pub fn wanted(replicas: u32, counted: u32, target: &Target) -> u32 {
    let whole = u128::from(counted) * WHOLE;
    let tolerance = u128::from(counted) * TOLERANCE;
    let needed = u32::try_from(target.load.div_ceil(WHOLE)).unwrap_or(u32::MAX);
    if target.measured == 0 {
        replicas
    } else if target.load > whole + tolerance {
        needed.max(replicas)
    } else if target.measured == counted && target.load < whole - tolerance {
        needed.min(replicas)
    } else {
        replicas
    }
}

impl Target {
    /// One for which nothing was measured yet.
    pub fn new(metric: ScaleMetric, target: Decimal) -> Self {
        Self { metric, target, measured: 0, load: 0, sum: 0 }
    }

    /// Adds a task that has so much, in thousandths.
    pub fn add(&mut self, thousandths: u128) {
        self.measured += 1;
        self.sum = self.sum.saturating_add(thousandths);
        let target = u128::from(self.target.0).max(1);
        self.load = self.load.saturating_add(thousandths.saturating_mul(WHOLE) / target);
    }

    fn report(&self) -> TargetReport {
        let average = (self.measured > 0).then(|| {
            let average = self.sum / u128::from(self.measured);
            // Nobody reads parts of a percent.
            let average = match self.metric {
                ScaleMetric::Scraped | ScaleMetric::Requests => average,
                ScaleMetric::Cpu | ScaleMetric::Memory => (average + 500) / 1_000 * 1_000,
            };
            Decimal(u64::try_from(average).unwrap_or(u64::MAX))
        });
        let Self { metric, target, measured: tasks, .. } = *self;
        TargetReport { metric, target, measured: average, tasks }
    }
}

/// See the module.
pub(super) struct Load {
    counted: u32,
    /// Of these, tasks of which something is not known.
    unmeasured: u32,
    /// Of these, tasks to which nobody connected and is connected.
    idle: u32,
    targets: Vec<Target>,
}

impl Load {
    pub(super) fn of(
        state: &State,
        service: &Service,
        autoscale: &Autoscale,
        usage: &Usage,
        now: Timestamp,
    ) -> Self {
        let percent = |percent: u32| Decimal(u64::from(percent) * 1_000);
        let scraped = autoscale.scrape.as_ref().map(|scrape| scrape.target);
        let targets = [
            (ScaleMetric::Cpu, autoscale.cpu.map(percent)),
            (ScaleMetric::Memory, autoscale.memory.map(percent)),
            (ScaleMetric::Requests, autoscale.requests),
            (ScaleMetric::Scraped, scraped),
        ];
        let targets =
            targets.into_iter().filter_map(|(metric, target)| Some(Target::new(metric, target?)));
        let mut load = Self { counted: 0, unmeasured: 0, idle: 0, targets: targets.collect() };
        let is_settled = |task: &Task| {
            let since = usage.since(task.id).map_or(Duration::ZERO, |first| now.since(first));
            // The agent's own clock may be ahead.
            now.since(task.status.since).max(since) >= SETTLED
        };
        for task in tasks_of(state, service.id).filter(|task| serves(state, task)) {
            if is_settled(task)
                && let Some(spec) = state.task_spec(task)
            {
                load.add(&spec.container.resources, usage.of(task.id, now));
            }
        }
        load
    }

    fn add(&mut self, resources: &Resources, usage: TaskUsage) {
        self.counted += 1;
        let is_idle = usage.requests == Some(Decimal(0)) && usage.connections == Some(0);
        self.idle += u32::from(is_idle);
        let mut is_whole = true;
        for target in &mut self.targets {
            match measured(target.metric, resources, usage) {
                Some(thousandths) => target.add(thousandths),
                None => is_whole = false,
            }
        }
        self.unmeasured += u32::from(!is_whole);
    }

    /// How many tasks there should be, within the bounds; `None` where nothing was measured.
    pub(super) fn wanted(&self, replicas: u32, autoscale: &Autoscale) -> Option<u32> {
        let is_measured = self.targets.iter().any(|target| target.measured > 0);
        if self.is_idle(replicas) {
            return Some(autoscale.min);
        }
        let wanted = self.targets.iter().map(|target| wanted(replicas, self.counted, target));
        let wanted = wanted.max().filter(|_| is_measured)?;
        Some(autoscale.bound(wanted.max(autoscale.first())))
    }

    /// Whether nobody needs any of so many tasks: all are looked at, and none has a connection.
    fn is_idle(&self, replicas: u32) -> bool {
        self.counted > 0 && self.counted >= replicas && self.idle == self.counted
    }

    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    pub(super) fn unmeasured(&self) -> u32 {
        self.unmeasured
    }

    pub(super) fn reports(&self) -> Vec<TargetReport> {
        self.targets.iter().map(Target::report).collect()
    }

    /// Each number beside its target, for a person: `cpu 140% (target 70%)`.
    pub(super) fn words(&self) -> String {
        let word = |report: TargetReport| {
            let (name, unit) = (report.metric.as_str(), report.metric.unit());
            let measured =
                report.measured.map_or_else(|| "unknown".to_owned(), |one| format!("{one}{unit}"));
            format!("{name} {measured} (target {}{unit})", report.target)
        };
        let words: Vec<String> = self.reports().into_iter().map(word).collect();
        words.join(", ")
    }
}

/// What one task has of a metric, in thousandths of its unit.
fn measured(metric: ScaleMetric, resources: &Resources, usage: TaskUsage) -> Option<u128> {
    let share = |used: u64, of: u64| u128::from(used) * 100_000 / u128::from(of.max(1));
    match metric {
        ScaleMetric::Cpu => Some(share(usage.millicpus?, resources.cpu_share()?)),
        ScaleMetric::Memory => Some(share(usage.memory?, resources.memory_share()?)),
        ScaleMetric::Scraped => Some(usage.scraped?.0.into()),
        ScaleMetric::Requests => Some(usage.requests?.0.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(percents: &[u32]) -> Target {
        let mut target = Target::new(ScaleMetric::Cpu, Decimal(50_000));
        for percent in percents {
            target.add(u128::from(*percent) * 1_000);
        }
        target
    }

    #[test]
    fn as_many_are_wanted_as_would_each_have_the_target() {
        assert_eq!(wanted(2, 2, &target(&[100, 100])), 4);
        assert_eq!(wanted(2, 2, &target(&[60, 60])), 3);
        assert_eq!(wanted(4, 4, &target(&[10, 10, 10, 10])), 1);
        assert_eq!(wanted(4, 4, &target(&[0, 0, 0, 0])), 0);
        assert_eq!(wanted(3, 0, &target(&[])), 3);
    }

    #[test]
    fn a_tenth_more_or_less_is_as_it_should_be() {
        assert_eq!(wanted(2, 2, &target(&[55, 55])), 2);
        assert_eq!(wanted(2, 2, &target(&[56, 55])), 3);
        assert_eq!(wanted(2, 2, &target(&[45, 45])), 2);
        assert_eq!(wanted(9, 9, &target(&[44; 9])), 8);
    }

    #[test]
    fn what_is_not_measured_makes_none_fewer_and_no_more_than_sure() {
        assert_eq!(wanted(4, 4, &target(&[10, 10, 10])), 4);
        assert_eq!(wanted(4, 4, &target(&[100, 100, 100])), 6);
        assert_eq!(wanted(4, 4, &target(&[100, 100])), 4);
        // Those that run have too much to do: that the others do not run yet is no reason for fewer.
        assert_eq!(wanted(8, 2, &target(&[100, 100])), 8);
    }

    #[test]
    fn a_report_shows_whole_percents() {
        let mut cpu = Target::new(ScaleMetric::Cpu, Decimal(70_000));
        cpu.add(69_600);
        assert_eq!(cpu.report().measured, Some(Decimal(70_000)));
        let mut scraped = Target::new(ScaleMetric::Scraped, Decimal(500));
        scraped.add(250);
        assert_eq!(scraped.report().measured, Some(Decimal(250)));
    }
}
