use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Node, Service, Stack, Task};

use super::node::{availability_words, status_words};
use super::{View, time};
use crate::state::{Change, State};

/// Something that happened, as `events` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// When, by cluster time.
    pub time: String,
    /// `stack`, `service`, `task`, `node`, `network`, `volume`, `secret`, `config` or `leader`.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// What happened: a state, `deployed`, `updated`, `removed`, …
    pub action: String,
    /// More about it.
    pub message: String,
    #[serde(skip)]
    at: Timestamp,
}

impl EventView {
    fn new(at: Timestamp, kind: &str, name: String, action: String, message: String) -> Self {
        Self { time: time(at), kind: kind.to_owned(), name, action, message, at }
    }

    /// What a change says; `None` when it is not worth a line.
    pub fn of(state: &State, change: &Change) -> Option<Self> {
        let now = state.clock;
        let plain = |kind: &str, name: &str, removing: bool| {
            let action = if removing { "removing" } else { "changed" };
            Self::new(now, kind, name.to_owned(), action.to_owned(), String::new())
        };
        Some(match change {
            Change::Snapshot | Change::Nothing => return None,
            Change::Stack(stack) => Self::of_stack(stack, now),
            Change::Service(service) => Self::of_service(service, now),
            Change::Task(task) => Self::of_task(state, task),
            Change::Node(node) => Self::of_node(state, node),
            Change::Network(network) => plain("network", &network.name, network.removing),
            Change::Volume(volume) => plain("volume", &volume.name, volume.removing),
            Change::NamedContent(named) => {
                let (kind, action) = (named.kind.as_str(), "created".to_owned());
                Self::new(now, kind, named.name.clone(), action, String::new())
            }
            Change::Removed(kind, name) => {
                Self::new(now, kind, name.clone(), "removed".to_owned(), String::new())
            }
            Change::Leader(leader) => {
                let leads = |node: &&Node| node.raft_id.is_some_and(|id| id.0 == *leader);
                match state.nodes.values().find(leads) {
                    Some(node) => {
                        let name = state.node_name(node.id);
                        Self::new(now, "leader", name, "elected".to_owned(), String::new())
                    }
                    None if *leader == 0 => {
                        Self::new(now, "leader", String::new(), "lost".to_owned(), String::new())
                    }
                    None => Self::new(
                        now,
                        "leader",
                        leader.to_string(),
                        "elected".to_owned(),
                        String::new(),
                    ),
                }
            }
        })
    }

    /// What the state itself still tells of the past, oldest first.
    pub fn of_past(state: &State) -> Vec<Self> {
        let mut events: Vec<Self> = Vec::new();
        events.extend(state.stacks.values().map(|stack| Self::of_stack(stack, stack.deployed_at)));
        events.extend(state.services.values().map(|s| Self::of_service(s, s.updated_at)));
        events.extend(state.tasks.values().map(|task| Self::of_task(state, task)));
        events.extend(state.nodes.values().map(|node| Self::of_node(state, node)));
        events.sort_by(|a, b| (a.at, &a.kind, &a.name).cmp(&(b.at, &b.kind, &b.name)));
        events
    }

    fn of_stack(stack: &Stack, at: Timestamp) -> Self {
        let action = if stack.removing { "removing" } else { "deployed" };
        let message = format!("revision {}", stack.revision);
        Self::new(at, "stack", stack.spec.name.clone(), action.to_owned(), message)
    }

    fn of_service(service: &Service, at: Timestamp) -> Self {
        // What was scaled last was not changed otherwise since.
        let scaling = service.scaling.as_ref().filter(|one| one.at == service.updated_at);
        if let Some(scaling) = scaling.filter(|_| !service.removing) {
            let action = "scaled".to_owned();
            let message = format!("from {} to {}: {}", scaling.from, scaling.to, scaling.reason);
            return Self::new(at, "service", service.name(), action, message);
        }
        let action = match (service.removing, service.spec_version) {
            (true, _) => "removing",
            (false, 1) => "created",
            (false, _) => "updated",
        };
        let update = service.update.as_ref().map(|update| match update.message.as_str() {
            "" => format!(", {}", update.state),
            message => format!(", {}: {message}", update.state),
        });
        let message = format!("spec {}{}", service.spec_version, update.unwrap_or_default());
        Self::new(at, "service", service.name(), action.to_owned(), message)
    }

    fn of_task(state: &State, task: &Task) -> Self {
        let on = task.node.map(|node| format!("on {}", state.node_name(node)));
        let code = task.status.exit_code.map(|code| format!("exit code {code}"));
        let message = Some(task.status.message.clone()).filter(|message| !message.is_empty());
        let message: Vec<String> = [on, code, message].into_iter().flatten().collect();
        let name = format!("{} ({})", state.task_name(task), task.id);
        let action = task.status.state.to_string();
        Self::new(task.status.since, "task", name, action, message.join(", "))
    }

    fn of_node(state: &State, node: &Node) -> Self {
        let action = status_words(node.status).to_owned();
        let message = availability_words(node.availability).to_owned();
        Self::new(node.status_since, "node", state.node_name(node.id), action, message)
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let message =
            if self.message.is_empty() { String::new() } else { format!("  {}", self.message) };
        format!("{}  {:<8} {}  {}{message}", self.time, self.kind, self.name, self.action)
    }
}

impl View for EventView {
    const COLUMNS: &'static [&'static str] = &["TIME", "KIND", "NAME", "ACTION", "MESSAGE"];
    const WIDE_COLUMNS: &'static [&'static str] = &[];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        [&self.time, &self.kind, &self.name, &self.action, &self.message].map(Clone::clone).to_vec()
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
