//! The only writer of the state.

use std::sync::Arc;

use swarm_proto::entry::{Action, Entry, Expect, Group, Request};
use swarm_proto::id::{ServiceId, Timestamp};
use swarm_proto::object::{AllocatedPort, Service};
use swarm_proto::spec::{EndpointMode, NetworkAttachmentSpec, PortSpec, ServiceMode};
use swarm_proto::version::ClusterVersion;

use super::{Event, State};

/// Answers to requests that are remembered.
const REQUESTS_KEPT: usize = 512;

/// What an entry did.
#[derive(Debug, Default)]
pub struct Applied {
    /// What changed, in order.
    pub events: Vec<Event>,
    /// For each group, whether it was applied.
    pub groups: Vec<bool>,
    /// False when the leader that proposed the entry expected another state: this one is wrong, or the leader's.
    pub checksum_matches: bool,
}

/// Applies one entry of the log. Total: whatever the entry says, the state stays sound.
pub fn apply(state: &mut State, entry: &Entry) -> Applied {
    let checksum_matches = entry.checksum == 0 || entry.checksum == state.checksum;
    let mut applied = Applied { checksum_matches, ..Applied::default() };
    state.begin_entry(entry.time);
    for group in &entry.groups {
        let done = state.apply_group(group, &mut applied.events);
        state.note_group(done);
        applied.groups.push(done);
    }
    state.end_entry();
    applied
}

impl State {
    /// What comes before the groups of an entry. The driver's clone goes through the same while a pass makes its entry,
    /// so that the pass leaves the state that applying the entry would.
    pub(crate) fn begin_entry(&mut self, time: Timestamp) {
        self.version += 1;
        self.clock = self.clock.max(time);
    }

    /// What comes after each group of an entry.
    pub(crate) fn note_group(&mut self, done: bool) {
        self.mix(u64::from(done));
    }

    /// What comes after all groups of an entry.
    pub(crate) fn end_entry(&mut self) {
        self.mix(self.version);
    }

    /// Applies a group wholly or not at all, and says which.
    pub(crate) fn apply_group(&mut self, group: &Group, events: &mut Vec<Event>) -> bool {
        if group.expect.iter().any(|expect| !self.is_as_expected(expect)) {
            return false;
        }
        if group.request.as_ref().is_some_and(|request| self.requests.contains_key(&request.id)) {
            return false;
        }
        let before = (group.actions.len() > 1).then(|| self.clone());
        let told = events.len();
        for action in &group.actions {
            if self.act(action, events).is_none() {
                if let Some(before) = before {
                    *self = before;
                }
                events.truncate(told);
                return false;
            }
        }
        if let Some(request) = &group.request {
            self.remember(request);
        }
        true
    }

    fn is_as_expected(&self, expect: &Expect) -> bool {
        self.version_of(&expect.object, expect.counter) == expect.version
    }

    fn remember(&mut self, request: &Request) {
        self.requests.insert(request.id.clone(), Arc::new(request.answer.clone()));
        self.request_order.push_back(request.id.clone());
        while self.request_order.len() > REQUESTS_KEPT {
            if let Some(oldest) = self.request_order.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }

    /// Carries out one action. `None`: it does not fit, has changed nothing, and its group does nothing.
    fn act(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::SetCluster(cluster) => {
                self.set_cluster(cluster);
                Some(())
            }
            Action::CountMove(task) => self.count_move(*task),
            Action::SetClusterVersion(version) => self.raise_version(*version),
            Action::AddNode(_)
            | Action::SetNodeStatus { .. }
            | Action::SetNodeDescription { .. }
            | Action::SetNodeWish { .. }
            | Action::SetNodeAddress { .. }
            | Action::SetNodeController { .. }
            | Action::SetNodeLost(_)
            | Action::RemoveNode(_) => self.act_node(action, events),
            Action::SetStack(_)
            | Action::RemoveStack(_)
            | Action::SetStackLeaving { .. }
            | Action::SetService(_)
            | Action::SetServiceEndpoint { .. }
            | Action::SetServiceRemoving(_)
            | Action::RemoveService(_) => self.act_stack(action, events),
            Action::SetNetwork(_)
            | Action::SetGateways { .. }
            | Action::SetNetworkRemoving(_)
            | Action::RemoveNetwork(_)
            | Action::ReleaseAddresses { .. } => self.act_network(action, events),
            Action::SetVolume(_)
            | Action::SetHolding { .. }
            | Action::SetVolumeRemoving(_)
            | Action::RemoveVolume(_) => self.act_volume(action, events),
            Action::SetRegistryLogin(_) | Action::RemoveRegistryLogin(_) => {
                self.act_registry(action)
            }
            Action::AddContentPart { .. }
            | Action::KeepContents(_)
            | Action::RemoveContent(_)
            | Action::AddNamedContent(_)
            | Action::RemoveNamedContent { .. } => self.act_content(action, events),
            Action::AddTask(_)
            | Action::SetTaskAddresses { .. }
            | Action::AssignTask { .. }
            | Action::PreemptTasks { .. }
            | Action::SetTaskDesired { .. }
            | Action::SetTaskStatus { .. }
            | Action::SetTaskMessage { .. }
            | Action::RemoveTask(_) => self.act_task(action, events),
            Action::StartRun(_) | Action::SetRun(_) | Action::SkipRuns { .. } => {
                self.act_run(action, events)
            }
            Action::SetUpdate { .. } | Action::CountUpdateFailure(_) => {
                self.act_update(action, events)
            }
        }
    }

