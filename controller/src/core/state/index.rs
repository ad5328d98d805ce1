//! What the rules read instead of scanning. Derived from the objects alone: kept by `apply`, rebuilt from a snapshot.

use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};
use swarm_proto::id::{NetworkId, NodeId, ServiceId, Slot, TaskId, VolumeId};
use swarm_proto::object::{Attachment, NamedContent, Service, Task, TaskState};
use swarm_proto::spec::{ContainerSpec, ContentId, PortMode, Protocol, ServiceMode, ServiceSpec};

use super::reservation::{Reserved, holds_resources};

/// Instead of the priority of tasks that end anyway: below all others.
pub(super) const ENDING: i32 = i32::MIN;

/// How a task stands to its service as that is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Whether it is as the service's spec says, on a node that it allows.
    pub(super) current: bool,
    /// The service's priority.
    pub(super) priority: i32,
}

/// Who has an address of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A service, as its virtual address.
    Vip(ServiceId),
    /// A task.
    Task(TaskId),
    /// A node, as its own place on the network.
    Gateway(NodeId),
}

/// What a node carries: tasks that are not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLoad {
    /// How many.
    pub tasks: u32,
    /// Of these, tasks of services that go on, which shall not be stopped.
    pub staying: u32,
}

/// How far a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tasks that run, shall run, have the current spec and are on a node that it allows.
    pub current: u32,
    /// Tasks that are not over, or that ended by themselves and have no successor.
    pub unfinished: u32,
    /// Slots that have such tasks.
    pub slots: u32,
    /// Slots with tasks that shall run, over or not.
    pub used: u32,
    /// Slots with several of them.
    pub overlaps: u32,
    /// Tasks that shall run, over or not, and have an older spec or a node that it does not allow any more.
    pub old: u32,
    /// All tasks.
    pub tasks: u32,
}

/// How many tasks a slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotCounts {
    /// That are not over, or ended by themselves and have no successor.
    pub unfinished: u32,
    /// Of these, that shall run, over or not.
    pub wanted: u32,
}

/// How far a run of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Tasks that shall not be removed.
    pub kept: u32,
    /// Tasks that shall run, over or not.
    pub wanted: u32,
    /// Of these, tasks that run.
    pub running: u32,
    /// Of these, tasks that completed.
    pub complete: u32,
    /// Tasks in slots of the service itself that are not over, or that shall run.
    pub own: u32,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    /// Services by stack and key.
    pub services: OrdMap<(String, String), ServiceId>,
    /// Networks by stack and key.
    pub networks: OrdMap<(String, String), NetworkId>,
    /// Volumes by stack and key.
    pub volumes: OrdMap<(String, String), VolumeId>,
    /// Networks by full name.
    pub network_names: OrdMap<String, NetworkId>,
    /// Volumes by full name.
    pub volume_names: OrdMap<String, VolumeId>,
    /// How often a service refers to a network by its full name: by its current spec, and by tasks that are not over.
    pub external_networks: OrdMap<(String, ServiceId), u32>,
    /// The same of volumes.
    pub external_volumes: OrdMap<(String, ServiceId), u32>,
    /// Stacks of which something goes once the rest runs.
    pub leaving: OrdSet<String>,
    /// Tasks by node.
    pub node_tasks: OrdSet<(NodeId, TaskId)>,
    /// What each node carries.
    pub loads: OrdMap<NodeId, NodeLoad>,
    /// What the tasks of each node have reserved there.
    pub reserved: OrdMap<NodeId, Reserved>,
    /// Tasks that were stopped to make place, also those that are over: each behind the task for which.
    pub preempted: OrdSet<(TaskId, TaskId)>,
    /// How many services have each priority.
    pub priorities: OrdMap<i32, u32>,
    /// Of what the tasks of a node have reserved, what is of services of each priority but 0; that of tasks that shall not
    /// run any more is below all priorities.
    pub by_priority: OrdMap<(NodeId, i32), Reserved>,
    /// Tasks that wait for addresses.
    pub unaddressed: OrdSet<TaskId>,
    /// Tasks that wait for a node.
    pub unplaced: OrdSet<TaskId>,
    /// Tasks to be removed with all that they made.
    pub removing: OrdSet<TaskId>,
    /// How many tasks, not over and not to be stopped, a service has on a node.
    pub spread: OrdMap<(ServiceId, NodeId), u32>,
    /// On how many nodes a service has several such tasks.
    pub crowds: OrdMap<ServiceId, u32>,
    /// Services that are spread over labels of nodes.
    pub spread_out: OrdSet<ServiceId>,
    /// Tasks that use a port of their node, each until it is over.
    pub host_ports: OrdMap<(NodeId, Protocol, u16), u32>,
    /// Services by the port that every host answers for them.
    pub ingress: OrdMap<(Protocol, u16), ServiceId>,
    /// How far each service is.
    pub counts: OrdMap<ServiceId, Counts>,
    /// How many tasks each slot has that are not finished.
    pub slots: OrdMap<(ServiceId, Slot), SlotCounts>,
    /// Tasks that shall run and do not, for they are over or wait for their time.
    pub due: OrdSet<TaskId>,
    /// Services whose tasks are not what their spec asks for.
    pub unsettled: OrdSet<ServiceId>,
    /// Services with one task on each node.
    pub global: OrdSet<ServiceId>,
    /// Services whose number of tasks follows what is measured.
    pub autoscaled: OrdSet<ServiceId>,
    /// Jobs that run by themselves.
    pub scheduled: OrdSet<ServiceId>,
    /// Jobs with one completion on each node.
    pub global_jobs: OrdSet<ServiceId>,
    /// How far each run of a service is, as long as it has tasks.
    pub runs: OrdMap<(ServiceId, u64), RunCounts>,
    /// Services without virtual addresses or port numbers that they need.
    pub unallocated: OrdSet<ServiceId>,
    /// Who has an address.
    pub addresses: OrdMap<(NetworkId, u32), Holder>,
    /// How many tasks of a node need the network there.
    pub network_nodes: OrdMap<(NetworkId, NodeId), u32>,
    /// How many services' ports lead into a network.
    pub ingress_networks: OrdMap<NetworkId, u32>,
    /// Networks whose gateways must be looked at.
    pub gateways: OrdSet<NetworkId>,
    /// Tasks that are over and have a successor or need none, by slot.
    pub dead: OrdMap<(ServiceId, Slot), u32>,
    /// Tasks of each service's spec version.
    pub spec_uses: OrdMap<(ServiceId, u64), u32>,
    /// How much refers to each content: files of services' current specs, files of tasks that are not over, and names.
    pub content_uses: OrdMap<ContentId, u32>,
    /// Contents to which nothing refers.
    pub unused_contents: OrdSet<ContentId>,
    /// Services whose tasks stay apart from those of another, named by stack and key.
    pub apart: OrdSet<((String, String), ServiceId)>,
    /// Services whose tasks go together with those of another, named by stack and key.
    pub near: OrdSet<((String, String), ServiceId)>,
    /// When a node's assignments changed last, as [`super::State::version`].
    pub node_versions: OrdMap<NodeId, u64>,
}

