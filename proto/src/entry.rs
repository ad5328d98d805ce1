//! The words of the replicated log: what an entry may do to the state.

use std::net::Ipv4Addr;

use crate::id::{NetworkId, NodeId, RaftId, ServiceId, TaskId, Timestamp, VolumeId};
use crate::object::{
    AllocatedPort, Attachment, Availability, Cluster, GenericResources, Leaving, NamedContent,
    Network, Node, NodeAttachment, NodeDescription, NodeStatus, RegistryLogin, RegistryName,
    RunState, Service, Stack, Task, TaskState, TaskStatus, UpdateStatus, Vip, Volume,
    VolumeHolding,
};
use crate::spec::{ContentBytes, ContentId, ContentKind};
use crate::version::ClusterVersion;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// The proposing leader's clock.
    pub time: Timestamp,
    /// The rolling checksum of the state that the leader expects before this entry; 0 checks nothing.
    pub checksum: u64,
    /// Applied one after the other, each wholly or not at all.
    pub groups: Vec<Group>,
}

/// Actions that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// What was read: when one of these moved on, the whole group does nothing.
    pub expect: Vec<Expect>,
    /// What to do.
    pub actions: Vec<Action>,
    /// The client's request that this answers, remembered so that it is applied once.
    pub request: Option<Request>,
}

/// An answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's own identity of it.
    pub id: String,
    /// What was answered, opaque to the state.
    pub answer: Vec<u8>,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectId {
    /// A stack by name.
    Stack(String),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
    /// A node.
    Node(NodeId),
    /// A network.
    Network(NetworkId),
    /// A volume.
    Volume(VolumeId),
    /// A named secret.
    Secret(String),
    /// A named config.
    Config(String),
}

impl ObjectId {
    /// A named secret or config.
    pub fn named_content(kind: ContentKind, name: &str) -> Self {
        match kind {
            ContentKind::Secret => Self::Secret(name.to_owned()),
            ContentKind::Config => Self::Config(name.to_owned()),
        }
    }
}

/// One of an object's write counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Counts what users wrote.
    Spec,
    /// Counts what controllers decided.
    Desired,
    /// Counts what agents reported.
    Status,
}

/// A version that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Of what.
    pub object: ObjectId,
    /// Which of its counters.
    pub counter: Counter,
    /// What it showed; 0 for an object that was absent.
    pub version: u64,
}

