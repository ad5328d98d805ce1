use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Where a published port answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortMode {
    /// On every host, leading to any running task of the service.
    Ingress,
    /// Only on the hosts that run a task, leading to that task.
    Host,
}

/// A port that a service publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortSpec {
    /// The port inside the container, 1–65535.
    pub target: u16,
    /// The port on the hosts, 1–65535; `None` lets the allocator choose from 30000–32767.
    pub published: Option<u16>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where it answers.
    pub mode: PortMode,
    /// Only on this address of a host (never widened to others); `None` is every address.
    pub host_address: Option<Ipv4Addr>,
}
