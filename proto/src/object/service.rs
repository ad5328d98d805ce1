use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::JobRuns;
use crate::id::{NetworkId, ServiceId, Timestamp};
use crate::spec::{PortMode, Protocol, ServiceSpec, is_default};

/// A virtual address of a service on one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The network.
    pub network: NetworkId,
    /// The address.
    pub address: Ipv4Addr,
}

/// A published port with its number decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AllocatedPort {
    /// The port on the hosts.
    pub published: u16,
    /// The port in the container.
    pub target: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where it answers.
    pub mode: PortMode,
    /// The only host address it answers on; `None` is every one.
    pub host_address: Option<Ipv4Addr>,
}

/// A service of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identity.
    pub id: ServiceId,
    /// The stack it belongs to.
    pub stack: String,
    /// Its key in the stack file; its full name is `<stack>_<key>`.
    pub key: String,
    /// What should run now.
    pub spec: ServiceSpec,
    /// Counts the specs of this service, from 1. Scaling does not count: it changes no task.
    pub spec_version: u64,
    /// Virtual addresses, one for each network, when the endpoint mode is `vip`.
    pub vips: Vec<Vip>,
    /// Published ports with their numbers.
    pub ports: Vec<AllocatedPort>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its spec changed last.
    pub updated_at: Timestamp,
    /// Asked to be removed: tasks go first, then itself.
    pub removing: bool,
    /// Its runs, if it is a job, and its one-off tasks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runs: JobRuns,
}

impl Service {
    /// The full name: `<stack>_<key>`.
    pub fn name(&self) -> String {
        format!("{}_{}", self.stack, self.key)
    }
}