/// One write. An action that no longer fits the state does nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Replaces the cluster object.
    SetCluster(Box<Cluster>),
    /// Adds a node with the next node id (and the next raft id, for a controller).
    AddNode(Box<Node>),
    /// What the leader knows of a node's agent.
    SetNodeStatus {
        /// Which.
        node: NodeId,
        /// What.
        status: NodeStatus,
    },
    /// What an agent found on its host.
    SetNodeDescription {
        /// Which.
        node: NodeId,
        /// What.
        description: Box<NodeDescription>,
    },
    /// What the operator wishes.
    SetNodeWish {
        /// Which.
        node: NodeId,
        /// Whether it takes tasks.
        availability: Availability,
        /// All labels.
        labels: Vec<(String, String)>,
    },
    /// Where a node's controller answers.
    SetNodeAddress {
        /// Which.
        node: NodeId,
        /// `host:port`
        address: String,
    },
    /// Makes a node a controller with the next raft id, or takes its controller out of the cluster. A raft id that it
    /// had before is never used again.
    SetNodeController {
        /// Which.
        node: NodeId,
        /// The next raft id, and `host:port`; `None` leaves only its agent.
        controller: Option<(RaftId, String)>,
    },
    /// A node that is down will not come back soon: its tasks are given up. One that is not down stays as it is.
    SetNodeLost(NodeId),
    /// Forgets a node. Its ids are never used again.
    RemoveNode(NodeId),
    /// Adds or replaces a stack.
    SetStack(Box<Stack>),
    /// Forgets a stack.
    RemoveStack(String),
    /// Adds a service with the next service id, or replaces one's spec. Its addresses and ports are kept.
    SetService(Box<Service>),
    /// Decides a service's addresses and ports.
    SetServiceEndpoint {
        /// Which.
        service: ServiceId,
        /// Virtual addresses.
        vips: Vec<Vip>,
        /// Published ports.
        ports: Vec<AllocatedPort>,
    },
    /// Asks for a service's removal.
    SetServiceRemoving(ServiceId),
    /// Forgets a service without tasks.
    RemoveService(ServiceId),
    /// Adds a network with the next network id, or replaces one's spec.
    SetNetwork(Box<Network>),
    /// Decides which nodes have a place on a network.
    SetGateways {
        /// Which network.
        network: NetworkId,
        /// All places.
        gateways: Vec<NodeAttachment>,
    },
    /// Asks for a network's removal.
    SetNetworkRemoving(NetworkId),
    /// Forgets a network.
    RemoveNetwork(NetworkId),
    /// Addresses that every node has forgotten may be used again.
    ReleaseAddresses {
        /// On which network.
        network: NetworkId,
        /// Which.
        addresses: Vec<Ipv4Addr>,
    },
    /// Adds a volume with the next volume id, or replaces one's spec.
    SetVolume(Box<Volume>),
    /// What a node holds of a volume; `None` when it holds nothing.
    SetHolding {
        /// Which volume.
        volume: VolumeId,
        /// Which node.
        node: NodeId,
        /// What it holds.
        holding: Option<VolumeHolding>,
    },
    /// Asks for a volume's removal.
    SetVolumeRemoving(VolumeId),
    /// Forgets a volume.
    RemoveVolume(VolumeId),
    /// Adds the next task of a slot.
    AddTask(Box<Task>),
    /// Gives a new task its addresses; it becomes pending.
    SetTaskAddresses {
        /// Which.
        task: TaskId,
        /// One for each network.
        attachments: Vec<Attachment>,
    },
    /// Gives a pending task its node.
    AssignTask {
        /// Which.
        task: TaskId,
        /// Where.
        node: NodeId,
        /// What it is given of the node's generic resources. One that another task has, or that is not there, is an
        /// action that does not fit.
        resources: GenericResources,
    },
    /// Stops tasks of lower priority on a node for one that fits nowhere. All of them, or none.
    PreemptTasks {
        /// For which.
        task: TaskId,
        /// Where.
        node: NodeId,
        /// Which.
        victims: Vec<TaskId>,
    },
    /// What the controller wants of a task.
    SetTaskDesired {
        /// Which.
        task: TaskId,
        /// What. It only rises.
        desired: TaskState,
    },
    /// How far a task is. A lower state does nothing.
    SetTaskStatus {
        /// Which.
        task: TaskId,
        /// What.
        status: Box<TaskStatus>,
    },
    /// Why a task without a node waits.
    SetTaskMessage {
        /// Which.
        task: TaskId,
        /// For a person.
        message: String,
    },
    /// Forgets a task.
    RemoveTask(TaskId),
    /// Adds to a content what comes next of it. Part 0 begins it, anew where another try broke off.
    AddContentPart {
        /// Which.
        content: ContentId,
        /// Bytes of the whole.
        size: u64,
        /// Which part, from 0.
        part: u32,
        /// Its bytes.
        data: ContentBytes,
    },
    /// Contents that will soon be needed: they are not forgotten for some time.
    KeepContents(Vec<ContentId>),
    /// Forgets a content that nothing uses.
    RemoveContent(ContentId),
    /// Gives a content a name of its own.
    AddNamedContent(Box<NamedContent>),
    /// Takes a name from its content.
    RemoveNamedContent {
        /// A secret's or a config's.
        kind: ContentKind,
        /// Which.
        name: String,
    },
    /// What still goes of a stack, and not what went.
    SetStackLeaving {
        /// Which.
        stack: String,
        /// What.
        leaving: Leaving,
    },
    /// Raises the cluster version. A version that is not higher than the one in force does nothing.
    SetClusterVersion(ClusterVersion),
    /// Begins the next run of a job, or a one-off task of any service.
    StartRun(Box<RunStart>),
    /// How far a run is.
    SetRun(Box<RunProgress>),
    /// Leaves times of a schedule out.
    SkipRuns {
        /// Whose.
        service: ServiceId,
        /// The last of them.
        until: Timestamp,
    },
    /// How far a service's update is: where it goes on, stops or ends.
    SetUpdate {
        /// Which service.
        service: ServiceId,
        /// Its update now.
        update: Box<UpdateStatus>,
    },
    /// Counts a task's slot as one where its service's update failed.
    CountUpdateFailure(TaskId),
    /// Counts a move of this task to where it would be placed now. Where no further move is allowed yet, it does not
    /// fit: however its leader counted, there are no more within a minute than the cluster's setting says.
    CountMove(TaskId),
    /// Keeps a name and password for a registry, in the place of those that there were.
    SetRegistryLogin(Box<RegistryLogin>),
    /// Forgets the name and password for a registry.
    RemoveRegistryLogin(RegistryName),
}

