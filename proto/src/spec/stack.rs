use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NetworkSpec, ServiceSpec, VolumeSpec};
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
}

impl StackSpec {
    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        self.services.values().map(ServiceSpec::needs).max().unwrap_or_default()
    }
}
