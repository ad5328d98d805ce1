//! What tasks use, and how services were scaled by it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use swarm_controller::core::State;
use swarm_proto::id::TaskId;
use swarm_proto::object::{ScalingReport, TaskState, TaskUsage};

use super::agent::Agent;

/// `cpu=80 memory=64 scrape=2.5 requests=20 open=1`, in thousandths of a CPU and MiB; `unknown`.
pub(super) fn usage(words: &[&str]) -> Option<TaskUsage> {
    let mut usage = TaskUsage::default();
    for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
        match name {
            "cpu" => usage.millicpus = Some(value.parse().unwrap()),
            "memory" => usage.memory = Some(value.parse::<u64>().unwrap() << 20),
            "requests" => usage.requests = Some(value.parse().unwrap()),
            "open" => usage.connections = Some(value.parse().unwrap()),
            "scrape" => usage.scraped = Some(value.parse().unwrap()),
            other => panic!("unknown usage {other}"),
        }
    }
    (words != ["unknown"]).then_some(usage)
}

/// What an agent measures of its tasks.
pub(super) fn measured(
    agent: &Agent,
    usages: &BTreeMap<String, Option<TaskUsage>>,
) -> Vec<(TaskId, TaskUsage)> {
    let runs = agent
        .tasks
        .values()
        .filter(|(task, known)| known.state == TaskState::Running && task.measure.is_some());
    let usage = |task: TaskId, service: &str| {
        let own = usages.get(&task.to_string());
        own.or_else(|| usages.get(service)).copied().flatten()
    };
    runs.filter_map(|(task, _)| Some((task.id, usage(task.id, &task.service)?))).collect()
}

/// How a service is that is scaled.
pub(super) fn line(report: &ScalingReport) -> String {
    let ScalingReport { service, replicas, min, max, counted, .. } = report;
    let mut text = format!("  {service} has {replicas} of {min} to {max}, {counted} count");
    for target in &report.targets {
        let (name, unit) = (target.metric.as_str(), target.metric.unit());
        let _ = write!(text, ", {name} ");
        let _ = match target.measured {
            Some(measured) => write!(text, "{measured}{unit}"),
            None => write!(text, "unknown"),
        };
        let _ = write!(text, " of {}{unit}", target.target);
    }
    if let Some(wanted) = report.wanted {
        let _ = write!(text, ", wants {wanted}");
    }
    if let Some(held) = &report.held {
        let _ = write!(text, ", held: {held}");
    }
    text.push('\n');
    text
}

/// The services that were scaled.
pub(super) fn changes(before: &State, after: &State) -> String {
    let mut text = String::new();
    for (id, service) in &after.services {
        let old = before.services.get(id).and_then(|service| service.scaling.as_ref());
        let Some(scaling) = service.scaling.as_ref().filter(|new| Some(*new) != old) else {
            continue;
        };
        let (name, from, to) = (service.name(), scaling.from, scaling.to);
        let _ = writeln!(text, "  service {name} scaled from {from} to {to}: {}", scaling.reason);
    }
    text
}
