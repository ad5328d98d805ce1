//! The replicated state: persistent maps, cloned at no cost, written only by [`apply()`].

pub(crate) mod answer;
mod apply;
mod cluster;
mod content;
mod event;
mod external;
mod index;
mod job;
mod network;
mod node;
mod preemption;
mod registry;
mod reservation;
mod restore;
mod roster;
mod snapshot;
mod stack;
mod task;
mod update;
mod volume;

use std::ops::RangeInclusive;
use std::sync::Arc;

use imbl::{OrdMap, Vector};
use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{NetworkId, NodeId, RaftId, ServiceId, Slot, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{
    Cluster, NamedContent, Network, Node, RegistryLogin, RegistryName, Service, Stack, Task, Volume,
};
use swarm_proto::spec::{ContentId, ContentKind, ServiceSpec};
use swarm_proto::version::ClusterVersion;

pub use apply::{Applied, apply};
pub(crate) use apply::{is_for, lacks_endpoint};
pub use content::Content;
pub(crate) use content::part_size;
pub use event::Event;
pub use index::{Counts, Holder, Index, NodeLoad, RunCounts};
pub(crate) use index::{is_backend, is_one_off, is_peer, is_unfinished};
pub(crate) use job::{ACTIVE_RUNS, needs_run, stays_open};
pub use reservation::{Lack, Reserved};
pub use roster::{Controller, Roster};
pub use snapshot::SnapshotError;

/// An object's write counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    /// Counts what users wrote.
    pub spec: u64,
    /// Counts what controllers decided.
    pub desired: u64,
    /// Counts what agents reported.
    pub status: u64,
}

impl Versions {
    /// One of the counters.
    pub fn get(self, counter: Counter) -> u64 {
        match counter {
            Counter::Spec => self.spec,
            Counter::Desired => self.desired,
            Counter::Status => self.status,
        }
    }
}

/// An object with its write counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The object, shared between clones of the state.
    pub object: Arc<T>,
    /// Its counters.
    pub versions: Versions,
}

impl<T> std::ops::Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

/// The next of each counted identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// Of nodes.
    pub node: u64,
    /// Of members of the Raft group.
    pub raft: u64,
    /// Of services.
    pub service: u64,
    /// Of networks.
    pub network: u64,
    /// Of volumes.
    pub volume: u64,
    /// Of link addresses.
    pub mac: u64,
    /// Of VXLAN network identifiers.
    pub vni: u32,
    /// The generation before the first one of a slot. 0 but in a restored cluster: slots that were made after the backup
    /// may have tasks on hosts that have not come back yet.
    pub generation: u32,
}

impl Default for NextIds {
    fn default() -> Self {
        Self {
            node: 1,
            raft: 1,
            service: 1,
            network: 1,
            volume: 1,
            mac: 1,
            vni: Cluster::VNI_BASE,
            generation: 0,
        }
    }
}

/// What is remembered of a slot beyond its kept tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotHistory {
    /// The last task's generation.
    pub generation: u32,
    /// The spec version that the counts below belong to.
    pub spec_version: u64,
    /// Failures in a row, each soon after the start.
    pub failures: u32,
    /// Runs that ended by themselves.
    pub ended: u32,
    /// When the last of them ended; bounded.
    pub recent: Vec<Timestamp>,
    /// The run of a job that the counts above belong to.
    pub run: Option<u64>,
    /// Whether a task of that run completed, also when it is forgotten.
    pub is_complete: bool,
    /// The number of the service's last update that failed here; 0 is none.
    pub failed_update: u64,
}

/// The replicated state.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Cluster time: the latest of all entries' times.
    pub clock: Timestamp,
    /// Counts applied entries; also the version of what changed last.
    pub version: u64,
    /// The index of the last applied entry of the log.
    pub applied: u64,
    /// Mixes what every entry did.
    pub checksum: u64,
    /// The cluster version in force; it only rises.
    pub cluster_version: ClusterVersion,
    /// The cluster, once it was initialized.
    pub cluster: Option<Arc<Cluster>>,
    /// Stacks by name.
    pub stacks: OrdMap<String, Stored<Stack>>,
    /// Services.
    pub services: OrdMap<ServiceId, Stored<Service>>,
    /// Specs of services by version: the current one and those that tasks still refer to.
    pub specs: OrdMap<(ServiceId, u64), Arc<ServiceSpec>>,
    /// Tasks.
    pub tasks: OrdMap<TaskId, Stored<Task>>,
    /// Nodes.
    pub nodes: OrdMap<NodeId, Stored<Node>>,
    /// Networks.
    pub networks: OrdMap<NetworkId, Stored<Network>>,
    /// Volumes.
    pub volumes: OrdMap<VolumeId, Stored<Volume>>,
    /// Secrets and configs by what is in them.
    pub contents: OrdMap<ContentId, Content>,
    /// Those that belong to no stack, by name.
    pub named_contents: OrdMap<(ContentKind, String), Stored<NamedContent>>,
    /// The cluster's logins at registries.
    pub registry_logins: OrdMap<RegistryName, Arc<RegistryLogin>>,
    /// The next identities.
    pub next: NextIds,
    /// Histories of slots.
    pub slots: OrdMap<(ServiceId, Slot), SlotHistory>,
    /// Addresses that some node may still remember: the version at which each was given up.
    pub quarantine: OrdMap<(NetworkId, u32), u64>,
    /// Where the search for a free address goes on, by network.
    pub cursors: OrdMap<NetworkId, u32>,
    /// When each network changed last, as [`State::version`].
    pub network_versions: OrdMap<NetworkId, u64>,
    /// Answers to recent requests.
    pub requests: OrdMap<String, Arc<Vec<u8>>>,
    /// The same requests, oldest first.
    pub request_order: Vector<String>,
    /// What the rules read, kept by `apply` and rebuilt from a snapshot.
    pub index: Index,
}

