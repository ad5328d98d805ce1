//! Compares what is wished, what each controller holds, and what each host holds. Pure.

use std::collections::BTreeSet;

use swarm_proto::id::{NetworkId, NodeId, TaskId, VolumeId};
use swarm_proto::object::{Node, NodeStatus, Role, Task, TaskState};
use swarm_proto::wire;

use crate::convergence;
use crate::state::State;
use crate::view::DifferenceView;

/// Entries of the log that a controller may be behind without a word.
const LAG: u64 = 1_000;

/// All that was asked.
#[derive(Debug, Clone)]
pub struct Answers {
    /// What the controllers say of themselves.
    pub status: wire::ClusterStatus,
    /// The replicated state.
    pub state: State,
    /// What hosts say of themselves.
    pub hosts: Vec<wire::HostInspection>,
}

/// Every difference, from the whole to the single.
pub fn differences(answers: &Answers) -> Vec<DifferenceView> {
    let mut found = controllers(&answers.status);
    found.extend(services(&answers.state));
    for node in answers.state.nodes.values() {
        let host = answers.hosts.iter().find(|host| host.node == node.id.0);
        found.extend(of_node(&answers.state, node, host));
    }
    found
}

fn difference(node: &str, kind: &str, object: &str, problem: String, hint: &str) -> DifferenceView {
    let of = |text: &str| text.to_owned();
    DifferenceView { node: of(node), kind: of(kind), object: of(object), problem, hint: of(hint) }
}

/// Controllers that are away, far behind, or hold another state than others at the same entry of the log.
fn controllers(status: &wire::ClusterStatus) -> Vec<DifferenceView> {
    let mut found = Vec::new();
    let numbers = || status.members.iter().filter_map(|m| Some((m, m.numbers.as_ref()?)));
    let commit = numbers().map(|(_, numbers)| numbers.commit).max().unwrap_or_default();
    if status.leader == 0 {
        let hint = "see that the controllers run and reach each other: `swarmctl cluster status`";
        let problem = String::from("no controller leads: nothing can be changed");
        found.push(difference("", "controller", "cluster", problem, hint));
    }
    for member in &status.members {
        let Some(own) = &member.numbers else {
            let hint = "see that swarm-controller runs there, and that the host can be reached";
            let problem = format!("cannot be reached: {}", member.error);
            found.push(difference(&member.hostname, "controller", &member.hostname, problem, hint));
            continue;
        };
        let behind = commit.saturating_sub(own.applied);
        if behind > LAG {
            let hint = "see its disk and its network: `swarmctl cluster status`";
            let problem = format!("is {behind} entries of the log behind");
            found.push(difference(&member.hostname, "controller", &member.hostname, problem, hint));
        }
        // Those before it in the list speak for it.
        let earlier = numbers().take_while(|(other, _)| other.raft_id != member.raft_id);
        let mut same = earlier.filter(|(_, other)| other.applied == own.applied);
        if let Some((other, _)) = same.find(|(_, other)| other.checksum != own.checksum) {
            let hint = "make a backup, then take the one that is wrong out (`swarmctl node demote`) and let it join again";
            let problem = format!(
                "holds another state than `{}` at entry {} of the log",
                other.hostname, own.applied
            );
            found.push(difference(&member.hostname, "controller", &member.hostname, problem, hint));
        }
    }
    found
}

/// Services that are not as their specs say.
fn services(state: &State) -> Vec<DifferenceView> {
    let mut found = Vec::new();
    for service in state.services.values() {
        let progress = convergence::of_service(state, service);
        if progress.is_converged() {
            continue;
        }
        let reason = progress.stuck.first().or(progress.lost.as_ref());
        let reason = reason.map_or_else(String::new, |(task, why)| format!(" ({task}: {why})"));
        let problem = format!("{}{reason}", progress.words());
        let hint = format!("see its tasks: `swarmctl ps {}`", service.name());
        found.push(difference("", "service", &service.name(), problem, &hint));
    }
    found
}

fn of_node(state: &State, node: &Node, host: Option<&wire::HostInspection>) -> Vec<DifferenceView> {
    // A host may run a controller alone.
    if node.status == NodeStatus::Unknown && node.role == Role::Controller {
        return Vec::new();
    }
    let name = state.node_name(node.id);
    let mut found = Vec::new();
    if node.status != NodeStatus::Ready {
        let (problem, hint) = match node.status {
            NodeStatus::Down => (
                "is down: its agent is not heard",
                "start the host and its agent; if it is lost, `swarmctl node lost` has its tasks replaced at once, and `swarmctl node rm` removes it",
            ),
            _ => (
                "is new: its agent was never heard",
                "start the host and its agent, or remove it with `swarmctl node rm`",
            ),
        };
        found.push(difference(&name, "node", &name, String::from(problem), hint));
    }
    let Some(host) = host.filter(|host| host.error.is_empty()) else {
        let why = host.map_or("no controller asked it", |host| host.error.as_str());
        let hint = "see that swarm-agent runs there, and that the controllers reach it";
        found.push(difference(
            &name,
            "host",
            &name,
            format!("could not be looked at: {why}"),
            hint,
        ));
        return found;
    };
    found.extend(tasks(state, node.id, &name, host));
    found.extend(networks(state, node.id, &name, host));
    found.extend(volumes(state, node.id, &name, host));
    found.extend(
        host.differences
            .iter()
            .map(|own| difference(&name, &own.kind, &own.object, own.problem.clone(), &own.hint)),
    );
    found
}

