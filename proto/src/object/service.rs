use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{JobRuns, Scaling, UpdateStatus};
use crate::id::{NetworkId, ServiceId, Timestamp};
use crate::spec::{PortMode, Protocol, ServiceSpec, UpdatePolicy, is_default};
use crate::version::ClusterVersion;

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
    /// How far the last update is; `None` when there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// What a rollback brings back: the last spec whose update ended well, or that needed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<ServiceSpec>>,
    /// The version of that spec; it stays when a failed update takes the previous spec back.
    #[serde(default)]
    pub previous_version: u64,
    /// The highest spec version that was given: above `spec_version` after a rollback.
    #[serde(default)]
    pub latest_version: u64,
    /// When its number of tasks changed last, where that is scaled by what is measured; `None` before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

impl Service {
    /// A new service, with no address or port yet.
    pub fn new(
        id: ServiceId,
        stack: String,
        key: String,
        spec: ServiceSpec,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            stack,
            key,
            spec,
            spec_version: 1,
            vips: Vec::new(),
            ports: Vec::new(),
            created_at: now,
            updated_at: now,
            removing: false,
            update: None,
            previous: None,
            previous_version: 0,
            latest_version: 1,
            scaling: None,
            runs: JobRuns::default(),
        }
    }

    /// The full name: `<stack>_<key>`.
    pub fn name(&self) -> String {
        format!("{}_{}", self.stack, self.key)
    }

    /// The policy by which its tasks are exchanged now.
    pub fn update_policy(&self) -> &UpdatePolicy {
        match &self.update {
            Some(update) if update.state.is_rollback() => &self.spec.rollback,
            _ => &self.spec.update,
        }
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let followed = self.update.is_some()
            || self.previous.is_some()
            || self.previous_version > 0
            || self.scaling.is_some()
            || self.latest_version > self.spec_version;
        let own = if followed { ClusterVersion(4) } else { ClusterVersion::FIRST };
        own.max(self.spec.needs())
    }
}
