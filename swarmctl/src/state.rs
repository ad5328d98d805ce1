//! What a controller shows of its state, kept up to date by its events.

use std::collections::BTreeMap;

use swarm_proto::convert::{ConvertError, Fields};
use swarm_proto::id::{NetworkId, NodeId, ServiceId, Slot, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{
    GenericResources, HostShare, Network, Node, Service, Stack, Task, Volume,
};
use swarm_proto::spec::ContentKind;
use swarm_proto::wire;
use swarm_proto::wire::watch_event::Event;

use crate::connect::{Client, Cluster};
use crate::failure::Failure;

/// The part of the cluster's state that a user sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Stacks by name.
    pub stacks: BTreeMap<String, Stack>,
    /// Services by identity.
    pub services: BTreeMap<ServiceId, Service>,
    /// Tasks by identity, dead ones too.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Nodes by identity.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Networks by identity.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Volumes by identity.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Secrets and configs that belong to no stack, by name.
    pub named_contents: BTreeMap<(ContentKind, String), NamedContent>,
    /// The leader's Raft id; 0 when none is known.
    pub leader: u64,
    /// Raft ids with a vote.
    pub voters: Vec<u64>,
    /// Raft ids that catch up.
    pub learners: Vec<u64>,
    /// Raft ids that the asked controller cannot reach.
    pub unreachable: Vec<u64>,
    /// The cluster's identity.
    pub cluster_id: String,
    /// Cluster time.
    pub clock: Timestamp,
    /// Whether it may be behind.
    pub stale: bool,
    /// What tasks have reserved of each node, as of when everything was read.
    pub reserved: BTreeMap<NodeId, Reserved>,
}

/// What tasks have reserved of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    /// Of what every host has.
    pub share: HostShare,
    /// Of what the node counts or names.
    pub resources: GenericResources,
}

impl TryFrom<wire::NodeReserved> for Reserved {
    type Error = ConvertError;

    fn try_from(reserved: wire::NodeReserved) -> Result<Self, ConvertError> {
        let resources = Fields("NodeReserved").resources("resources", reserved.resources)?;
        Ok(Self { share: reserved.share.map(Into::into).unwrap_or_default(), resources })
    }
}

/// A secret or config that belongs to no stack, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContent {
    /// Which of the two.
    pub kind: ContentKind,
    /// Its name.
    pub name: String,
    /// What is in a config.
    pub digest: Option<String>,
    /// Bytes.
    pub size: u64,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TryFrom<wire::ContentView> for NamedContent {
    type Error = ConvertError;

    fn try_from(view: wire::ContentView) -> Result<Self, ConvertError> {
        let kind = Fields("ContentView").enumeration::<wire::ContentKind, _>("kind", view.kind)?;
        Ok(Self {
            kind,
            name: view.name,
            digest: view.digest,
            size: view.size,
            labels: view.labels,
            created_at: Timestamp(view.created_at),
        })
    }
}

/// What an event did, as far as it is of interest one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Everything was replaced.
    Snapshot,
    /// A stack was deployed or its removal began.
    Stack(Stack),
    /// A service was created or changed.
    Service(Box<Service>),
    /// A task was created or changed.
    Task(Task),
    /// A node joined or changed.
    Node(Box<Node>),
    /// A network was created or changed.
    Network(Network),
    /// A volume was created or changed.
    Volume(Volume),
    /// A secret or config was created.
    NamedContent(NamedContent),
    /// Something is gone: kind and name.
    Removed(String, String),
    /// Another leader, by Raft id; 0 is none.
    Leader(u64),
    /// Only time went on.
    Nothing,
}

impl State {
    /// Reads the state, linearizable or, with `stale`, as the asked controller has it.
    pub(crate) async fn get(cluster: &Cluster, stale: bool) -> Result<Self, Failure> {
        let ask = async |mut client: Client, stale| {
            client.get_state(wire::GetStateRequest { stale }).await
        };
        let view = cluster.read(stale, ask).await?;
        if view.stale {
            warn_stale(&view, stale);
        }
        Self::from_view(view).map_err(|error| unreadable(&error))
    }

    pub(crate) fn from_view(view: wire::StateView) -> Result<Self, ConvertError> {
        let mut state = Self {
            leader: view.leader,
            voters: view.voters,
            learners: view.learners,
            unreachable: view.unreachable,
            cluster_id: view.cluster_id,
            clock: Timestamp(view.clock),
            stale: view.stale,
            ..Self::default()
        };
        for reserved in view.reserved {
            state.reserved.insert(NodeId(reserved.node), reserved.try_into()?);
        }
        for stack in view.stacks {
            let stack = Stack::try_from(stack)?;
            state.stacks.insert(stack.spec.name.clone(), stack);
        }
        state.services = by_id(view.services, |service: &Service| service.id)?;
        state.tasks = by_id(view.tasks, |task: &Task| task.id)?;
        state.nodes = by_id(view.nodes, |node: &Node| node.id)?;
        state.networks = by_id(view.networks, |network: &Network| network.id)?;
        state.volumes = by_id(view.volumes, |volume: &Volume| volume.id)?;
        state.named_contents =
            by_id(view.named_contents, |named: &NamedContent| (named.kind, named.name.clone()))?;
        Ok(state)
    }