const RESYNC: &str = "restart the host's agent: it is told everything anew when it connects";

/// Tasks that the cluster and the host know differently.
fn tasks(
    state: &State,
    node: NodeId,
    name: &str,
    host: &wire::HostInspection,
) -> Vec<DifferenceView> {
    let held = |task: &wire::HeldTask| {
        let known = wire::TaskState::try_from(task.state).ok()?;
        let state = Option::<TaskState>::from(known)?;
        Some((task.id.parse::<TaskId>().ok()?, state))
    };
    let held: Vec<(TaskId, TaskState)> = host.tasks.iter().filter_map(held).collect();
    let of_node = |task: &&Task| task.node == Some(node);
    let wanted = |task: &&Task| {
        task.desired <= TaskState::Running
            && (TaskState::Accepted..=TaskState::Running).contains(&task.status.state)
    };
    let mut found = Vec::new();
    for task in state.tasks.values().filter(of_node).filter(wanted) {
        let task_name = state.task_name(task);
        match held.iter().find(|(id, _)| *id == task.id) {
            None => {
                let problem = String::from("is assigned to this host, which does not know it");
                found.push(difference(name, "task", &task_name, problem, RESYNC));
            }
            Some((_, own)) if *own != task.status.state => {
                let (cluster, own) = (word(task.status.state), word(*own));
                let problem = format!("is {own} on the host, and {cluster} for the cluster");
                found.push(difference(name, "task", &task_name, problem, RESYNC));
            }
            Some(_) => {}
        }
    }
    let strays = held
        .iter()
        .filter(|(id, _)| state.tasks.get(id).is_none_or(|task| task.node != Some(node)));
    found.extend(strays.map(|(id, own)| {
        let problem =
            format!("is {} on the host, and the cluster does not know it there", word(*own));
        let task = state.tasks.get(id).map_or_else(|| id.to_string(), |task| state.task_name(task));
        difference(name, "task", &task, problem, RESYNC)
    }));
    found
}

fn word(state: TaskState) -> String {
    format!("{state:?}").to_lowercase()
}

fn networks(
    state: &State,
    node: NodeId,
    name: &str,
    host: &wire::HostInspection,
) -> Vec<DifferenceView> {
    let has_place = |id: &NetworkId| {
        let network = state.networks.get(id);
        network.is_some_and(|network| network.gateways.iter().any(|gate| gate.node == node))
    };
    let held: BTreeSet<NetworkId> = host.networks.iter().copied().map(NetworkId).collect();
    let wanted: BTreeSet<NetworkId> = state.networks.keys().copied().filter(has_place).collect();
    let lacking = wanted.difference(&held).map(|id| {
        let problem = String::from("has a place on this host, which does not know it");
        difference(name, "network", &state.network_name(*id), problem, RESYNC)
    });
    let strays = held.iter().filter(|id| !state.networks.contains_key(id)).map(|id| {
        let problem = String::from("is kept by this host, and the cluster does not know it");
        difference(name, "network", &id.to_string(), problem, RESYNC)
    });
    lacking.chain(strays).collect()
}

fn volumes(
    state: &State,
    node: NodeId,
    name: &str,
    host: &wire::HostInspection,
) -> Vec<DifferenceView> {
    let held: BTreeSet<VolumeId> = host.volumes.iter().copied().map(VolumeId).collect();
    let of_node = state.volumes.values().filter(|volume| volume.holdings.contains_key(&node));
    let wanted: BTreeSet<VolumeId> = of_node.map(|volume| volume.id).collect();
    let name_of = |id: &VolumeId| {
        let volume = state.volumes.get(id);
        volume.map_or_else(|| id.to_string(), |volume| volume.name.clone())
    };
    let lacking = wanted.difference(&held).map(|id| {
        let problem = String::from("should be on this host, and its content is gone");
        let hint = "restore its content from a copy, or remove it with `swarmctl volume rm`";
        difference(name, "volume", &name_of(id), problem, hint)
    });
    let strays = held.difference(&wanted).map(|id| {
        let problem =
            String::from("is on this host's disk, and the cluster does not know it there");
        difference(name, "volume", &name_of(id), problem, RESYNC)
    });
    lacking.chain(strays).collect()
}