impl State {
    /// Every controller: its member of the Raft group, its node and its `host:port`.
    pub fn controllers(&self) -> Vec<(RaftId, NodeId, String)> {
        let addressed =
            |node: &Stored<Node>| Some((node.raft_id?, node.id, node.controller_address.clone()?));
        self.nodes.values().filter_map(addressed).collect()
    }

    /// The spec that a task runs.
    pub fn task_spec(&self, task: &Task) -> Option<&Arc<ServiceSpec>> {
        self.specs.get(&(task.id.service, task.spec_version))
    }

    /// A task's name for people: `<stack>_<service>.<slot>`.
    pub fn task_name(&self, task: TaskId) -> String {
        match self.services.get(&task.service) {
            Some(service) => format!("{}.{}", service.name(), task.slot),
            None => task.to_string(),
        }
    }

    /// What one of an object's counters shows; 0 for an object that is absent.
    pub fn version_of(&self, object: &ObjectId, counter: Counter) -> u64 {
        let versions = match object {
            ObjectId::Stack(name) => self.stacks.get(name).map(|stored| stored.versions),
            ObjectId::Service(id) => self.services.get(id).map(|stored| stored.versions),
            ObjectId::Task(id) => self.tasks.get(id).map(|stored| stored.versions),
            ObjectId::Node(id) => self.nodes.get(id).map(|stored| stored.versions),
            ObjectId::Network(id) => self.networks.get(id).map(|stored| stored.versions),
            ObjectId::Volume(id) => self.volumes.get(id).map(|stored| stored.versions),
            ObjectId::Secret(name) => {
                self.find_named_content(ContentKind::Secret, name).map(|stored| stored.versions)
            }
            ObjectId::Config(name) => {
                self.find_named_content(ContentKind::Config, name).map(|stored| stored.versions)
            }
        };
        versions.map_or(0, |versions| versions.get(counter))
    }

    /// What is remembered of a slot, also of one that has had no task.
    pub(crate) fn history(&self, slot: (ServiceId, Slot)) -> SlotHistory {
        let new = || SlotHistory { generation: self.next.generation, ..SlotHistory::default() };
        self.slots.get(&slot).cloned().unwrap_or_else(new)
    }

    /// A node by host name or id.
    pub fn find_node(&self, name: &str) -> Option<&Stored<Node>> {
        let named = self.nodes.values().find(|node| node.description.hostname == name);
        named.or_else(|| self.nodes.get(&name.parse::<NodeId>().ok()?))
    }
}

/// All tasks of a service, by slot and generation.
pub(crate) fn tasks_of(
    state: &State,
    service: ServiceId,
) -> impl Iterator<Item = &Stored<Task>> + '_ {
    state.tasks.range(ids_of(service)).map(|(_, task)| task)
}

/// What ids of a service's tasks can be, in their order.
pub(crate) fn ids_of(service: ServiceId) -> RangeInclusive<TaskId> {
    let first = TaskId { service, slot: Slot::Replica(0), generation: 0 };
    let last = TaskId { service, slot: Slot::Node(NodeId(u64::MAX)), generation: u32::MAX };
    first..=last
}

/// What slots of a service can be, in their order.
pub(crate) fn slots_of(service: ServiceId) -> RangeInclusive<(ServiceId, Slot)> {
    (service, Slot::Replica(0))..=(service, Slot::Node(NodeId(u64::MAX)))
}

/// All tasks of a node.
pub(crate) fn tasks_on(state: &State, node: NodeId) -> impl Iterator<Item = &Stored<Task>> + '_ {
    let task = |service, slot, generation| TaskId { service, slot, generation };
    let first = (node, task(ServiceId(0), Slot::Replica(0), 0));
    let last = (node, task(ServiceId(u64::MAX), Slot::Node(NodeId(u64::MAX)), u32::MAX));
    state.index.node_tasks.range(first..=last).filter_map(|(_, id)| state.tasks.get(id))
}
