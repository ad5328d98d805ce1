use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    ContentKind, ContentSpec, MountSource, NetworkSpec, ServiceSpec, VolumeSpec, is_default,
};
use crate::version::ClusterVersion;

/// One stack file: a named set of services, networks and volumes. Keys are those of the file, without the stack's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StackSpec {
    /// The stack's name: lower-case letters, digits, `-`, `_`; 1 to 63 characters, first a letter or digit.
    pub name: String,
    /// Services by their key in the file.
    pub services: BTreeMap<String, ServiceSpec>,
    /// Networks that some service uses, by key.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Named volumes that some service uses, by key.
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// Secrets that some service uses, by key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secrets: BTreeMap<String, ContentSpec>,
    /// Configs that some service uses, by key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub configs: BTreeMap<String, ContentSpec>,
}

impl StackSpec {
    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let of_services = self.services.values().map(ServiceSpec::needs).max().unwrap_or_default();
        let plain = self.secrets.is_empty() && self.configs.is_empty();
        let external = self.networks.values().any(|network| network.external)
            || self.volumes.values().any(|volume| volume.external);
        let own = match (external, plain) {
            (true, _) => ClusterVersion(4),
            (false, false) => ClusterVersion(3),
            (false, true) => ClusterVersion::FIRST,
        };
        of_services.max(own)
    }

    /// Writes into each service the full names of what is external of its networks and volumes.
    pub fn name_externals(&mut self) {
        let Self { name: stack, services, networks, volumes, .. } = self;
        for service in services.values_mut() {
            for attachment in &mut service.networks {
                let network = networks.get(&attachment.network).filter(|one| one.external);
                attachment.external = network.map(|one| one.full_name(stack, &attachment.network));
            }
            for mount in &mut service.container.mounts {
                if let MountSource::Volume { volume, external, .. } = &mut mount.source {
                    let spec = volumes.get(volume).filter(|one| one.external);
                    *external = spec.map(|one| one.full_name(stack, volume));
                }
            }
        }
    }

    /// Its secrets or its configs, by key.
    pub fn contents(&self, kind: ContentKind) -> &BTreeMap<String, ContentSpec> {
        match kind {
            ContentKind::Secret => &self.secrets,
            ContentKind::Config => &self.configs,
        }
    }

    /// Its secrets or its configs, to be changed.
    pub fn contents_mut(&mut self, kind: ContentKind) -> &mut BTreeMap<String, ContentSpec> {
        match kind {
            ContentKind::Secret => &mut self.secrets,
            ContentKind::Config => &mut self.configs,
        }
    }
}
