//! The command that makes a stack be as a spec says: checks it whole against the cluster, then writes what differs.

mod check;
mod container;
mod hidden;

use std::net::Ipv4Addr;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NetworkId, ServiceId, Timestamp, VolumeId};
use swarm_proto::object::{Network, Service, Stack, Volume};
use swarm_proto::spec::{
    ContentKind, NetworkSpec, PortMode, ServiceMode, ServiceSpec, StackSpec, VolumeSpec,
};

use super::allocate::free_subnet;
use super::command::Decision;
use super::content;
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::State;
pub(super) use check::check_replicas;

/// A VXLAN network identifier has 24 bits.
const LAST_VNI: u32 = 0xff_ffff;

/// What a deploy writes, while it is put together.
struct Draft<'a> {
    state: &'a State,
    spec: &'a StackSpec,
    now: Timestamp,
    actions: Vec<Action>,
    read: Vec<(ObjectId, Counter)>,
    changes: Vec<String>,
    /// Subnets given to new networks of this deploy.
    subnets: Vec<(Ipv4Addr, u8)>,
    networks: u64,
    volumes: u64,
    services: u64,
}

pub(super) fn decide(
    state: &State,
    spec: &StackSpec,
    prune: bool,
    warnings: &[String],
    now: Timestamp,
) -> Result<Decision, Refusal> {
    check::stack(state, spec, prune)?;
    let resolved = content::resolved(state, spec)?;
    let spec = resolved.as_ref();
    let mut draft = Draft {
        state,
        spec,
        now,
        actions: Vec::new(),
        read: vec![(ObjectId::Stack(spec.name.clone()), Counter::Spec)],
        changes: Vec::new(),
        subnets: Vec::new(),
        networks: 0,
        volumes: 0,
        services: 0,
    };
    for (key, network) in &spec.networks {
        draft.network(key, network)?;
    }
    for (key, volume) in &spec.volumes {
        draft.volume(key, volume);
    }
    for kind in [ContentKind::Secret, ContentKind::Config] {
        draft.contents(kind);
    }
    for (key, service) in &spec.services {
        draft.service(key, service);
    }
    if prune {
        draft.prune();
    }
    let mut all_warnings = warnings.to_vec();
    all_warnings.extend(hidden::warnings(state, spec));
    Ok(draft.finish(all_warnings))
}

