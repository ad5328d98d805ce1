//! Networks and volumes by their full names: what services refer to that is not their stack's own.

use swarm_proto::id::{NetworkId, ServiceId, VolumeId};
use swarm_proto::object::{Network, Service, Volume};
use swarm_proto::spec::{MountSource, NetworkAttachmentSpec, ServiceSpec};

use super::index::count;
use super::{Index, State, Stored, tasks_of};

/// The full name of the external volume that a mount is of.
fn external_volume(source: &MountSource) -> Option<&String> {
    match source {
        MountSource::Volume { external, .. } => external.as_ref(),
        _ => None,
    }
}

impl Index {
    /// Adds or takes away the external networks and volumes that a spec refers to.
    pub(super) fn externals_of(&mut self, service: ServiceId, spec: &ServiceSpec, add: bool) {
        for name in spec.networks.iter().filter_map(|network| network.external.as_ref()) {
            count(&mut self.external_networks, &(name.clone(), service), add);
        }
        for mount in &spec.container.mounts {
            if let Some(name) = external_volume(&mount.source) {
                count(&mut self.external_volumes, &(name.clone(), service), add);
            }
        }
    }

    /// The network that a service of a stack means.
    pub(crate) fn network_of(
        &self,
        stack: &str,
        attachment: &NetworkAttachmentSpec,
    ) -> Option<NetworkId> {
        match &attachment.external {
            Some(name) => self.network_names.get(name).copied(),
            None => self.networks.get(&(stack.to_owned(), attachment.network.clone())).copied(),
        }
    }

    /// The volume that a mount of a service of a stack means; nothing for other mounts.
    pub(crate) fn volume_of(&self, stack: &str, source: &MountSource) -> Option<VolumeId> {
        match source {
            MountSource::Volume { external: Some(name), .. } => self.volume_names.get(name),
            MountSource::Volume { volume, external: None, .. } => {
                self.volumes.get(&(stack.to_owned(), volume.clone()))
            }
            _ => None,
        }
        .copied()
    }
}

impl State {
    /// The network that a service of a stack means.
    pub(crate) fn network_of(
        &self,
        stack: &str,
        attachment: &NetworkAttachmentSpec,
    ) -> Option<&Stored<Network>> {
        self.networks.get(&self.index.network_of(stack, attachment)?)
    }

    /// The volume that a mount of a service of a stack means.
    pub(crate) fn volume_of(&self, stack: &str, source: &MountSource) -> Option<&Stored<Volume>> {
        self.volumes.get(&self.index.volume_of(stack, source)?)
    }

    /// A network by its full name.
    pub(crate) fn network_named(&self, name: &str) -> Option<&Stored<Network>> {
        self.networks.get(self.index.network_names.get(name)?)
    }

    /// A volume by its full name.
    pub(crate) fn volume_named(&self, name: &str) -> Option<&Stored<Volume>> {
        self.volumes.get(self.index.volume_names.get(name)?)
    }

    /// Services that use a network under its full name, by what they shall run or by tasks that are not over.
    pub(crate) fn users_of_network(&self, name: &str) -> impl Iterator<Item = &Stored<Service>> {
        let users = self.index.external_networks.range((name.to_owned(), ServiceId(0))..);
        let users = users.take_while(move |((used, _), _)| used == name);
        users.filter_map(|((_, service), _)| self.services.get(service))
    }

    /// Services that use a volume under its full name, by what they shall run or by tasks that are not over.
    pub(crate) fn users_of_volume(&self, name: &str) -> impl Iterator<Item = &Stored<Service>> {
        let users = self.index.external_volumes.range((name.to_owned(), ServiceId(0))..);
        let users = users.take_while(move |((used, _), _)| used == name);
        users.filter_map(|((_, service), _)| self.services.get(service))
    }

    /// Whether all external networks and volumes that a spec refers to are there to stay.
    pub fn has_externals_of(&self, spec: &ServiceSpec) -> bool {
        let network = |name: &String| self.network_named(name).is_some_and(|one| !one.removing);
        let volume = |name: &String| self.volume_named(name).is_some_and(|one| !one.removing);
        let mounts = spec.container.mounts.iter();
        spec.networks.iter().filter_map(|one| one.external.as_ref()).all(network)
            && mounts.filter_map(|mount| external_volume(&mount.source)).all(volume)
    }

    /// The state as if tasks of these services took nothing of their nodes.
    pub(crate) fn without_tasks_of(&self, services: &[ServiceId]) -> Self {
        let mut without = self.clone();
        for task in services.iter().flat_map(|service| tasks_of(self, *service)) {
            without.forget_contribution(task);
        }
        without
    }
}
