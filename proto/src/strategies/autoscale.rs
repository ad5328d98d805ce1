//! Anything about services that are scaled by what is measured.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{duration, text, time};
use crate::assignment::Measure;
use crate::object::{ScaleMetric, Scaling, ScalingReport, TargetReport, TaskUsage};
use crate::spec::{Autoscale, Decimal, Scrape, ScrapeTarget};

fn decimal() -> BoxedStrategy<Decimal> {
    any::<u64>().prop_map(Decimal).boxed()
}

strategy! {
    fn scrape -> Scrape {
        port: any::<u16>(),
        path: text(),
        metric: text(),
    }
    fn scrape_target -> ScrapeTarget {
        scrape: scrape(),
        target: decimal(),
    }
    fn autoscale -> Autoscale {
        min: any::<u32>(),
        max: any::<u32>(),
        cpu: any::<Option<u32>>(),
        memory: any::<Option<u32>>(),
        scrape: option::of(scrape_target()),
        requests: option::of(decimal()),
        stabilisation: duration(),
        cool_down: duration(),
    }
    fn scaling -> Scaling {
        at: time(),
        from: any::<u32>(),
        to: any::<u32>(),
        reason: text(),
    }
    fn measure -> Measure {
        scrape: option::of(scrape()),
        requests: any::<bool>(),
        connections: any::<bool>(),
    }
    fn task_usage -> TaskUsage {
        millicpus: any::<Option<u64>>(),
        memory: any::<Option<u64>>(),
        scraped: option::of(decimal()),
        requests: option::of(decimal()),
        connections: any::<Option<u64>>(),
    }
    fn target_report -> TargetReport {
        metric: select(vec![
            ScaleMetric::Cpu,
            ScaleMetric::Memory,
            ScaleMetric::Scraped,
            ScaleMetric::Requests,
        ]),
        target: decimal(),
        measured: option::of(decimal()),
        tasks: any::<u32>(),
    }
    fn scaling_report -> ScalingReport {
        service: text(),
        replicas: any::<u32>(),
        min: any::<u32>(),
        max: any::<u32>(),
        targets: vec(target_report(), 0..3),
        counted: any::<u32>(),
        wanted: any::<Option<u32>>(),
        held: option::of("[a-z]{1,8}"),
    }
}
