//! What came of a command, in words.

use std::fmt::Write as _;

use swarm_controller::core::{CommandDone, Refusal, State};
use swarm_proto::object::{JobRun, Task, TaskState};

use super::bench::START;
use super::{autoscale, rebalance, service};

pub(super) fn reply(result: &Result<CommandDone, Refusal>) -> String {
    let mut text = String::new();
    match result {
        Ok(CommandDone::Deployed { revision, changed, warnings, changes, kept, .. }) => {
            let changed = if *changed { "changed" } else { "unchanged" };
            let _ = writeln!(text, "  revision {revision}, {changed}");
            for change in changes {
                let _ = writeln!(text, "  - {change}");
            }
            for service in kept {
                let _ = writeln!(text, "  kept: {service}");
            }
            for warning in warnings {
                let _ = writeln!(text, "  warning: {warning}");
            }
        }
        Ok(CommandDone::Scaled { previous }) => {
            let _ = writeln!(text, "  scaled from {previous}");
        }
        Ok(CommandDone::Joined { node, .. }) => {
            let _ = writeln!(text, "  joined as n{node}");
        }
        Ok(CommandDone::Missing(contents)) => {
            let _ = writeln!(text, "  missing {}", contents.len());
        }
        Ok(CommandDone::RunStarted { run }) => {
            let _ = writeln!(text, "  run {run} begun");
        }
        Ok(CommandDone::Moved(moves)) => text.push_str(&rebalance::moves(moves)),
        Ok(CommandDone::Scaling(reports)) => {
            for report in reports {
                text.push_str(&autoscale::line(report));
            }
        }
        Ok(CommandDone::Found(found)) => {
            let _ = writeln!(text, "  {found:?}");
        }
        Ok(CommandDone::Done) => text.push_str("  done\n"),
        Err(refusal) => {
            let _ = writeln!(text, "  refused ({:?}): {}", refusal.kind, refusal.message);
            if let Some(hint) = &refusal.hint {
                let _ = writeln!(text, "  hint: {hint}");
            }
        }
    }
    text
}

pub(super) fn line(state: &State, task: &Task) -> String {
    let mut text = format!("  {} ({})", state.task_name(task.id), task.id);
    if let Some(node) = task.node {
        let _ = write!(text, " on n{node}");
    }
    let _ = write!(text, " {}", task.status.state);
    if task.desired != TaskState::Running {
        let _ = write!(text, "/{}", task.desired);
    }
    if let Some(health) = &task.status.health {
        let _ = write!(text, " {}", health.state);
    }
    if task.spec_version != 1 {
        let _ = write!(text, " v{}", task.spec_version);
    }
    if let Some(by) = task.preempted_by {
        let _ = write!(text, " for {}", state.task_name(by));
    }
    for (kind, resource) in &task.resources {
        let _ = write!(text, " {kind}={resource}");
    }
    if task.standby {
        text.push_str(" standby");
    }
    if !task.status.message.is_empty() {
        let _ = write!(text, " \"{}\"", task.status.message);
    }
    text.push('\n');
    text
}

fn run_line(run: &JobRun) -> String {
    let mut text = format!("run {} {}", run.number, run.state);
    if let Some(at) = run.scheduled_at {
        let _ = write!(text, " for {}s", (at.0 - START) / 1_000);
    }
    if !run.is_active() {
        let _ = write!(text, ", {} completed, {} gave up", run.completed, run.failed);
    }
    if !run.message.is_empty() {
        let _ = write!(text, ", \"{}\"", run.message);
    }
    text
}

/// What differs between two states, object by object.
pub(super) fn changes(before: &State, after: &State) -> String {
    let mut text = String::new();
    for (id, node) in &after.nodes {
        let shown = |node: &swarm_proto::object::Node| (node.status, node.availability);
        if before.nodes.get(id).map(|node| shown(node)) != Some(shown(node)) {
            let (status, availability) = (node.status, node.availability);
            let _ = writeln!(text, "  node n{id} {status:?} {availability:?}");
        }
    }
    for (id, network) in &after.networks {
        if !before.networks.contains_key(id) {
            let (name, subnet) = (&network.name, network.subnet);
            let _ = writeln!(text, "  network {name} {subnet}/{}", network.prefix_length);
        }
    }
    for (id, volume) in &after.volumes {
        let holders = |volume: &swarm_proto::object::Volume| {
            volume.holdings.keys().copied().collect::<Vec<_>>()
        };
        if before.volumes.get(id).map(|volume| holders(volume)) != Some(holders(volume)) {
            let holders: Vec<_> = volume.holdings.keys().map(|node| format!("n{node}")).collect();
            let _ = writeln!(text, "  volume {} on {holders:?}", volume.name);
        }
    }
    for (id, service) in &after.services {
        let shown = |s: &swarm_proto::object::Service| (s.vips.clone(), s.ports.clone());
        if before.services.get(id).map(|service| shown(service)) != Some(shown(service)) {
            let vips: Vec<_> = service.vips.iter().map(|vip| vip.address).collect();
            let ports: Vec<_> = service.ports.iter().map(|port| port.published).collect();
            let _ = writeln!(text, "  service {} vips {vips:?} ports {ports:?}", service.name());
        }
    }
    for (id, service) in &after.services {
        let old = before.services.get(id).map(|service| &service.runs);
        for run in &service.runs.list {
            let shown = run_line(run);
            if old.and_then(|old| old.get(run.number)).map(run_line).as_ref() != Some(&shown) {
                let _ = writeln!(text, "  {} {shown}", service.name());
            }
        }
        let skipped = service.runs.skipped;
        if skipped != old.map_or(0, |old| old.skipped) {
            let _ = writeln!(text, "  {} skipped times: {skipped} decisions", service.name());
        }
    }
    text.push_str(&service::updates(before, after));
    text.push_str(&autoscale::changes(before, after));
    for (id, task) in &after.tasks {
        let old = before.tasks.get(id).map(|old| line(before, old));
        let new = line(after, task);
        if old.as_ref() != Some(&new) {
            text.push_str(&new);
        }
    }
    text.push_str(&removals(before, after));
    text
}

fn removals(before: &State, after: &State) -> String {
    let mut text = String::new();
    for (id, task) in before.tasks.iter().filter(|(id, _)| !after.tasks.contains_key(*id)) {
        let _ = writeln!(text, "  gone: {} ({id})", before.task_name(task.id));
    }
    for (_, gone) in before.services.iter().filter(|(id, _)| !after.services.contains_key(*id)) {
        let _ = writeln!(text, "  gone: service {}", gone.name());
    }
    for (_, gone) in before.networks.iter().filter(|(id, _)| !after.networks.contains_key(*id)) {
        let _ = writeln!(text, "  gone: network {}", gone.name);
    }
    for (_, gone) in before.volumes.iter().filter(|(id, _)| !after.volumes.contains_key(*id)) {
        let _ = writeln!(text, "  gone: volume {}", gone.name);
    }
    for (name, _) in before.stacks.iter().filter(|(id, _)| !after.stacks.contains_key(*id)) {
        let _ = writeln!(text, "  gone: stack {name}");
    }
    for (_, gone) in before.nodes.iter().filter(|(id, _)| !after.nodes.contains_key(*id)) {
        let _ = writeln!(text, "  gone: node n{}", gone.id);
    }
    text
}
