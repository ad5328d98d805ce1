//! Reads: linearizable by default, or at once from this controller's own state and marked so.

use std::time::Duration;

use swarm_proto::id::{RaftId, TaskId, Timestamp};
use swarm_proto::object::{Service, Stack};
use swarm_proto::wire;
use tokio::time::sleep;
use tonic::Status;

use super::controller::{Controller, LEADER_PATIENCE};
use super::hub::View;
use super::setup;
use crate::core::State;

/// How long a read that may be stale waits for a leader.
const SOON: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(40);

/// Stands for each value of a container's environment, which no view shows.
const HIDDEN: &str = "***";

impl Controller {
    /// A view that shows every write acknowledged before now, or the local one when it may be stale.
    pub async fn read(&self, stale: bool) -> Result<View, Status> {
        if stale {
            return Ok(self.hub.view());
        }
        let view = self.read_within(LEADER_PATIENCE).await;
        view.ok_or_else(|| self.no_leader())
    }

    /// As [`Controller::read`], but when nobody leads soon, the local view; true when it may be stale.
    pub async fn read_soon(&self) -> (View, bool) {
        match self.read_within(SOON).await {
            Some(view) => (view, false),
            None => (self.hub.view(), true),
        }
    }

    async fn read_within(&self, patience: Duration) -> Option<View> {
        let passed = async {
            while !self.core.read_barrier().await {
                sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(patience, passed).await.ok()?;
        Some(self.hub.view())
    }
}

/// When a view was current last: now while somebody leads, else when the leader was lost, else at the last change.
pub fn known_at(view: &View) -> Timestamp {
    match (view.leader, view.leaderless_since) {
        (Some(_), _) => setup::now(),
        (None, Some(since)) => since,
        (None, None) => view.state.clock,
    }
}

impl Controller {
    /// Says in a view who shows it, and when that controller knew for certain.
    pub fn sign(&self, view: &View, shown: &mut wire::StateView) {
        shown.node = self.host(view);
        shown.known_at = known_at(view).0;
    }

    /// This host's name.
    pub fn host(&self, view: &View) -> String {
        let node = view.state.nodes.get(&self.node);
        node.map_or_else(|| self.node.to_string(), |node| node.description.hostname.clone())
    }
}

/// Everything that a user may see; only one stack's objects, and all nodes, when `stack` is not empty.
pub fn state_view(view: &View, stale: bool, stack: &str) -> wire::StateView {
    let state = &view.state;
    let wanted = |of: &str| stack.is_empty() || of == stack;
    let stacks = state.stacks.values().filter(|found| wanted(&found.spec.name));
    let services = state.services.values().filter(|found| wanted(&found.stack));
    let tasks = state.tasks.values().filter(|task| wanted(stack_of_task(state, task.id)));
    let networks = state.networks.values().filter(|found| wanted(&found.stack));
    let volumes = state.volumes.values().filter(|found| wanted(&found.stack));
    let numbers = |ids: &[RaftId]| ids.iter().map(|id| id.0).collect();
    wire::StateView {
        stale,
        applied: state.applied,
        stacks: stacks.map(|stack| stack_view(stack)).collect(),
        services: services.map(|service| service_view(service)).collect(),
        tasks: tasks.map(|task| wire::Task::from(&**task)).collect(),
        nodes: state.nodes.values().map(|node| wire::Node::from(&**node)).collect(),
        networks: networks.map(|network| wire::Network::from(&**network)).collect(),
        volumes: volumes.map(|volume| wire::Volume::from(&**volume)).collect(),
        cluster_id: state.cluster.as_ref().map(|cluster| cluster.id.clone()).unwrap_or_default(),
        leader: view.leader.map_or(0, |leader| leader.0),
        voters: numbers(&view.members.voters),
        learners: numbers(&view.members.learners),
        clock: state.clock.0,
        unreachable: unreachable(view),
        node: String::new(),
        known_at: 0,
    }
}

fn unreachable(view: &View) -> Vec<u64> {
    let lost = view.contacts.iter().filter(|(_, contact)| !contact.connected);
    lost.map(|(raft_id, _)| raft_id.0).collect()
}

/// The stack that a task belongs to; empty when its service is gone.
pub fn stack_of_task(state: &State, task: TaskId) -> &str {
    state.services.get(&task.service).map_or("", |service| service.stack.as_str())
}

/// A stack without its containers' environment values.
pub fn stack_view(stack: &Stack) -> wire::Stack {
    let mut view = wire::Stack::from(stack);
    let services = view.spec.iter_mut().flat_map(|spec| spec.services.values_mut());
    services.for_each(hide_environment);
    view
}

/// A service without its containers' environment values.
pub fn service_view(service: &Service) -> wire::Service {
    let mut view = wire::Service::from(service);
    view.spec.iter_mut().for_each(hide_environment);
    view
}

fn hide_environment(spec: &mut wire::ServiceSpec) {
    let container = spec.container.iter_mut();
    let values = container.flat_map(|container| container.environment.values_mut());
    for value in values.filter_map(|variable| variable.value.as_mut()) {
        HIDDEN.clone_into(value);
    }
}