/// Adds to a count, removing what falls to zero.
pub(super) fn count<K: Ord + Clone>(map: &mut OrdMap<K, u32>, key: &K, add: bool) -> u32 {
    let old = map.get(key).copied().unwrap_or(0);
    let new = if add { old.saturating_add(1) } else { old.saturating_sub(1) };
    if new == 0 && old > 0 {
        map.remove(key);
    } else if new != old {
        map.insert(key.clone(), new);
    }
    new
}

/// Stores a value, removing what is nothing. Writes only what changes: each write copies what others share.
fn store<K: Ord + Clone, V: Default + PartialEq + Clone>(map: &mut OrdMap<K, V>, key: K, value: V) {
    if value == V::default() {
        if map.contains_key(&key) {
            map.remove(&key);
        }
    } else if map.get(&key) != Some(&value) {
        map.insert(key, value);
    }
}

pub(super) fn member<K: Ord + Clone>(set: &mut OrdSet<K>, key: K, add: bool) {
    match (set.contains(&key), add) {
        (false, true) => drop(set.insert(key)),
        (true, false) => drop(set.remove(&key)),
        _ => {}
    }
}

/// A network address as a key.
pub(crate) fn address_key(attachment: &Attachment) -> (NetworkId, u32) {
    (attachment.network, attachment.address.into())
}

/// Whether a task is not over, or ended by itself and has no successor.
pub(crate) fn is_unfinished(task: &Task) -> bool {
    !task.status.state.is_terminal() || task.desired <= TaskState::Running
}

/// Whether other members of its networks must be able to reach a task.
pub(crate) fn is_peer(task: &Task) -> bool {
    task.node.is_some() && !task.status.state.is_terminal()
}

/// Whether clients are led to a task.
pub(crate) fn is_backend(task: &Task) -> bool {
    task.status.state == TaskState::Running
        && task.desired == TaskState::Running
        && !task.status.is_unhealthy()
        && !task.standby
        && !is_one_off(task)
}