    fn raise_version(&mut self, version: ClusterVersion) -> Option<()> {
        if version <= self.cluster_version {
            return None;
        }
        self.cluster_version = version;
        self.mix(u64::from(version.0));
        Some(())
    }

    /// Mixes a number into the rolling checksum (FNV-1a over its bytes).
    pub(super) fn mix(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.checksum = (self.checksum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.checksum == 0 {
            self.checksum = 1;
        }
    }

    /// Looks again at whether a service's tasks are what its spec asks for.
    pub(super) fn judge(&mut self, id: ServiceId) {
        let settled = self.services.get(&id).is_none_or(|service| self.is_settled(service));
        super::index::member(&mut self.index.unsettled, id, !settled);
        let lacking = self.services.get(&id).is_some_and(|service| lacks_endpoint(self, service));
        super::index::member(&mut self.index.unallocated, id, lacking);
    }

    fn is_settled(&self, service: &Service) -> bool {
        let counts = self.index.counts.get(&service.id).copied().unwrap_or_default();
        match service.spec.mode {
            _ if service.removing || !self.has_settled_runs(service) => false,
            _ if service.update.as_ref().is_some_and(|update| update.state.is_open()) => false,
            ServiceMode::Replicated { replicas } => {
                counts.current == replicas
                    && counts.unfinished == replicas
                    && counts.slots == replicas
            }
            ServiceMode::Global => {
                counts.current == counts.unfinished && counts.slots == counts.unfinished
            }
            // Tasks that belong to no run are left from another mode.
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => {
                let keys = (service.id, 0)..=(service.id, u64::MAX);
                let of_runs = self.index.runs.range(keys).map(|(_, counts)| counts.own);
                counts.unfinished == of_runs.sum::<u32>()
            }
        }
    }

    /// The network changed: nodes must hear of it.
    pub(super) fn touch_network(&mut self, network: swarm_proto::id::NetworkId) {
        if self.networks.contains_key(&network) {
            self.network_versions.insert(network, self.version);
        }
    }

    /// A node's assignments changed.
    pub(super) fn touch_node(&mut self, node: swarm_proto::id::NodeId) {
        self.index.node_versions.insert(node, self.version);
    }
}

/// Whether a service's virtual addresses and port numbers are not what its spec asks for.
pub(crate) fn lacks_endpoint(state: &State, service: &Service) -> bool {
    let on =
        |attachment: &NetworkAttachmentSpec| state.index.network_of(&service.stack, attachment);
    let wanted: Vec<_> = match service.spec.endpoint_mode {
        EndpointMode::Vip => service.spec.networks.iter().map(on).collect(),
        EndpointMode::Dnsrr => Vec::new(),
    };
    let has = service.vips.iter().map(|vip| Some(vip.network));
    let fits = |port: &PortSpec| service.ports.iter().any(|allocated| is_for(allocated, port));
    let ports =
        service.ports.len() != service.spec.ports.len() || !service.spec.ports.iter().all(fits);
    !service.removing && (ports || !has.eq(wanted))
}

/// Whether a port with a number is what the spec asks for.
pub(crate) fn is_for(allocated: &AllocatedPort, port: &PortSpec) -> bool {
    allocated.target == port.target
        && allocated.protocol == port.protocol
        && allocated.mode == port.mode
        && allocated.host_address == port.host_address
        && port.published.is_none_or(|published| published == allocated.published)
}
