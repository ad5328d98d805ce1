use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{Incarnation, Rebalance};
use crate::id::{NodeId, Timestamp};
use crate::version::ClusterVersion;

/// Text that no log, event, plan or debug output may show. Its memory is overwritten when it goes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The cluster itself: one object, made by `swarm-controller init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random, 32 hexadecimal digits; the organisation in every certificate.
    pub id: String,
    /// The root certificate, PEM.
    pub ca_certificate: String,
    /// The root's private key, PEM.
    pub ca_key: Secret,
    /// The secret half of the token that joins a controller.
    pub controller_token: Secret,
    /// The secret half of the token that joins an agent.
    pub agent_token: Secret,
    /// How often an agent reports.
    pub heartbeat: Duration,
    /// How long without a report until a node counts as down.
    pub node_down_after: Duration,
    /// Dead tasks kept for each slot.
    pub task_history: u32,
    /// Networks' subnets come from these prefixes, address and prefix length each, which do not overlap.
    pub address_pools: Vec<(Ipv4Addr, u8)>,
    /// The prefix length of a network's subnet.
    pub subnet_prefix_length: u8,
    /// The UDP port of VXLAN tunnels.
    pub vxlan_port: u16,
    /// The first VXLAN network identifier: networks count up from it.
    pub vni_base: u32,
    /// The authority before this one, while some node still relies on it.
    #[serde(default)]
    pub former_authority: Option<FormerAuthority>,
    /// Under which controllers wrap the keys of their disks; `None` unless the cluster is locked.
    #[serde(default)]
    pub unlock_key: Option<Secret>,
    /// Which of the clusters with this `id` it is.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// How tasks are moved to where they would be placed now.
    #[serde(default)]
    pub rebalance: Rebalance,
}

impl Cluster {
    /// The UDP port of VXLAN tunnels where nobody chose another: IANA's, which the kernel shares with the tunnels of a
    /// Docker Swarm beside this one.
    pub const VXLAN_PORT: u16 = 4789;
    /// Where networks' subnets come from where nobody chose another prefix.
    pub const ADDRESS_POOL: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 0, 0), 8);
    /// The size of a network's subnet where nobody chose another.
    pub const SUBNET_PREFIX_LENGTH: u8 = 24;
    /// The first VXLAN network identifier where nobody chose another, far above Docker's, which count up from 4096.
    pub const VNI_BASE: u32 = 0x10_0000;

    /// A cluster of this authority with everything else as it is where nobody chose otherwise. It has no tokens yet.
    pub fn new(id: String, ca_certificate: String, ca_key: Secret) -> Self {
        Self {
            id,
            ca_certificate,
            ca_key,
            controller_token: Secret::default(),
            agent_token: Secret::default(),
            heartbeat: Duration::from_secs(1),
            node_down_after: Duration::from_secs(4),
            task_history: 5,
            address_pools: vec![Self::ADDRESS_POOL],
            subnet_prefix_length: Self::SUBNET_PREFIX_LENGTH,
            vxlan_port: Self::VXLAN_PORT,
            vni_base: Self::VNI_BASE,
            former_authority: None,
            unlock_key: None,
            incarnation: Incarnation::default(),
            rebalance: Rebalance::default(),
        }
    }

    /// The cluster version that brought all that this cluster makes use of. A controller of an older one would drop it.
    pub fn needs(&self) -> ClusterVersion {
        let chosen = self.address_pools.len() != 1 || self.vni_base != Self::VNI_BASE;
        let later = self.incarnation != Incarnation::default();
        if self.rebalance != Rebalance::default() {
            return ClusterVersion(4);
        }
        if chosen || later || self.former_authority.is_some() || self.unlock_key.is_some() {
            ClusterVersion(2)
        } else {
            ClusterVersion::FIRST
        }
    }

    /// The root certificates that members trust, PEM: the authority's own first.
    pub fn roots(&self) -> String {
        let former = self.former_authority.as_ref().map(|former| former.certificate.as_str());
        let mut roots = String::new();
        for pem in [Some(self.ca_certificate.as_str()), former].into_iter().flatten() {
            roots.push_str(pem.trim_end());
            roots.push('\n');
        }
        roots
    }
}

/// The authority that was replaced by the present one. Its key is gone; nodes that have not heard of the new one yet
/// still trust it, and show certificates of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerAuthority {
    /// Its root certificate, PEM.
    pub certificate: String,
    /// The present root as an intermediate of the former one, PEM: by it, who trusts only the former root trusts
    /// certificates of the present one.
    pub vouched: String,
    /// The digest of both roots, which a node reports once it trusts both and shows a certificate of the new one.
    pub roots: String,
    /// The nodes whose controllers reported it, in order.
    pub controllers: Vec<NodeId>,
    /// When it was replaced.
    pub since: Timestamp,
}