/// Whether a task runs beside its service's own.
pub(crate) fn is_one_off(task: &Task) -> bool {
    matches!(task.id.slot, Slot::OneOff(_))
}

/// Whether a task's node needs its networks.
fn needs_networks(task: &Task) -> bool {
    !task.status.state.is_terminal() || task.desired == TaskState::Remove
}

/// Whether a task keeps its addresses: until it is over, or forgotten when nobody knows whether it is.
pub(super) fn holds_addresses(task: &Task) -> bool {
    !task.status.state.is_terminal() || task.status.state == TaskState::Orphaned
}

impl Index {
    /// Adds or takes away all that a task contributes.
    pub(super) fn task(&mut self, task: &Task, spec: &ServiceSpec, standing: Standing, add: bool) {
        self.task_place(task, spec, standing.priority, add);
        let current = standing.current;
        let open = !task.status.state.is_terminal();
        if open {
            self.contents_of(&spec.container, add);
        }
        if is_unfinished(task) {
            self.externals_of(task.id.service, spec, add);
        }
        let id = task.id;
        let waits = open && task.desired <= TaskState::Running && task.node.is_none();
        member(&mut self.unaddressed, id, add && waits && task.status.state == TaskState::New);
        member(&mut self.unplaced, id, add && waits && task.status.state == TaskState::Pending);
        member(&mut self.removing, id, add && task.desired == TaskState::Remove);
        count(&mut self.spec_uses, &(id.service, task.spec_version), add);
        let slot = (id.service, id.slot);
        let step = |value: u32, by: bool| match (by, add) {
            (false, _) => value,
            (true, true) => value.saturating_add(1),
            (true, false) => value.saturating_sub(1),
        };
        let mut counts = self.counts.get(&id.service).copied().unwrap_or_default();
        counts.tasks = step(counts.tasks, true);
        counts.current = step(counts.current, current && is_backend(task));
        // A one-off task is forgotten with its run, and no part of what the service should have.
        let is_own = !is_one_off(task);
        let wanted = task.desired <= TaskState::Running;
        if is_own && is_unfinished(task) {
            let mut of_slot = self.slots.get(&slot).copied().unwrap_or_default();
            of_slot.unfinished = step(of_slot.unfinished, true);
            of_slot.wanted = step(of_slot.wanted, wanted);
            let is_change = |count: u32, to: u32| count == to - u32::from(!add);
            counts.unfinished = step(counts.unfinished, true);
            counts.slots = step(counts.slots, is_change(of_slot.unfinished, 1));
            counts.used = step(counts.used, wanted && is_change(of_slot.wanted, 1));
            counts.overlaps = step(counts.overlaps, wanted && is_change(of_slot.wanted, 2));
            counts.old = step(counts.old, wanted && !current);
            store(&mut self.slots, slot, of_slot);
        } else if is_own {
            count(&mut self.dead, &slot, add);
        }
        let is_due = is_own && wanted && (!open || task.desired == TaskState::Ready);
        member(&mut self.due, id, add && is_due);
        store(&mut self.counts, id.service, counts);
        if let Some(run) = task.run {
            let key = (id.service, run);
            let mut counts = self.runs.get(&key).copied().unwrap_or_default();
            let is = |state| wanted && task.status.state == state;
            counts.kept = step(counts.kept, task.desired < TaskState::Remove);
            counts.wanted = step(counts.wanted, wanted);
            counts.running = step(counts.running, is(TaskState::Running));
            counts.complete = step(counts.complete, is(TaskState::Complete));
            counts.own = step(counts.own, is_own && is_unfinished(task));
            store(&mut self.runs, key, counts);
        }
    }

