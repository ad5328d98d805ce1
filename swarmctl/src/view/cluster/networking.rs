use std::net::Ipv4Addr;

use serde::Serialize;
use swarm_proto::wire;

/// How a cluster's networks are made: what was chosen at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkingView {
    /// Networks' subnets come from these prefixes: `10.0.0.0/8`.
    pub address_pools: Vec<String>,
    /// The prefix length of a network's subnet.
    pub subnet_prefix_length: u32,
    /// The UDP port of VXLAN tunnels.
    pub vxlan_port: u32,
    /// The first VXLAN network identifier.
    pub vni_base: u32,
}

impl NetworkingView {
    pub(super) fn of(networking: &wire::ClusterNetworking) -> Self {
        let pools = networking.address_pools.iter();
        Self {
            address_pools: pools
                .map(|pool| format!("{}/{}", Ipv4Addr::from(pool.address), pool.length))
                .collect(),
            subnet_prefix_length: networking.subnet_prefix_length,
            vxlan_port: networking.vxlan_port,
            vni_base: networking.vni_base,
        }
    }

    /// For people: one line.
    pub(super) fn words(&self) -> String {
        let Self { address_pools, subnet_prefix_length, vxlan_port, vni_base } = self;
        let pools = address_pools.join(", ");
        format!(
            "networks  /{subnet_prefix_length} out of {pools}, VXLAN on UDP port {vxlan_port}, VNIs from {vni_base}\n"
        )
    }
}
