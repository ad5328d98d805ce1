use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::id::{NetworkId, NodeId};
use crate::spec::NetworkSpec;

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its identity.
    pub id: NetworkId,
    /// The stack it belongs to.
    pub stack: String,
    /// Its key in the stack file.
    pub key: String,
    /// Its full name.
    pub name: String,
    /// What was asked for.
    pub spec: NetworkSpec,
    /// The VXLAN network identifier (RFC 7348), from 0x100000 up.
    pub vni: u32,
    /// The subnet's first address.
    pub subnet: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix_length: u8,
    /// Each node's own address on the network: its containers' gateway, and the source of what comes in from outside.
    pub gateways: Vec<NodeAttachment>,
    /// Asked to be removed: its services go first.
    pub removing: bool,
}

/// An address and a link address on a network. The MAC is locally administered and never derived from the address,
/// so that a reused address does not meet an old neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// The address.
    pub address: Ipv4Addr,
    /// The link address.
    pub mac: [u8; 6],
}

/// A node's own place on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeAttachment {
    /// The node.
    pub node: NodeId,
    /// Its address on the network.
    pub address: Ipv4Addr,
    /// Its link address on the network.
    pub mac: [u8; 6],
}
