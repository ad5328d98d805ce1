//! Links: bridges, VXLAN tunnels, veth pairs.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{Mac, Namespace, NetlinkError, Socket};
use crate::kernel::transport::{NLM_F_CREATE, NLM_F_EXCL};

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number by which requests name it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Its link address; not every link has one.
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Its group number; 0 by default.
    pub group: u32,
    /// `veth`, `bridge`, `vxlan`, …; none for a device.
    pub kind: Option<String>,
}

/// What a new link is.
#[derive(Debug, Clone, Copy)]
pub enum LinkKind<'a> {
    /// A bridge.
    Bridge,
    /// One end of a pair; the other end is described as well.
    Veth {
        /// The other end. Its own kind is not looked at.
        peer: &'a NewLink<'a>,
    },
    /// A tunnel end that learns nothing: it forwards by the entries it is given, and answers ARP by its neighbours.
    /// Its packets leave through the namespace of the socket that made it, wherever the link itself lies.
    Vxlan {
        /// The VXLAN network identifier.
        id: u32,
        /// The address that packets come from.
        local: Ipv4Addr,
        /// The UDP port, here and on the other side.
        port: u16,
    },
}

/// A link to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// What it is.
    pub kind: LinkKind<'a>,
    /// Its link address; the kernel draws one otherwise.
    pub mac: Option<Mac>,
    /// The largest packet; the kernel's default otherwise.
    pub mtu: Option<u32>,
    /// A group number that packet rules can match.
    pub group: Option<u32>,
    /// The bridge to join, by its number.
    pub master: Option<u32>,
    /// Where it shall lie; the socket's namespace otherwise.
    pub namespace: Option<&'a Namespace>,
    /// Whether it starts up.
    pub up: bool,
}

impl<'a> NewLink<'a> {
    /// A link that is down, in the socket's own namespace, with the kernel's defaults.
    pub fn new(name: &'a str, kind: LinkKind<'a>) -> Self {
        let (mac, mtu, group, master, namespace) = (None, None, None, None, None);
        Self { name, kind, mac, mtu, group, master, namespace, up: false }
    }

    /// The end of a pair that is described as the other one's peer. It starts down, whatever `up` says: the kernel
    /// refuses to open an end whose other end is not there yet.
    pub fn peer(name: &'a str) -> Self {
        Self::new(name, LinkKind::Bridge)
    }

    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = vec![LinkAttribute::IfName(self.name.to_owned())];
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.group.map(LinkAttribute::Group));
        attributes.extend(self.master.map(LinkAttribute::Controller));
        let descriptor = self.namespace.map(|namespace| namespace.as_fd().as_raw_fd());
        attributes.extend(descriptor.map(LinkAttribute::NetNsFd));
        attributes
    }

    fn message(&self, up: bool) -> LinkMessage {
        let mut message = LinkMessage::default();
        if up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes = self.attributes();
        message
    }

    fn info(&self) -> Vec<LinkInfo> {
        match self.kind {
            LinkKind::Bridge => vec![LinkInfo::Kind(InfoKind::Bridge)],
            LinkKind::Veth { peer } => vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message(false)))),
            ],
            LinkKind::Vxlan { id, local, port } => vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::Id(id),
                    InfoVxlan::Local(local),
                    InfoVxlan::Port(port),
                    InfoVxlan::Learning(false),
                    InfoVxlan::Proxy(true),
                    InfoVxlan::L2Miss(false),
                    InfoVxlan::L3Miss(false),
                ])),
            ],
        }
    }
}

impl Socket {
    /// Makes a link (both ends of a pair). One of that name must not be there yet.
    pub fn add_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        let mut message = link.message(link.up);
        message.attributes.push(LinkAttribute::LinkInfo(link.info()));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("make link `{}`", link.name)
        })
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let found = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), "links")?;
        let links = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The link of that name, if there is one.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// The link of that name, which must be there.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        self.find_link(name)?.ok_or_else(|| NetlinkError::NoLink { name: name.to_owned() })
    }

    /// Removes a link by name, and with it the other end of a pair. None of that name is fine.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let deleted = self
            .request(RouteNetlinkMessage::DelLink(message), 0, || format!("remove link `{name}`"));
        deleted.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }

    /// Takes a link up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let direction = if up { "up" } else { "down" };
        self.request(RouteNetlinkMessage::SetLink(message), 0, || {
            format!("take link {index} {direction}")
        })
    }

    /// Sets the largest packet.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.change(index, vec![LinkAttribute::Mtu(mtu)], || {
            format!("set the MTU of link {index} to {mtu}")
        })
    }

    /// Sets the link address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        self.change(index, vec![LinkAttribute::Address(mac.to_vec())], || {
            format!("set the address of link {index}")
        })
    }

    /// Makes a link a port of a bridge; 0 takes it off.
    pub fn set_master(&mut self, index: u32, master: u32) -> Result<(), NetlinkError> {
        self.change(index, vec![LinkAttribute::Controller(master)], || {
            format!("make link {index} a port of bridge {master}")
        })
    }

    /// Moves a link into another namespace under a name.
    pub fn move_link(
        &mut self,
        index: u32,
        namespace: &Namespace,
        name: &str,
    ) -> Result<(), NetlinkError> {
        let attributes = vec![
            LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
        ];
        self.change(index, attributes, || {
            format!("move link {index} into `{}` as `{name}`", namespace.path().display())
        })
    }

    fn change(
        &mut self,
        index: u32,
        attributes: Vec<LinkAttribute>,
        attempted: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = attributes;
        self.request(RouteNetlinkMessage::SetLink(message), 0, attempted)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mac: None,
            mtu: 0,
            master: None,
            group: 0,
            kind: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address.try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}
