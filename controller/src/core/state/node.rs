//! Writes of nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::{NetworkId, NodeId, RaftId, Timestamp};
use swarm_proto::object::{Node, NodeDescription, NodeStatus, Role};
use swarm_proto::version::ClusterVersion;

use super::{Event, State, Stored, Versions};

/// What placement constraints look at.
fn constrained(node: &Node) -> impl PartialEq + '_ {
    let NodeDescription { hostname, address, os, arch, engine_labels, .. } = &node.description;
    (&node.labels, node.role, hostname, address, os, arch, engine_labels)
}

/// What a change of its status says of a node beyond that.
fn remember_status(node: &mut Node, status: NodeStatus, now: Timestamp) {
    match status {
        NodeStatus::Down => {
            node.recent_downs.push(now);
            let surplus = node.recent_downs.len().saturating_sub(Node::DOWNS_KEPT);
            node.recent_downs.drain(..surplus);
        }
        NodeStatus::Ready => node.declared_lost = false,
        NodeStatus::Unknown => {}
    }
}

impl State {
    pub(super) fn act_node(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::AddNode(node) => self.add_node(node, events),
            Action::SetNodeStatus { node, status } => self.set_node_status(*node, *status, events),
            Action::SetNodeLost(id) => {
                self.nodes.get(id).filter(|node| node.status == NodeStatus::Down)?;
                self.change_node(*id, events, |node, versions| {
                    node.declared_lost = true;
                    versions.status += 1;
                })
            }
            Action::SetNodeDescription { node, description } => {
                let old = self.nodes.get(node)?.description.address;
                self.change_node(*node, events, |node, versions| {
                    node.description = description.as_ref().clone();
                    versions.status += 1;
                })?;
                if old != description.address {
                    self.touch_networks_of(*node);
                }
                Some(())
            }
            Action::SetNodeWish { node, availability, labels } => {
                self.change_node(*node, events, |node, versions| {
                    node.availability = *availability;
                    node.labels = labels.iter().cloned().collect();
                    versions.spec += 1;
                })
            }
            Action::SetNodeAddress { node, address } => {
                self.change_node(*node, events, |node, versions| {
                    node.controller_address = Some(address.clone());
                    versions.status += 1;
                })
            }
            Action::SetNodeController { node, controller } => {
                self.nodes.get(node)?;
                if let Some((raft_id, _)) = controller {
                    self.take_raft_id(*raft_id)?;
                }
                self.change_node(*node, events, |node, versions| {
                    let (raft_id, address) = controller.clone().unzip();
                    node.role = if raft_id.is_some() { Role::Controller } else { Role::Agent };
                    node.raft_id = raft_id;
                    node.controller_address = address;
                    versions.spec += 1;
                })
            }
            Action::RemoveNode(id) => self.remove_node(*id, events),
            _ => None,
        }
    }

    fn set_node_status(
        &mut self,
        id: NodeId,
        status: NodeStatus,
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let since = self.clock;
        let remembers = self.cluster_version >= ClusterVersion(4);
        self.change_node(id, events, |node, versions| {
            if node.status != status {
                node.status_since = since;
                if remembers {
                    remember_status(node, status, since);
                }
            }
            node.status = status;
            versions.status += 1;
        })
    }

    fn add_node(&mut self, node: &Node, events: &mut Vec<Event>) -> Option<()> {
        if node.id.0 != self.next.node {
            return None;
        }
        if let Some(raft_id) = node.raft_id {
            self.take_raft_id(raft_id)?;
        }
        self.next.node += 1;
        let versions = Versions { spec: 1, desired: 1, status: 1 };
        self.put_node(Stored { object: Arc::new(node.clone()), versions }, events);
        self.look_at_all_gateways();
        Some(())
    }

    /// Each is used once: a member that comes back with an empty disk must not be taken for its former self.
    fn take_raft_id(&mut self, raft_id: RaftId) -> Option<()> {
        if raft_id.0 != self.next.raft {
            return None;
        }
        self.next.raft += 1;
        Some(())
    }

    fn change_node(
        &mut self,
        id: NodeId,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Node, &mut Versions),
    ) -> Option<()> {
        let mut stored = self.nodes.get(&id)?.clone();
        change(Arc::make_mut(&mut stored.object), &mut stored.versions);
        self.put_node(stored, events);
        Some(())
    }

    fn put_node(&mut self, stored: Stored<Node>, events: &mut Vec<Event>) {
        self.mix(stored.id.0);
        self.mix(stored.versions.spec);
        self.mix(stored.versions.status);
        events.push(Event::Node(stored.object.clone()));
        let id = stored.id;
        let moves_no_task =
            self.nodes.get(&id).is_none_or(|old| constrained(old) == constrained(&stored));
        if moves_no_task {
            self.nodes.insert(id, stored);
            return;
        }
        let tasks: Vec<_> = super::tasks_on(self, id).cloned().collect();
        for task in &tasks {
            self.forget_contribution(task);
        }
        self.nodes.insert(id, stored);
        for task in &tasks {
            self.add_contribution(task);
        }
        let services: BTreeSet<_> = tasks.iter().map(|task| task.id.service).collect();
        for service in services {
            self.judge(service);
        }
    }

    /// A node may only be forgotten once no task refers to it.
    fn remove_node(&mut self, id: NodeId, events: &mut Vec<Event>) -> Option<()> {
        let node = self.nodes.get(&id)?.clone();
        if super::tasks_on(self, id).next().is_some() {
            return None;
        }
        self.nodes.remove(&id);
        self.index.loads.remove(&id);
        self.index.reserved.remove(&id);
        self.index.node_versions.remove(&id);
        self.look_at_all_gateways();
        self.mix(id.0);
        let name = node.description.hostname.clone();
        events.push(Event::Removed { object: ObjectId::Node(id), name, stack: String::new() });
        Some(())
    }

    fn look_at_all_gateways(&mut self) {
        let networks: Vec<NetworkId> = self.networks.keys().copied().collect();
        self.index.gateways.extend(networks);
    }

    fn touch_networks_of(&mut self, node: NodeId) {
        let has_place = |id: &&NetworkId| {
            let network = self.networks.get(*id);
            network.is_some_and(|network| network.gateways.iter().any(|gate| gate.node == node))
        };
        let networks: Vec<NetworkId> = self.networks.keys().filter(has_place).copied().collect();
        for network in networks {
            self.touch_network(network);
        }
    }
}
