//! What each node has, with what the tasks placed earlier in this pass have taken.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::id::{NodeId, ServiceId};
use swarm_proto::object::{GenericResources, Node, Service};
use swarm_proto::spec::{Domain, PortMode, Protocol, ServiceSpec};

use crate::core::state::{NodeLoad, Reserved, State};

/// How many tasks a service has in each place, by what its nodes have in common.
type Places = BTreeMap<String, u32>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Placed {
    loads: BTreeMap<NodeId, NodeLoad>,
    /// All that is reserved on nodes that tasks were placed on.
    reserved: BTreeMap<NodeId, Reserved>,
    spread: BTreeMap<(ServiceId, NodeId), u32>,
    ports: BTreeSet<(NodeId, Protocol, u16)>,
    /// Counted when they are asked for, and kept from then on.
    places: RefCell<BTreeMap<ServiceId, Vec<(Domain, Places)>>>,
    /// Whether some node is ready and steady, looked for when it is asked for.
    has_steady: OnceCell<bool>,
}

impl Placed {
    /// Whether some node is ready and steady, which no task placed in this pass changes.
    pub(super) fn has_steady(&self, look: impl FnOnce() -> bool) -> bool {
        *self.has_steady.get_or_init(look)
    }

    pub(super) fn load(&self, state: &State, node: NodeId) -> NodeLoad {
        let placed = self.loads.get(&node).copied().unwrap_or_default();
        let load = state.index.loads.get(&node).copied().unwrap_or_default();
        NodeLoad { tasks: load.tasks.saturating_add(placed.tasks), ..load }
    }

    /// What is reserved on a node.
    pub(super) fn reserved<'s>(&'s self, state: &'s State, node: NodeId) -> Cow<'s, Reserved> {
        let known = self.reserved.get(&node).or_else(|| state.index.reserved.get(&node));
        known.map_or_else(Cow::default, Cow::Borrowed)
    }

    /// Tasks of a service on a node.
    pub(super) fn of_service(&self, state: &State, service: ServiceId, node: NodeId) -> u32 {
        let key = (service, node);
        let placed = self.spread.get(&key).copied().unwrap_or(0);
        state.index.spread.get(&key).copied().unwrap_or(0).saturating_add(placed)
    }

    /// The nodes with tasks of a service, and how many; a node may come twice.
    pub(super) fn nodes_of<'s>(
        &self,
        state: &'s State,
        service: ServiceId,
    ) -> impl Iterator<Item = (&'s Node, u32)> {
        let all = (service, NodeId(0))..=(service, NodeId(u64::MAX));
        let before =
            state.index.spread.range(all.clone()).map(|((_, node), count)| (*node, *count));
        let placed = self.spread.range(all).map(|((_, node), count)| (*node, *count));
        let known = |(node, count)| Some((&*state.nodes.get(&node)?.object, count));
        before.chain(placed).filter_map(known)
    }

    /// Tasks of a service in the place of a node.
    pub(super) fn near(
        &self,
        state: &State,
        service: ServiceId,
        node: &Node,
        within: &Domain,
    ) -> u32 {
        let Some(value) = within.value(node) else {
            return self.of_service(state, service, node.id);
        };
        let mut places = self.places.borrow_mut();
        let of_service = places.entry(service).or_default();
        let position = of_service.iter().position(|(domain, _)| domain == within);
        let position = position.unwrap_or_else(|| {
            let mut counts = Places::new();
            for (node, count) in self.nodes_of(state, service) {
                let value = within.value(node).unwrap_or_default().to_owned();
                *counts.entry(value).or_default() += count;
            }
            of_service.push((within.clone(), counts));
            of_service.len() - 1
        });
        of_service.get(position).and_then(|(_, counts)| counts.get(value)).copied().unwrap_or(0)
    }

    pub(super) fn uses_port(&self, node: NodeId, protocol: Protocol, port: u16) -> bool {
        self.ports.contains(&(node, protocol, port))
    }

    /// Notes what a task takes of its node, for the tasks placed after it.
    pub(super) fn take(
        &mut self,
        state: &State,
        (service, spec): (&Service, &ServiceSpec),
        node: &Node,
        given: &GenericResources,
    ) {
        let load = self.loads.entry(node.id).or_default();
        load.tasks = load.tasks.saturating_add(1);
        let resources = &spec.container.resources;
        if !resources.reserves_nothing() {
            let before = || state.index.reserved.get(&node.id).cloned().unwrap_or_default();
            let reserved = self.reserved.entry(node.id).or_insert_with(before);
            reserved.note(resources, given, true);
        }
        *self.spread.entry((service.id, node.id)).or_default() += 1;
        for port in spec.ports.iter().filter(|port| port.mode == PortMode::Host) {
            self.ports.extend(port.published.map(|number| (node.id, port.protocol, number)));
        }
        for (domain, counts) in self.places.get_mut().entry(service.id).or_default() {
            let value = domain.value(node).unwrap_or_default().to_owned();
            *counts.entry(value).or_default() += 1;
        }
    }
}