    fn task_place(&mut self, task: &Task, spec: &ServiceSpec, priority: i32, add: bool) {
        let Some(node) = task.node else { return };
        member(&mut self.node_tasks, (node, task.id), add);
        if let Some(by) = task.preempted_by {
            member(&mut self.preempted, (by, task.id), add);
        }
        if needs_networks(task) {
            for attachment in &task.attachments {
                let left = count(&mut self.network_nodes, &(attachment.network, node), add);
                if left == u32::from(add) {
                    self.gateways.insert(attachment.network);
                }
            }
        }
        let resources = &spec.container.resources;
        if holds_resources(task) && !resources.reserves_nothing() {
            let mut reserved = self.reserved.get(&node).cloned().unwrap_or_default();
            reserved.note(resources, &task.resources, add);
            store(&mut self.reserved, node, reserved);
        }
        if task.status.state.is_terminal() {
            return;
        }
        let priority = if task.desired > TaskState::Running { ENDING } else { priority };
        if priority != 0 && !resources.reserves_nothing() {
            let key = (node, priority);
            let mut reserved = self.by_priority.get(&key).cloned().unwrap_or_default();
            reserved.note(resources, &task.resources, add);
            store(&mut self.by_priority, key, reserved);
        }
        let mut load = self.loads.get(&node).copied().unwrap_or_default();
        let stays = task.desired <= TaskState::Running;
        load.tasks = if add { load.tasks.saturating_add(1) } else { load.tasks.saturating_sub(1) };
        let staying = u32::from(stays && !spec.mode.is_job() && !is_one_off(task));
        load.staying = if add {
            load.staying.saturating_add(staying)
        } else {
            load.staying.saturating_sub(staying)
        };
        store(&mut self.loads, node, load);
        if stays {
            let left = count(&mut self.spread, &(task.id.service, node), add);
            if left == 1 + u32::from(add) {
                count(&mut self.crowds, &task.id.service, add);
            }
        }
        let ports = spec.ports.iter().filter(|port| port.mode == PortMode::Host);
        for port in ports.filter(|_| !is_one_off(task)) {
            if let Some(published) = port.published {
                count(&mut self.host_ports, &(node, port.protocol, published), add);
            }
        }
    }

    /// Adds or takes away all that a service contributes, beside its tasks.
    pub(super) fn service(&mut self, service: &Service, add: bool) {
        let key = (service.stack.clone(), service.key.clone());
        if add {
            self.services.insert(key, service.id);
        } else {
            self.services.remove(&key);
        }
        for vip in &service.vips {
            let key = (vip.network, u32::from(vip.address));
            self.hold(key, Holder::Vip(service.id), add);
        }
        self.contents_of(&service.spec.container, add);
        self.externals_of(service.id, &service.spec, add);
        if let Some(previous) = &service.previous {
            self.contents_of(&previous.container, add);
        }
        count(&mut self.priorities, &service.spec.priority, add);
        member(&mut self.global, service.id, add && service.spec.mode == ServiceMode::Global);
        let is_scaled = service.spec.autoscale.is_some();
        member(&mut self.autoscaled, service.id, add && is_scaled);
        for affinity in &service.spec.placement.apart {
            let other = (service.stack.clone(), affinity.service.clone());
            member(&mut self.apart, (other, service.id), add);
        }
        for affinity in &service.spec.placement.near {
            let other = (service.stack.clone(), affinity.service.clone());
            member(&mut self.near, (other, service.id), add);
        }
        let is_spread = !service.spec.placement.spread.is_empty();
        member(&mut self.spread_out, service.id, add && is_spread);
        let is_job = service.spec.mode.is_job();
        let is_scheduled = is_job && service.spec.schedule.is_some();
        member(&mut self.scheduled, service.id, add && is_scheduled);
        let is_global_job = service.spec.mode == ServiceMode::GlobalJob;
        member(&mut self.global_jobs, service.id, add && is_global_job);
        let mut leads_in = false;
        for port in service.ports.iter().filter(|port| port.mode == PortMode::Ingress) {
            leads_in = true;
            let key = (port.protocol, port.published);
            if add {
                self.ingress.insert(key, service.id);
            } else {
                self.ingress.remove(&key);
            }
        }
        if leads_in && let Some(network) = self.first_network(service) {
            let left = count(&mut self.ingress_networks, &network, add);
            if left == u32::from(add) {
                self.gateways.insert(network);
            }
        }
    }

    fn contents_of(&mut self, container: &ContainerSpec, add: bool) {
        for content in container.contents() {
            count(&mut self.content_uses, &content, add);
        }
    }

    /// Adds or takes away what a named secret or config contributes.
    pub(super) fn named_content(&mut self, named: &NamedContent, add: bool) {
        count(&mut self.content_uses, &named.content(), add);
    }

    /// The network that a service's published ports lead into.
    pub(crate) fn first_network(&self, service: &Service) -> Option<NetworkId> {
        self.network_of(&service.stack, service.spec.networks.first()?)
    }

    pub(super) fn hold(&mut self, key: (NetworkId, u32), holder: Holder, add: bool) {
        if add {
            self.addresses.insert(key, holder);
        } else {
            self.addresses.remove(&key);
        }
    }

    /// Whether a node needs a network: for its tasks, or because every host answers a port that leads into it.
    pub fn needs(&self, network: NetworkId, node: NodeId) -> bool {
        self.network_nodes.contains_key(&(network, node))
            || self.ingress_networks.contains_key(&network)
    }

    /// Who has an address.
    pub fn holder(&self, network: NetworkId, address: Ipv4Addr) -> Option<Holder> {
        self.addresses.get(&(network, address.into())).copied()
    }
}
