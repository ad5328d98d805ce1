use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{full_name, is_default};

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The full name where the file gives one (`name:`); else `<stack>_<key>`.
    pub name: Option<String>,
    /// A fixed subnet, address and prefix length (`10.1.0.0`, 16); else the allocator chooses.
    pub subnet: Option<(Ipv4Addr, u8)>,
    /// No way out of the network for its containers.
    pub internal: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// It is not the stack's own: it was made before, under its full name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub external: bool,
}

impl NetworkSpec {
    /// The full name of the network with this key of a stack. An external one's name is not the stack's.
    pub fn full_name(&self, stack: &str, key: &str) -> String {
        full_name(self.name.as_deref(), self.external, stack, key)
    }
}

/// A service's wish to be on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkAttachmentSpec {
    /// The network's key in the stack file.
    pub network: String,
    /// Further names of the service on this network, beside its key.
    pub aliases: Vec<String>,
    /// The full name of the network where it is external, as the controllers fill it in: what the key means is a part of
    /// the service, so that a service whose network becomes another one gets new tasks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub external: Option<String>,
}

impl NetworkAttachmentSpec {
    /// On the stack's network with this key, under no other name.
    pub fn new(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }
}
