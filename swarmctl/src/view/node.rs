use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Availability, Node, NodeStatus, Role, TaskState};

use super::share::{self, ResourceView, ShareView};
use super::{View, age, bytes, time};
use crate::state::State;

/// A node, as `node ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its id.
    pub id: u64,
    /// Its host name.
    pub hostname: String,
    /// `controller` or `agent`.
    pub role: String,
    /// `ready`, `down` or `unknown`.
    pub status: String,
    /// Since when.
    pub status_since: String,
    /// Whether an operator said that it is lost, and it has not come back since.
    pub lost: bool,
    /// How often it went down lately, as far as that is remembered.
    pub recent_downs: usize,
    /// From when on it gets new tasks again, where it went down too often lately.
    pub steady_at: Option<String>,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// Its controller, when it runs one.
    pub controller: Option<ControllerView>,
    /// At which other hosts reach it.
    pub address: Option<String>,
    /// Tasks that run there.
    pub tasks: usize,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// The agent's labels.
    pub engine_labels: BTreeMap<String, String>,
    /// CPUs in thousandths.
    pub millicpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Processes and threads that it can have; 0 where its agent does not say.
    pub pids: u64,
    /// What is kept for the host itself.
    pub reserve: ShareView,
    /// What tasks have reserved.
    pub reserved: ShareView,
    /// What tasks can still reserve.
    pub free: ShareView,
    /// What it counts or names beside that, by kind.
    pub generic_resources: BTreeMap<String, ResourceView>,
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`
    pub arch: String,
    /// The agent's version.
    pub agent_version: String,
    /// What on the host would get in the way.
    pub warnings: Vec<String>,
    /// When it joined.
    pub joined_at: String,
    #[serde(skip)]
    since_time: Timestamp,
    #[serde(skip)]
    steady_time: Option<Timestamp>,
}

/// A controller's part in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControllerView {
    /// Its Raft id.
    pub raft_id: u64,
    /// Where it listens.
    pub address: Option<String>,
    /// `leader`, `voter`, `learner` or `none`.
    pub member: String,
    /// Whether the controller that answered can reach it.
    pub reachable: bool,
}

impl ControllerView {
    fn word(&self) -> String {
        if self.reachable { self.member.clone() } else { "unreachable".to_owned() }
    }
}

impl NodeView {
    /// The view of one node.
    pub fn of(state: &State, node: &Node) -> Self {
        let description = &node.description;
        let runs_here = |task: &&swarm_proto::object::Task| {
            task.node == Some(node.id) && task.status.state == TaskState::Running
        };
        let controller = node.raft_id.map(|raft_id| ControllerView {
            raft_id: raft_id.0,
            address: node.controller_address.clone(),
            member: member(state, raft_id.0).to_owned(),
            reachable: !state.unreachable.contains(&raft_id.0),
        });
        let reserved = state.reserved.get(&node.id).cloned().unwrap_or_default();
        Self {
            id: node.id.0,
            hostname: description.hostname.clone(),
            role: match node.role {
                Role::Controller => "controller",
                Role::Agent => "agent",
            }
            .to_owned(),
            status: status_words(node.status).to_owned(),
            status_since: time(node.status_since),
            lost: node.declared_lost,
            recent_downs: node.recent_downs.len(),
            steady_at: node.steady_at().map(time),
            availability: availability_words(node.availability).to_owned(),
            controller,
            address: description.address.map(|address| address.to_string()),
            tasks: state.tasks.values().filter(runs_here).count(),
            labels: node.labels.clone(),
            engine_labels: description.engine_labels.clone(),
            millicpus: description.millicpus,
            memory: description.memory,
            pids: description.pids,
            reserve: description.reserve.into(),
            reserved: reserved.share.into(),
            free: description.for_tasks().without(reserved.share).into(),
            generic_resources: share::resources(description, &reserved),
            os: description.os.clone(),
            arch: description.arch.clone(),
            agent_version: description.agent_version.clone(),
            warnings: description.warnings.clone(),
            joined_at: time(node.joined_at),
            since_time: node.status_since,
            steady_time: node.steady_at(),
        }
    }
}

impl NodeView {
    fn status_cell(&self, now: Timestamp) -> String {
        let status = format!("{} {}", self.status, age(self.since_time, now));
        if self.lost {
            format!("{status}, lost")
        } else if self.steady_time.is_some_and(|at| now < at) {
            format!("{status}, not steady yet")
        } else {
            status
        }
    }
}

pub(super) fn status_words(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Unknown => "unknown",
        NodeStatus::Ready => "ready",
        NodeStatus::Down => "down",
    }
}

pub(super) fn availability_words(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

fn member(state: &State, raft_id: u64) -> &'static str {
    if state.leader == raft_id {
        "leader"
    } else if state.voters.contains(&raft_id) {
        "voter"
    } else if state.learners.contains(&raft_id) {
        "learner"
    } else {
        "none"
    }
}

impl View for NodeView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "CONTROLLER", "ADDRESS", "TASKS"];
    const WIDE_COLUMNS: &'static [&'static str] =
        &["CPUS", "MEMORY", "FREE", "PLATFORM", "LABELS", "VERSION", "WARNINGS"];

    fn name(&self) -> String {
        if self.hostname.is_empty() { self.id.to_string() } else { self.hostname.clone() }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.hostname.clone(),
            self.status_cell(now),
            self.availability.clone(),
            self.controller.as_ref().map(ControllerView::word).unwrap_or_default(),
            self.address.clone().unwrap_or_default(),
            self.tasks.to_string(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let labels: Vec<String> =
            self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            share::cpus(self.millicpus),
            bytes(self.memory),
            share::free(self.free, &self.generic_resources),
            format!("{}/{}", self.os, self.arch),
            labels.join(","),
            self.agent_version.clone(),
            self.warnings.join("; "),
        ]
    }
}
