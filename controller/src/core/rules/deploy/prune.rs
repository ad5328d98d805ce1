//! What a deploy does with what the file no longer has: it stays, or goes once the services of the file run.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::object::{AllocatedPort, Leaving, Network, Service};
use swarm_proto::spec::{PortMode, PortSpec};
use swarm_proto::version::ClusterVersion;

use super::Draft;
use crate::core::state::{State, Stored};

/// What is to be said of services that the file no longer has.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What goes once the services of the file run.
    pub(super) leaving: Leaving,
    /// Keys of services that stay.
    pub(super) kept: Vec<String>,
    /// Services that go at once, and why.
    pub(super) warnings: Vec<String>,
}

/// Whether two published ports cannot both be answered by the hosts. Ports of the tasks' own hosts can: the scheduler
/// finds each a host.
pub(super) fn meets(taken: &AllocatedPort, port: &PortSpec) -> bool {
    let both_host = taken.mode == PortMode::Host && port.mode == PortMode::Host;
    let apart = taken.host_address.is_some()
        && port.host_address.is_some()
        && taken.host_address != port.host_address;
    Some(taken.published) == port.published
        && taken.protocol == port.protocol
        && !both_host
        && !apart
}

/// Whether a deploy, or one before it that is not done, removes a service that the file no longer has.
pub(super) fn goes(state: &State, service: &Service, prune: bool) -> bool {
    let stack = state.stacks.get(&service.stack);
    prune || stack.is_some_and(|stack| stack.leaving.services.contains(&service.key))
}

impl Draft<'_> {
    /// What an earlier deploy wanted gone goes on going, unless this file names it again.
    pub(super) fn leave(&mut self, prune: bool) -> Left {
        let mut left = Left::default();
        let before = self.state.stacks.get(&self.spec.name).map(|stack| stack.leaving.clone());
        let before = before.unwrap_or_default();
        for key in before.services.iter().filter(|key| self.spec.services.contains_key(*key)) {
            self.changes.push(format!("service {key} stays"));
        }
        for service in self.state.services_of(&self.spec.name) {
            if !self.spec.services.contains_key(&service.key) && !service.removing {
                self.leave_service(service, prune, &before, &mut left);
            }
        }
        let networks = self.state.networks.values().filter(|n| n.stack == self.spec.name);
        for network in networks.filter(|network| !network.removing) {
            let declared = self.spec.networks.get(&network.key).is_some_and(|spec| !spec.external);
            if !declared && (prune || before.networks.contains(&network.key)) {
                self.leave_network(network, &before, &mut left);
            }
        }
        left
    }

    fn leave_service(
        &mut self,
        service: &Stored<Service>,
        prune: bool,
        before: &Leaving,
        left: &mut Left,
    ) {
        let key = &service.key;
        if !goes(self.state, service, prune) {
            left.kept.push(key.clone());
            return;
        }
        self.read.push((ObjectId::Service(service.id), Counter::Spec));
        let wanted = self.spec.services.iter().find_map(|(new, spec)| {
            let meets = |port: &&PortSpec| service.ports.iter().any(|taken| meets(taken, port));
            Some((new, spec.ports.iter().find(meets)?))
        });
        if let Some((new, port)) = wanted {
            let number = port.published.unwrap_or_default();
            left.warnings.push(format!(
                "service `{key}` goes before the others run: service `{new}` needs its port {number}/{}",
                port.protocol
            ));
        } else if self.state.cluster_version >= ClusterVersion(4) {
            if !before.services.contains(key) {
                self.changes.push(format!("service {key} goes once the others run"));
            }
            left.leaving.services.insert(key.clone());
            return;
        }
        self.changes.push(format!("service {key} removed"));
        self.actions.push(Action::SetServiceRemoving(service.id));
    }

    fn leave_network(&mut self, network: &Stored<Network>, before: &Leaving, left: &mut Left) {
        let key = &network.key;
        let name = Some(&network.name);
        let of_spec = self.spec.services.values().flat_map(|service| &service.networks);
        let mut here = of_spec.filter(|attachment| attachment.external.as_ref() == name);
        let mut users = self.state.users_of_network(&network.name);
        let elsewhere = users.find(|service| service.stack != self.spec.name);
        if here.next().is_some() {
            return;
        }
        if let Some(service) = elsewhere {
            let service = service.name();
            left.warnings.push(format!("network `{key}` stays: service `{service}` uses it"));
            return;
        }
        self.read.push((ObjectId::Network(network.id), Counter::Spec));
        if self.state.cluster_version >= ClusterVersion(4) {
            if !before.networks.contains(key) {
                self.changes.push(format!("network {key} goes once the others run"));
            }
            left.leaving.networks.insert(key.clone());
            return;
        }
        self.changes.push(format!("network {key} removed"));
        self.actions.push(Action::SetNetworkRemoving(network.id));
    }
}
