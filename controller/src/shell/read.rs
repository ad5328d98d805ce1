//! Reads: linearizable by default, or at once from this controller's own state and marked so.

use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::{NodeId, RaftId, TaskId, Timestamp};
use swarm_proto::object::{NamedContent, Service, Stack};
use swarm_proto::spec::ContentKind;
use swarm_proto::wire;
use tokio::time::sleep;
use tonic::Status;

use super::controller::{Controller, LEADER_PATIENCE};
use super::hub::View;
use super::refusal::Refusal;
use super::setup;
use crate::core::{Content, Reserved, State};

/// How long a read that may be stale waits for a leader.
const SOON: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(40);

/// Stands for each value of a container's environment, which no view shows.
const HIDDEN: &str = "***";

/// A secret, in messages.
const SECRET: i32 = wire::ContentKind::Secret as i32;

impl Controller {
    /// A view that shows every write acknowledged before now, or the local one when it may be stale.
    pub async fn read(&self, stale: bool) -> Result<Arc<View>, Status> {
        if stale {
            return Ok(self.hub.view());
        }
        let view = self.read_within(LEADER_PATIENCE).await;
        view.ok_or_else(|| self.no_leader())
    }

    /// As [`Controller::read`], but when nobody leads soon, the local view; true when it may be stale.
    pub async fn read_soon(&self) -> (Arc<View>, bool) {
        match self.read_within(SOON).await {
            Some(view) => (view, false),
            None => (self.hub.view(), true),
        }
    }

    async fn read_within(&self, patience: Duration) -> Option<Arc<View>> {
        let passed = async {
            while !self.core.read_barrier().await {
                sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(patience, passed).await.ok()?;
        Some(self.hub.view())
    }
}

impl Controller {
    /// The bytes of a named config.
    pub async fn config_bytes(&self, name: &str) -> Result<wire::GetConfigResponse, Status> {
        let state = Arc::clone(&self.read(false).await?.state);
        let absent = || {
            Refusal::not_found(format!("there is no config `{name}`"))
                .hint("`swarmctl config ls` lists them")
        };
        let named = state.find_named_content(ContentKind::Config, name).ok_or_else(absent)?;
        let content = state.contents.get(&named.content()).and_then(Content::bytes);
        let content = content.ok_or_else(absent)?;
        Ok(wire::GetConfigResponse { data: content.reveal().to_vec() })
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
        named_contents: state.named_contents.values().map(|named| content_view(named)).collect(),
        cluster_id: state.cluster.as_ref().map(|cluster| cluster.id.clone()).unwrap_or_default(),
        leader: view.leader.map_or(0, |leader| leader.0),
        voters: numbers(&view.members.voters),
        learners: numbers(&view.members.learners),
        clock: state.clock.0,
        unreachable: unreachable(view),
        node: String::new(),
        known_at: 0,
        reserved: reserved(state),
    }
}

fn reserved(state: &State) -> Vec<wire::NodeReserved> {
    let all = state.index.reserved.iter();
    let one = |(node, reserved): (&NodeId, &Reserved)| wire::NodeReserved {
        node: node.0,
        share: Some((&reserved.share).into()),
        resources: reserved.resources().iter().map(Into::into).collect(),
    };
    all.map(one).collect()
}

fn unreachable(view: &View) -> Vec<u64> {
    let lost = view.contacts.iter().filter(|(_, contact)| !contact.connected);
    lost.map(|(raft_id, _)| raft_id.0).collect()
}

/// The stack that a task belongs to; empty when its service is gone.
pub fn stack_of_task(state: &State, task: TaskId) -> &str {
    state.services.get(&task.service).map_or("", |service| service.stack.as_str())
}

/// A stack without its containers' environment values and its secrets' digests, by which a short secret could be
/// guessed.
pub fn stack_view(stack: &Stack) -> wire::Stack {
    let mut view = wire::Stack::from(stack);
    if let Some(spec) = &mut view.spec {
        spec.services.values_mut().for_each(hide_private);
        spec.secrets.values_mut().for_each(|secret| secret.digest = None);
    }
    view
}

/// A named secret or config without its bytes, and a secret without its digest.
pub fn content_view(named: &NamedContent) -> wire::ContentView {
    let is_config = named.kind == ContentKind::Config;
    wire::ContentView {
        kind: named.kind.into(),
        name: named.name.clone(),
        digest: is_config.then(|| named.digest.to_string()),
        size: named.size,
        labels: named.labels.clone(),
        created_at: named.created_at.0,
    }
}

/// A service without its containers' environment values and its secrets' digests.
pub fn service_view(service: &Service) -> wire::Service {
    let mut view = wire::Service::from(service);
    view.spec.iter_mut().chain(&mut view.previous).for_each(hide_private);
    view
}

fn hide_private(spec: &mut wire::ServiceSpec) {
    let Some(container) = &mut spec.container else { return };
    let values = container.environment.values_mut();
    for value in values.filter_map(|variable| variable.value.as_mut()) {
        HIDDEN.clone_into(value);
    }
    for file in container.files.iter_mut().filter(|file| file.kind == SECRET) {
        file.digest = None;
    }
}