/// What begins a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// Of which service.
    pub service: ServiceId,
    /// The next number. Any other does nothing.
    pub run: u64,
    /// The time of the schedule that it is for. One about which it is decided does nothing: each is run once.
    pub scheduled_at: Option<Timestamp>,
    /// One task beside the service's own.
    pub one_off: bool,
    /// Replaces the one-off task's command.
    pub command: Option<Vec<String>>,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProgress {
    /// Of which service.
    pub service: ServiceId,
    /// Which.
    pub run: u64,
    /// How far it is.
    pub state: RunState,
    /// Why, for a person.
    pub message: String,
    /// Places that completed.
    pub completed: u32,
    /// Places that gave up.
    pub failed: u32,
}

impl Action {
    /// The cluster version that brought this action, and what it makes use of. A new action, or a new field of an object,
    /// names the version that comes with it.
    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    pub fn needs(&self) -> ClusterVersion {
        match self {
            // Only who knows the version itself can live with it.
            Self::SetClusterVersion(version) => *version,
            Self::SetCluster(cluster) => cluster.needs(),
            Self::SetStack(stack) => stack.needs(),
            Self::SetService(service) => service.needs(),
            Self::SetUpdate { .. }
            | Self::CountUpdateFailure(_)
            | Self::CountMove(_)
            | Self::SetRegistryLogin(_)
            | Self::RemoveRegistryLogin(_)
            | Self::StartRun(_)
            | Self::SetRun(_)
            | Self::SkipRuns { .. }
            | Self::SetStackLeaving { .. }
            | Self::SetNodeLost(_)
            | Self::PreemptTasks { .. } => ClusterVersion(4),
            Self::AddNode(node) if node.declared_lost || !node.recent_downs.is_empty() => {
                ClusterVersion(4)
            }
            Self::SetTaskStatus { status, .. } if status.health.is_some() => ClusterVersion(4),
            Self::AddTask(task) if task.run.is_some() || task.standby => ClusterVersion(4),
            Self::AddTask(task) if !task.resources.is_empty() => ClusterVersion(4),
            Self::AssignTask { resources, .. } if !resources.is_empty() => ClusterVersion(4),
            Self::AddNode(node) if node.description.is_later() => ClusterVersion(4),
            Self::SetNodeDescription { description, .. } if description.is_later() => {
                ClusterVersion(4)
            }
            Self::AddContentPart { .. }
            | Self::KeepContents(_)
            | Self::RemoveContent(_)
            | Self::AddNamedContent(_)
            | Self::RemoveNamedContent { .. } => ClusterVersion(3),
            // Objects outside of stacks.
            Self::SetNetwork(network) if network.stack.is_empty() => ClusterVersion(4),
            Self::SetVolume(volume) if volume.stack.is_empty() => ClusterVersion(4),
            Self::AddNode(_)
            | Self::SetNodeStatus { .. }
            | Self::SetNodeDescription { .. }
            | Self::SetNodeWish { .. }
            | Self::SetNodeAddress { .. }
            | Self::SetNodeController { .. }
            | Self::RemoveNode(_)
            | Self::RemoveStack(_)
            | Self::SetServiceEndpoint { .. }
            | Self::SetServiceRemoving(_)
            | Self::RemoveService(_)
            | Self::SetNetwork(_)
            | Self::SetGateways { .. }
            | Self::SetNetworkRemoving(_)
            | Self::RemoveNetwork(_)
            | Self::ReleaseAddresses { .. }
            | Self::SetVolume(_)
            | Self::SetHolding { .. }
            | Self::SetVolumeRemoving(_)
            | Self::RemoveVolume(_)
            | Self::AddTask(_)
            | Self::SetTaskAddresses { .. }
            | Self::AssignTask { .. }
            | Self::SetTaskDesired { .. }
            | Self::SetTaskStatus { .. }
            | Self::SetTaskMessage { .. }
            | Self::RemoveTask(_) => ClusterVersion::FIRST,
        }
    }
}

impl Group {
    /// The cluster version that all its actions need.
    pub fn needs(&self) -> ClusterVersion {
        self.actions.iter().map(Action::needs).max().unwrap_or_default()
    }
}

impl Entry {
    /// The cluster version that all its actions need.
    pub fn needs(&self) -> ClusterVersion {
        self.groups.iter().map(Group::needs).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
