//! IPv4 addresses of links.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Socket};
use crate::kernel::transport::{NLM_F_CREATE, NLM_F_REPLACE};

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// How many leading bits name the subnet.
    pub prefix_length: u8,
}

impl Socket {
    /// All IPv4 addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let found = self.dump(RouteNetlinkMessage::GetAddress(request), "addresses")?;
        let addresses = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => read(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Gives a link an address, which it may already have.
    pub fn add_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let Address { link, address: ip, prefix_length } = address;
        self.request(
            RouteNetlinkMessage::NewAddress(message(address)),
            NLM_F_CREATE | NLM_F_REPLACE,
            || format!("give link {link} the address {ip}/{prefix_length}"),
        )
    }

    /// Takes an address from a link. One that is not there is fine.
    pub fn delete_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let Address { link, address: ip, prefix_length } = address;
        let deleted = self.request(RouteNetlinkMessage::DelAddress(message(address)), 0, || {
            format!("take the address {ip}/{prefix_length} from link {link}")
        });
        deleted.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }
}

fn message(address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix_length;
    message.header.index = address.link;
    message.header.scope =
        if address.address.is_loopback() { AddressScope::Host } else { AddressScope::Universe };
    let ip = IpAddr::V4(address.address);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn read(message: &AddressMessage) -> Option<Address> {
    // `Local` is the link's own address; `Address` the other side's on a point-to-point link.
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    let prefix_length = message.header.prefix_len;
    Some(Address { link: message.header.index, address: own, prefix_length })
}
