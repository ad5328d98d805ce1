//! Commands on nodes.

use std::collections::BTreeMap;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Availability, Node, NodeStatus, Role};

use super::command::Decision;
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::{State, Stored, tasks_on};

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Stored<Node>, Refusal> {
    state.find_node(name).ok_or_else(|| {
        Refusal::not_found(
            format!("there is no node `{name}`"),
            "`swarmctl node ls` lists the nodes",
        )
    })
}

pub(super) fn update(
    state: &State,
    name: &str,
    availability: Option<Availability>,
    set_labels: &BTreeMap<String, String>,
    remove_labels: &[String],
) -> Result<Decision, Refusal> {
    let node = find(state, name)?;
    let mut labels = node.labels.clone();
    labels.extend(set_labels.clone());
    for label in remove_labels {
        labels.remove(label);
    }
    let availability = availability.unwrap_or(node.availability);
    let read = vec![(ObjectId::Node(node.id), Counter::Spec)];
    let mut decision = Decision::new(Vec::new(), read);
    if labels != node.labels || availability != node.availability {
        decision.actions.push(Action::SetNodeWish {
            node: node.id,
            availability,
            labels: labels.into_iter().collect(),
        });
    }
    Ok(decision)
}

pub(super) fn remove(state: &State, name: &str, force: bool) -> Result<Decision, Refusal> {
    let node = find(state, name)?;
    if node.status == NodeStatus::Ready && !force {
        return Err(Refusal::conflict(
            format!("node `{name}` is not down"),
            "stop its agent first, or remove it by force: its tasks are lost",
        ));
    }
    refuse_only_controller(state, node)?;
    let read =
        vec![(ObjectId::Node(node.id), Counter::Spec), (ObjectId::Node(node.id), Counter::Status)];
    let tasks = tasks_on(state, node.id);
    let mut actions: Vec<Action> = tasks.map(|task| Action::RemoveTask(task.id)).collect();
    for volume in state.volumes.values().filter(|v| v.holdings.contains_key(&node.id)) {
        let (volume, node) = (volume.id, node.id);
        actions.push(Action::SetHolding { volume, node, holding: None });
    }
    actions.push(Action::RemoveNode(node.id));
    Ok(Decision::new(actions, read))
}

pub(super) fn declare_lost(state: &State, name: &str) -> Result<Decision, Refusal> {
    let node = find(state, name)?;
    if node.status != NodeStatus::Down {
        return Err(Refusal::conflict(
            format!("node `{name}` is not down"),
            "its tasks run there; `swarmctl node drain` moves them away",
        ));
    }
    let read = vec![(ObjectId::Node(node.id), Counter::Status)];
    let mut decision = Decision::new(Vec::new(), read);
    if !node.declared_lost {
        decision.actions.push(Action::SetNodeLost(node.id));
    }
    Ok(decision)
}

fn refuse_only_controller(state: &State, node: &Node) -> Result<(), Refusal> {
    let controllers = state.nodes.values().filter(|node| node.role == Role::Controller).count();
    if node.role == Role::Controller && controllers == 1 {
        return Err(Refusal::conflict(
            format!("node `{}` runs the only controller", name_of(node)),
            "let another controller join first",
        ));
    }
    Ok(())
}

/// Host name, or id where none is known.
pub(crate) fn name_of(node: &Node) -> String {
    match node.description.hostname.as_str() {
        "" => node.id.to_string(),
        name => name.to_owned(),
    }
}

pub(super) fn demote(state: &State, name: &str) -> Result<Decision, Refusal> {
    let node = find(state, name)?;
    refuse_only_controller(state, node)?;
    let read = vec![(ObjectId::Node(node.id), Counter::Spec)];
    let mut decision = Decision::new(Vec::new(), read);
    if node.role == Role::Controller {
        decision.actions.push(Action::SetNodeController { node: node.id, controller: None });
    }
    Ok(decision)
}

pub(super) fn promote(state: &State, node: NodeId, address: &str) -> Result<Decision, Refusal> {
    let node = find(state, &node.to_string())?;
    let raft_id = RaftId(state.next.raft);
    let controller = Some((raft_id, address.to_owned()));
    let read = vec![(ObjectId::Node(node.id), Counter::Spec)];
    let actions = vec![Action::SetNodeController { node: node.id, controller }];
    let mut decision = Decision::new(actions, read);
    decision.done = CommandDone::Joined { node: node.id, raft_id: Some(raft_id) };
    Ok(decision)
}

pub(super) fn set_address(state: &State, node: NodeId, address: &str) -> Result<Decision, Refusal> {
    let stored = find(state, &node.to_string())?;
    let read = vec![(ObjectId::Node(node), Counter::Status)];
    let mut decision = Decision::new(Vec::new(), read);
    if stored.controller_address.as_deref() != Some(address) {
        let address = address.to_owned();
        decision.actions.push(Action::SetNodeAddress { node, address });
    }
    Ok(decision)
}
