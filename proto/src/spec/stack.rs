use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContentKind, ContentSpec, NetworkSpec, ServiceSpec, VolumeSpec, is_default};
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
        if plain { of_services } else { of_services.max(ClusterVersion(3)) }
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
