//! Neighbours (address to link address) and forwarding entries (link address to tunnel end), in batches.

use std::net::Ipv4Addr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Mac, NetlinkError, Socket};
use crate::kernel::transport::{NLM_F_CREATE, NLM_F_REPLACE};

/// A permanent neighbour entry: what ARP would have to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The address.
    pub address: Ipv4Addr,
    /// The link address behind it.
    pub mac: Mac,
}

/// A permanent forwarding entry of a VXLAN link: where a link address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    /// The link address.
    pub mac: Mac,
    /// The host to which its frames are tunnelled.
    pub host: Ipv4Addr,
}

impl Socket {
    /// The permanent IPv4 neighbours of a link.
    pub fn neighbours(&mut self, link: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut found = self.neighbour_messages(AddressFamily::Inet, link, "neighbours")?;
        found.retain(|message| message.header.state == NeighbourState::Permanent);
        let read = |message: &NeighbourMessage| {
            Some(Neighbour { address: destination(message)?, mac: link_address(message)? })
        };
        Ok(found.iter().filter_map(read).collect())
    }

    /// The forwarding entries of a VXLAN link.
    pub fn forwardings(&mut self, link: u32) -> Result<Vec<Forwarding>, NetlinkError> {
        let found = self.neighbour_messages(AddressFamily::Bridge, link, "forwarding entries")?;
        let read = |message: &NeighbourMessage| {
            Some(Forwarding { mac: link_address(message)?, host: destination(message)? })
        };
        Ok(found.iter().filter_map(read).collect())
    }

    /// Makes these neighbours true on a link, whatever it held for their addresses.
    pub fn replace_neighbours(
        &mut self,
        link: u32,
        neighbours: &[Neighbour],
    ) -> Result<(), NetlinkError> {
        let requests = neighbours
            .iter()
            .map(|entry| RouteNetlinkMessage::NewNeighbour(neighbour_message(link, entry)));
        self.batch(requests, NLM_F_CREATE | NLM_F_REPLACE, |index| {
            format!("set the neighbour {} of link {link}", neighbours[index].address)
        })
    }

    /// Makes these forwarding entries true on a VXLAN link, whatever it held for their link addresses.
    pub fn replace_forwardings(
        &mut self,
        link: u32,
        forwardings: &[Forwarding],
    ) -> Result<(), NetlinkError> {
        let requests = forwardings
            .iter()
            .map(|entry| RouteNetlinkMessage::NewNeighbour(forwarding_message(link, entry)));
        self.batch(requests, NLM_F_CREATE | NLM_F_REPLACE, |index| {
            format!("forward a link address to {} on link {link}", forwardings[index].host)
        })
    }

    /// Removes neighbours of a link. Those that are not there are fine.
    pub fn delete_neighbours(
        &mut self,
        link: u32,
        neighbours: &[Neighbour],
    ) -> Result<(), NetlinkError> {
        self.delete_each(neighbours.len(), |index| {
            let entry = &neighbours[index];
            let attempted = format!("remove the neighbour {} of link {link}", entry.address);
            (neighbour_message(link, entry), attempted)
        })
    }

    /// Removes forwarding entries of a VXLAN link, and what the bridge above it has learned of the same link
    /// addresses. Those that are not there are fine.
    pub fn delete_forwardings(
        &mut self,
        link: u32,
        forwardings: &[Forwarding],
    ) -> Result<(), NetlinkError> {
        self.delete_each(forwardings.len(), |index| {
            let entry = &forwardings[index];
            let attempted = format!("remove a forwarding entry to {} on link {link}", entry.host);
            (forwarding_message(link, entry), attempted)
        })?;
        self.delete_each(forwardings.len(), |index| {
            let attempted = format!("make the bridge of link {link} forget a link address");
            (learned_message(link, forwardings[index].mac), attempted)
        })
    }

    fn delete_each(
        &mut self,
        count: usize,
        describe: impl Fn(usize) -> (NeighbourMessage, String),
    ) -> Result<(), NetlinkError> {
        // Removals are rare and few; one by one, so that a missing entry hides no other refusal.
        for index in 0..count {
            let (message, attempted) = describe(index);
            let request = RouteNetlinkMessage::DelNeighbour(message);
            match self.request(request, 0, || attempted.clone()) {
                // A tunnel that is no port of a bridge has none that could have learned anything.
                Err(error) if error.is_missing() || error.code() == Some(libc::EOPNOTSUPP) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn neighbour_messages(
        &mut self,
        family: AddressFamily,
        link: u32,
        what: &str,
    ) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = family;
        let found = self.dump(RouteNetlinkMessage::GetNeighbour(request), what)?;
        let of_link = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == link => {
                Some(message)
            }
            _ => None,
        });
        Ok(of_link.collect())
    }
}

fn neighbour_message(link: u32, entry: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(entry.address)),
        NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()),
    ];
    message
}

fn forwarding_message(link: u32, entry: &Forwarding) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(entry.host)),
    ];
    message
}

/// The entry of the bridge that the link is a port of.
fn learned_message(link: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    message
}

fn link_address(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        // In the bridge family the library leaves the address as bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from)
        }
        _ => None,
    })
}
