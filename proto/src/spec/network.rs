use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

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
}

/// A service's wish to be on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkAttachmentSpec {
    /// The network's key in the stack file.
    pub network: String,
    /// Further names of the service on this network, beside its key.
    pub aliases: Vec<String>,
}
