//! The network of programs that run once: one of this host alone, with a way out and nobody on it but they.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use imbl::OrdMap;
use serde::Deserialize;
use swarm_proto::assignment::{NetworkAssignment, TaskAssignment};
use swarm_proto::id::{NetworkId, ServiceId, Slot, TaskId};
use swarm_proto::object::Attachment;

use super::super::TaskError;
use crate::network::{Networks, TaskNetwork};

/// Clusters count theirs from 1.
const NETWORK: NetworkId = NetworkId(0);
const NAME: &str = "build";
/// Subnets that hold a few programs, and none that anybody would miss.
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=29;

/// Where the addresses of such programs come from, `198.19.255.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BuildSubnet {
    first: Ipv4Addr,
    prefix_length: u8,
}

impl Default for BuildSubnet {
    /// Of the range that RFC 2544 keeps for measurements, which nobody routes.
    fn default() -> Self {
        Self { first: Ipv4Addr::new(198, 19, 255, 0), prefix_length: 24 }
    }
}

impl FromStr for BuildSubnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let (least, most) = (PREFIXES.start(), PREFIXES.end());
            format!(
                "`{text}` is no subnet of builds: write an address and a length from {least} to {most}, such as \
                 `198.19.255.0/24`"
            )
        };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if !PREFIXES.contains(&length) {
            return Err(wrong());
        }
        let first = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - length)));
        Ok(Self { first, prefix_length: length })
    }
}

impl TryFrom<String> for BuildSubnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl BuildSubnet {
    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + offset)
    }

    /// Without the first, the host's own and the last.
    fn offsets(self) -> std::ops::Range<u32> {
        2..(1 << (32 - self.prefix_length)) - 1
    }

    fn assignment(self) -> NetworkAssignment {
        let gateway = self.at(1);
        NetworkAssignment {
            id: NETWORK,
            name: NAME.to_owned(),
            version: 1,
            vni: 0,
            vxlan_port: 0,
            subnet: self.first,
            prefix_length: self.prefix_length,
            internal: false,
            gateway: Some((gateway, mac(gateway))),
            peers: Vec::new(),
            names: OrdMap::new(),
            vips: Vec::new(),
            ingress: Vec::new(),
        }
    }
}

/// Gives programs their places.
#[derive(Debug)]
pub(super) struct BuildNetwork {
    networks: Arc<Networks>,
    subnet: BuildSubnet,
    taken: Mutex<BTreeSet<u32>>,
}

/// A program's place, until it is given back.
#[derive(Debug)]
pub(super) struct Connected {
    task: TaskId,
    offset: u32,
    pub(super) network: TaskNetwork,
}

impl BuildNetwork {
    pub(super) fn new(networks: Arc<Networks>, subnet: BuildSubnet) -> Self {
        Self { networks, subnet, taken: Mutex::default() }
    }

    /// Connects a program that is described as a task.
    pub(super) async fn connect(&self, mut task: TaskAssignment) -> Result<Connected, TaskError> {
        let offset = self.take().ok_or_else(|| {
            TaskError::Stopped("no address of the subnet of builds is free".to_owned())
        })?;
        let address = self.subnet.at(offset);
        task.id = TaskId { service: ServiceId(0), slot: Slot::Replica(offset), generation: 1 };
        task.attachments = vec![Attachment { network: NETWORK, address, mac: mac(address) }];
        let networks = BTreeMap::from([(NETWORK, Arc::new(self.subnet.assignment()))]);
        match self.networks.attach(&task, &networks).await {
            Ok(network) => Ok(Connected { task: task.id, offset, network }),
            Err(error) => {
                self.give_back(task.id, offset).await?;
                Err(error.into())
            }
        }
    }

    /// Takes a place away, and with the last one the network.
    pub(super) async fn disconnect(&self, connected: Connected) -> Result<(), TaskError> {
        self.give_back(connected.task, connected.offset).await
    }

    async fn give_back(&self, task: TaskId, offset: u32) -> Result<(), TaskError> {
        let detached = self.networks.detach(task).await;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&offset);
        Ok(detached?)
    }

    fn take(&self) -> Option<u32> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.subnet.offsets().find(|offset| !taken.contains(offset))?;
        taken.insert(free);
        Some(free)
    }
}

/// Locally administered, and as unique as the address.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x06, 0x53, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_with_their_first_address() {
        assert_eq!("198.19.255.9/24".parse(), Ok(BuildSubnet::default()));
        let small: BuildSubnet = "10.1.2.16/29".parse().unwrap();
        assert_eq!((small.at(1), small.offsets()), (Ipv4Addr::new(10, 1, 2, 17), 2..7));
        for wrong in ["", "10.0.0.0", "10.0.0/24", "10.0.0.0/15", "10.0.0.0/30", "10.0.0.0/x"] {
            assert!(wrong.parse::<BuildSubnet>().is_err(), "{wrong}");
        }
    }
}