    /// Brings one event in.
    pub(crate) fn apply(&mut self, event: wire::WatchEvent) -> Result<Change, ConvertError> {
        self.clock = self.clock.max(Timestamp(event.clock));
        let Some(event) = event.event else { return Ok(Change::Nothing) };
        Ok(match event {
            Event::Snapshot(view) => {
                *self = Self::from_view(view)?;
                Change::Snapshot
            }
            Event::Stack(stack) => {
                let stack = Stack::try_from(stack)?;
                let known = self.stacks.insert(stack.spec.name.clone(), stack.clone());
                let same = |known: Stack| {
                    (known.revision, known.removing) == (stack.revision, stack.removing)
                };
                // That what was left out of it has gone is told service by service.
                if known.is_some_and(same) { Change::Nothing } else { Change::Stack(stack) }
            }
            Event::Service(service) => {
                let service = Service::try_from(service)?;
                self.services.insert(service.id, service.clone());
                Change::Service(Box::new(service))
            }
            Event::Task(task) => {
                let task = Task::try_from(task)?;
                self.tasks.insert(task.id, task.clone());
                Change::Task(task)
            }
            Event::Node(node) => {
                let node = Node::try_from(node)?;
                self.nodes.insert(node.id, node.clone());
                Change::Node(Box::new(node))
            }
            Event::Network(network) => {
                let network = Network::try_from(network)?;
                self.networks.insert(network.id, network.clone());
                Change::Network(network)
            }
            Event::Volume(volume) => {
                let volume = Volume::try_from(volume)?;
                self.volumes.insert(volume.id, volume.clone());
                Change::Volume(volume)
            }
            Event::NamedContent(named) => {
                let named = NamedContent::try_from(named)?;
                self.named_contents.insert((named.kind, named.name.clone()), named.clone());
                Change::NamedContent(named)
            }
            Event::Leader(leader) => {
                self.leader = leader;
                Change::Leader(leader)
            }
            Event::Removed(removed) => self.remove(removed),
        })
    }

    fn remove(&mut self, removed: wire::Removed) -> Change {
        let id = removed.id.as_str();
        match removed.kind.as_str() {
            "stack" => drop(self.stacks.remove(id)),
            "service" => drop(id.parse().map(|id| self.services.remove(&id))),
            "task" => drop(id.parse().map(|id| self.tasks.remove(&id))),
            "node" => drop(id.parse().map(|id| self.nodes.remove(&id))),
            "network" => drop(id.parse().map(|id| self.networks.remove(&id))),
            "volume" => drop(id.parse().map(|id| self.volumes.remove(&id))),
            kind => {
                if let Ok(kind) = kind.parse() {
                    self.named_contents.remove(&(kind, id.to_owned()));
                }
            }
        }
        Change::Removed(removed.kind, removed.name)
    }

    /// A task's name: `<stack>_<service>.<slot>`.
    pub fn task_name(&self, task: &Task) -> String {
        self.name_of_task(task.id)
    }

    /// The same of a task that may be forgotten.
    pub fn name_of_task(&self, id: TaskId) -> String {
        let service = self.services.get(&id.service);
        let service = service.map_or_else(|| id.service.to_string(), Service::name);
        format!("{service}.{}", id.slot)
    }

    /// A node's host name, or its id when it has not said one.
    pub fn node_name(&self, id: NodeId) -> String {
        match self.nodes.get(&id).map(|node| node.description.hostname.as_str()) {
            Some("") | None => id.to_string(),
            Some(name) => name.to_owned(),
        }
    }

    /// A network's full name.
    pub fn network_name(&self, id: NetworkId) -> String {
        self.networks.get(&id).map_or_else(|| id.to_string(), |network| network.name.clone())
    }

    /// The services of a stack in the order of their names.
    pub fn services_of(&self, stack: &str) -> Vec<&Service> {
        let mut services: Vec<&Service> =
            self.services.values().filter(|service| service.stack == stack).collect();
        services.sort_by(|a, b| a.key.cmp(&b.key));
        services
    }

    /// All services in the order of their full names.
    pub fn services_by_name(&self) -> Vec<&Service> {
        let mut services: Vec<&Service> = self.services.values().collect();
        services.sort_by_key(|service| service.name());
        services
    }

    /// The tasks of a service in the order of slot and generation.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        let first = TaskId { service, slot: Slot::Replica(0), generation: 0 };
        let last = TaskId { service, slot: Slot::Node(NodeId(u64::MAX)), generation: u32::MAX };
        self.tasks.range(first..=last).map(|(_, task)| task)
    }

    /// A service by its full name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.values().find(|service| service.name() == name)
    }
}

/// Says how old a view may be, whether that was asked for or could not be helped.
pub(crate) fn warn_stale(view: &wire::StateView, asked: bool) {
    let wish = if asked { "" } else { "no leader: " };
    let (node, time) = (&view.node, crate::view::time(Timestamp(view.known_at)));
    crate::output::talk(&format!("{wish}shown as {node} knew it at {time}, and may be behind"));
}

/// An answer that this swarmctl does not understand.
pub(crate) fn unreadable(error: &ConvertError) -> Failure {
    Failure::because("the controller's answer cannot be read", error)
        .hint("swarmctl and the controllers must be of the same version; see `swarmctl version`")
}

fn by_id<W, T, K: Ord>(
    messages: Vec<W>,
    id: impl Fn(&T) -> K,
) -> Result<BTreeMap<K, T>, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    messages
        .into_iter()
        .map(|message| T::try_from(message).map(|object| (id(&object), object)))
        .collect()
}
