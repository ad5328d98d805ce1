//! Services that are scaled by what is measured.

use std::time::Duration;

use super::fields::{ConvertError, Fields, each, milliseconds};
use crate::assignment::Measure;
use crate::id::{TaskId, Timestamp};
use crate::object::{Scaling, ScalingReport, TargetReport, TaskUsage};
use crate::spec::{Autoscale, Decimal, Scrape, ScrapeTarget};
use crate::wire;

impl From<&Scrape> for wire::Scrape {
    fn from(scrape: &Scrape) -> Self {
        let Scrape { port, path, metric } = scrape.clone();
        Self { port: port.into(), path, metric }
    }
}

impl TryFrom<wire::Scrape> for Scrape {
    type Error = ConvertError;

    fn try_from(scrape: wire::Scrape) -> Result<Self, ConvertError> {
        let wire::Scrape { port, path, metric } = scrape;
        Ok(Self { port: Fields("Scrape").port("port", port)?, path, metric })
    }
}

impl From<&ScrapeTarget> for wire::ScrapeTarget {
    fn from(target: &ScrapeTarget) -> Self {
        Self { scrape: Some((&target.scrape).into()), target: target.target.0 }
    }
}

impl TryFrom<wire::ScrapeTarget> for ScrapeTarget {
    type Error = ConvertError;

    fn try_from(target: wire::ScrapeTarget) -> Result<Self, ConvertError> {
        let scrape = Fields("ScrapeTarget").required("scrape", target.scrape)?;
        Ok(Self { scrape, target: Decimal(target.target) })
    }
}

impl From<&Autoscale> for wire::Autoscale {
    fn from(autoscale: &Autoscale) -> Self {
        Self {
            min: autoscale.min,
            max: autoscale.max,
            cpu: autoscale.cpu,
            memory: autoscale.memory,
            scrape: autoscale.scrape.as_ref().map(Into::into),
            stabilisation: milliseconds(autoscale.stabilisation),
            cool_down: milliseconds(autoscale.cool_down),
            requests: autoscale.requests.map(|number| number.0),
        }
    }
}

impl TryFrom<wire::Autoscale> for Autoscale {
    type Error = ConvertError;

    fn try_from(autoscale: wire::Autoscale) -> Result<Self, ConvertError> {
        Ok(Self {
            min: autoscale.min,
            max: autoscale.max,
            cpu: autoscale.cpu,
            memory: autoscale.memory,
            scrape: Fields("Autoscale").optional("scrape", autoscale.scrape)?,
            requests: autoscale.requests.map(Decimal),
            stabilisation: Duration::from_millis(autoscale.stabilisation),
            cool_down: Duration::from_millis(autoscale.cool_down),
        })
    }
}

impl From<&Scaling> for wire::Scaling {
    fn from(scaling: &Scaling) -> Self {
        let Scaling { at, from, to, reason } = scaling.clone();
        Self { at: at.0, from, to, reason }
    }
}

impl TryFrom<wire::Scaling> for Scaling {
    type Error = ConvertError;

    fn try_from(scaling: wire::Scaling) -> Result<Self, ConvertError> {
        let wire::Scaling { at, from, to, reason } = scaling;
        Ok(Self { at: Timestamp(at), from, to, reason })
    }
}

impl From<&Measure> for wire::Measure {
    fn from(measure: &Measure) -> Self {
        let Measure { scrape, requests, connections } = measure;
        Self {
            scrape: scrape.as_ref().map(Into::into),
            requests: *requests,
            connections: *connections,
        }
    }
}

impl TryFrom<wire::Measure> for Measure {
    type Error = ConvertError;

    fn try_from(measure: wire::Measure) -> Result<Self, ConvertError> {
        let wire::Measure { scrape, requests, connections } = measure;
        Ok(Self { scrape: Fields("Measure").optional("scrape", scrape)?, requests, connections })
    }
}

impl From<(&TaskId, &TaskUsage)> for wire::TaskUsage {
    fn from((task, usage): (&TaskId, &TaskUsage)) -> Self {
        Self {
            task: task.to_string(),
            millicpus: usage.millicpus,
            memory: usage.memory,
            scraped: usage.scraped.map(|number| number.0),
            requests: usage.requests.map(|number| number.0),
            connections: usage.connections,
        }
    }
}

impl TryFrom<wire::TaskUsage> for (TaskId, TaskUsage) {
    type Error = ConvertError;

    fn try_from(usage: wire::TaskUsage) -> Result<Self, ConvertError> {
        let wire::TaskUsage { task, millicpus, memory, scraped, requests, connections } = usage;
        let (scraped, requests) = (scraped.map(Decimal), requests.map(Decimal));
        let usage = TaskUsage { millicpus, memory, scraped, requests, connections };
        Ok((Fields("TaskUsage").text("task", &task)?, usage))
    }
}

impl From<&TargetReport> for wire::TargetReport {
    fn from(report: &TargetReport) -> Self {
        Self {
            metric: report.metric.into(),
            target: report.target.0,
            measured: report.measured.map(|number| number.0),
            tasks: report.tasks,
        }
    }
}

impl TryFrom<wire::TargetReport> for TargetReport {
    type Error = ConvertError;

    fn try_from(report: wire::TargetReport) -> Result<Self, ConvertError> {
        let at = Fields("TargetReport");
        Ok(Self {
            metric: at.enumeration::<wire::ScaleMetric, _>("metric", report.metric)?,
            target: Decimal(report.target),
            measured: report.measured.map(Decimal),
            tasks: report.tasks,
        })
    }
}

impl From<&ScalingReport> for wire::ScalingReport {
    fn from(report: &ScalingReport) -> Self {
        Self {
            service: report.service.clone(),
            replicas: report.replicas,
            min: report.min,
            max: report.max,
            targets: each(&report.targets),
            counted: report.counted,
            wanted: report.wanted,
            held: report.held.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::ScalingReport> for ScalingReport {
    type Error = ConvertError;

    fn try_from(report: wire::ScalingReport) -> Result<Self, ConvertError> {
        Ok(Self {
            service: report.service,
            replicas: report.replicas,
            min: report.min,
            max: report.max,
            targets: Fields("ScalingReport").list("targets", report.targets)?,
            counted: report.counted,
            wanted: report.wanted,
            held: Some(report.held).filter(|held| !held.is_empty()),
        })
    }
}