impl Draft<'_> {
    fn name(&self, own: Option<&String>, key: &str) -> String {
        own.cloned().unwrap_or_else(|| format!("{}_{key}", self.spec.name))
    }

    fn network(&mut self, key: &str, spec: &NetworkSpec) -> Result<(), Refusal> {
        if let Some(old) = self.state.find_network(&self.spec.name, key) {
            self.read.push((ObjectId::Network(old.id), Counter::Spec));
            if old.spec != *spec {
                let mut network = old.object.as_ref().clone();
                network.spec = spec.clone();
                self.changes.push(format!("network {key} updated"));
                self.actions.push(Action::SetNetwork(Box::new(network)));
            }
            return Ok(());
        }
        let vni =
            self.state.next.vni.saturating_add(u32::try_from(self.networks).unwrap_or(u32::MAX));
        if vni > LAST_VNI {
            return Err(Refusal::conflict(
                format!("no VXLAN network identifier is left for network `{key}`"),
                "each is given out once: make a new cluster with a lower `--vni-base`",
            ));
        }
        let subnet = spec.subnet.or_else(|| free_subnet(self.state, &self.subnets));
        let Some((subnet, prefix_length)) = subnet else {
            return Err(Refusal::conflict(
                format!("no subnet is free for network `{key}`"),
                "give the network a subnet of its own (`ipam`), or free some: remove stacks that are not needed (the address pools are set when the cluster is made)",
            ));
        };
        self.subnets.push((subnet, prefix_length));
        let network = Network {
            id: NetworkId(self.state.next.network + self.networks),
            stack: self.spec.name.clone(),
            key: key.to_owned(),
            name: self.name(spec.name.as_ref(), key),
            spec: spec.clone(),
            vni,
            subnet,
            prefix_length,
            gateways: Vec::new(),
            removing: false,
        };
        self.networks += 1;
        self.changes.push(format!("network {key} created"));
        self.actions.push(Action::SetNetwork(Box::new(network)));
        Ok(())
    }

    fn volume(&mut self, key: &str, spec: &VolumeSpec) {
        if let Some(old) = self.state.find_volume(&self.spec.name, key) {
            self.read.push((ObjectId::Volume(old.id), Counter::Spec));
            if old.spec != *spec {
                let mut volume = old.object.as_ref().clone();
                volume.spec = spec.clone();
                self.changes.push(format!("volume {key} updated"));
                self.actions.push(Action::SetVolume(Box::new(volume)));
            }
            return;
        }
        let volume = Volume {
            id: VolumeId(self.state.next.volume + self.volumes),
            stack: self.spec.name.clone(),
            key: key.to_owned(),
            name: self.name(spec.name.as_ref(), key),
            spec: spec.clone(),
            holdings: std::collections::BTreeMap::new(),
            removing: false,
        };
        self.volumes += 1;
        self.changes.push(format!("volume {key} created"));
        self.actions.push(Action::SetVolume(Box::new(volume)));
    }

    /// Contents are part of the stack's spec; only what changed in them is told.
    fn contents(&mut self, kind: ContentKind) {
        let old = self.state.stacks.get(&self.spec.name).map(|stack| stack.spec.contents(kind));
        for (key, spec) in self.spec.contents(kind) {
            match old.and_then(|old| old.get(key)) {
                None => self.changes.push(format!("{kind} {key} created")),
                Some(old) if old != spec => self.changes.push(format!("{kind} {key} updated")),
                Some(_) => {}
            }
        }
    }

    fn service(&mut self, key: &str, spec: &ServiceSpec) {
        let old = self.state.find_service(&self.spec.name, key);
        if let Some(old) = old {
            self.read.push((ObjectId::Service(old.id), Counter::Spec));
        }
        let Some(old) = old else {
            let service = Service {
                id: ServiceId(self.state.next.service + self.services),
                stack: self.spec.name.clone(),
                key: key.to_owned(),
                spec: spec.clone(),
                spec_version: 1,
                vips: Vec::new(),
                ports: Vec::new(),
                created_at: self.now,
                updated_at: self.now,
                removing: false,
            };
            self.services += 1;
            self.changes.push(format!("service {key} created"));
            self.actions.push(Action::SetService(Box::new(service)));
            return;
        };
        if old.spec == *spec {
            return;
        }
        let mut service = old.object.as_ref().clone();
        service.spec = spec.clone();
        service.updated_at = self.now;
        if needs_new_tasks(&old.spec, spec) {
            service.spec_version += 1;
        }
        self.changes.push(difference(key, &old.spec, spec));
        self.actions.push(Action::SetService(Box::new(service)));
    }

    fn prune(&mut self) {
        for service in self.state.services_of(&self.spec.name) {
            if !self.spec.services.contains_key(&service.key) && !service.removing {
                self.read.push((ObjectId::Service(service.id), Counter::Spec));
                self.changes.push(format!("service {} removed", service.key));
                self.actions.push(Action::SetServiceRemoving(service.id));
            }
        }
        let networks = self.state.networks.values().filter(|n| n.stack == self.spec.name);
        for network in networks {
            if !self.spec.networks.contains_key(&network.key) && !network.removing {
                self.read.push((ObjectId::Network(network.id), Counter::Spec));
                self.changes.push(format!("network {} removed", network.key));
                self.actions.push(Action::SetNetworkRemoving(network.id));
            }
        }
    }

    fn finish(self, warnings: Vec<String>) -> Decision {
        let old = self.state.stacks.get(&self.spec.name);
        let changed = !self.changes.is_empty() || old.is_none();
        let before = old.map_or(0, |stack| stack.revision);
        let revision = if changed { before + 1 } else { before };
        let mut actions = Vec::new();
        if changed {
            actions.push(Action::SetStack(Box::new(Stack {
                spec: self.spec.clone(),
                revision,
                deployed_at: self.now,
                removing: false,
            })));
            actions.extend(self.actions);
        }
        let done = CommandDone::Deployed { revision, changed, warnings, changes: self.changes };
        Decision { actions, read: self.read, done }
    }
}

/// Whether tasks of the old spec must be exchanged for the new one: all but numbers, policies and labels.
fn needs_new_tasks(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let host_ports = |spec: &ServiceSpec| {
        let host = spec.ports.iter().filter(|port| port.mode == PortMode::Host);
        host.cloned().collect::<Vec<_>>()
    };
    let kind = |spec: &ServiceSpec| spec.mode == ServiceMode::Global;
    old.container != new.container
        || old.networks != new.networks
        || host_ports(old) != host_ports(new)
        || kind(old) != kind(new)
}

fn difference(key: &str, old: &ServiceSpec, new: &ServiceSpec) -> String {
    let same_but_number = ServiceSpec { mode: new.mode, ..old.clone() } == *new;
    match (old.mode, new.mode) {
        (ServiceMode::Replicated { replicas: from }, ServiceMode::Replicated { replicas: to })
            if same_but_number =>
        {
            format!("service {key} scaled from {from} to {to}")
        }
        _ if old.container.image != new.container.image => {
            format!(
                "service {key} updated to image {}",
                hidden::familiar(&new.container.image.reference)
            )
        }
        _ => format!("service {key} updated"),
    }
}
