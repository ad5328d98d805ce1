//! IPv4 routes and the rules that choose among routing tables.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Socket};
use crate::kernel::transport::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

/// The main routing table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// A unicast route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The first address of what it leads to; `0.0.0.0` with length 0 is everything.
    pub destination: Ipv4Addr,
    /// How many leading bits of the destination count.
    pub prefix_length: u8,
    /// The next hop; none for what is on the link itself.
    pub gateway: Option<Ipv4Addr>,
    /// The link that it leaves through, by its number.
    pub link: Option<u32>,
    /// The routing table; 254 is the main one.
    pub table: u32,
}

impl Route {
    /// The way for everything else, in the main table.
    pub fn default_via(gateway: Ipv4Addr) -> Self {
        let destination = Ipv4Addr::UNSPECIFIED;
        Self { destination, prefix_length: 0, gateway: Some(gateway), link: None, table: MAIN }
    }

    /// What is reachable on the link itself, in the main table.
    pub fn on_link(destination: Ipv4Addr, prefix_length: u8, link: u32) -> Self {
        Self { destination, prefix_length, gateway: None, link: Some(link), table: MAIN }
    }

    fn describe(&self) -> String {
        format!("route to {}/{}", self.destination, self.prefix_length)
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = AddressFamily::Inet;
        header.destination_prefix_length = self.prefix_length;
        // Numbers above 255 only fit the attribute.
        header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        header.protocol = RouteProtocol::Static;
        header.kind = RouteType::Unicast;
        header.scope = match self.gateway {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        if self.prefix_length > 0 {
            attributes.push(RouteAttribute::Destination(RouteAddress::Inet(self.destination)));
        }
        let gateway = self.gateway.map(|hop| RouteAttribute::Gateway(RouteAddress::Inet(hop)));
        attributes.extend(gateway);
        attributes.extend(self.link.map(RouteAttribute::Oif));
        message
    }

    fn read(message: &RouteMessage) -> Option<Self> {
        if message.header.kind != RouteType::Unicast {
            return None;
        }
        let mut route = Self {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix_length: message.header.destination_prefix_length,
            gateway: None,
            link: None,
            table: u32::from(message.header.table),
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    route.destination = *address;
                }
                RouteAttribute::Gateway(RouteAddress::Inet(hop)) => route.gateway = Some(*hop),
                RouteAttribute::Oif(link) => route.link = Some(*link),
                RouteAttribute::Table(table) => route.table = *table,
                _ => {}
            }
        }
        Some(route)
    }
}

/// A rule that sends some packets to a routing table of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Lower numbers are asked first.
    pub priority: u32,
    /// Only packets with this mark.
    pub mark: Option<u32>,
    /// Only packets from this address.
    pub source: Option<Ipv4Addr>,
    /// The table to use.
    pub table: u32,
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.header.table = u8::try_from(self.table).unwrap_or(0);
        message.attributes =
            vec![RuleAttribute::Priority(self.priority), RuleAttribute::Table(self.table)];
        message.attributes.extend(self.mark.map(RuleAttribute::FwMark));
        if let Some(source) = self.source {
            message.header.src_len = 32;
            message.attributes.push(RuleAttribute::Source(IpAddr::V4(source)));
        }
        message
    }

    fn read(message: &RuleMessage) -> Self {
        let table = u32::from(message.header.table);
        let mut rule = Self { priority: 0, mark: None, source: None, table };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
                RuleAttribute::Source(IpAddr::V4(source)) => rule.source = Some(*source),
                RuleAttribute::Table(table) => rule.table = *table,
                _ => {}
            }
        }
        rule
    }
}

impl Socket {
    /// All unicast IPv4 routes of all tables.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let found = self.dump(RouteNetlinkMessage::GetRoute(request), "routes")?;
        let routes = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => Route::read(&message),
            _ => None,
        });
        Ok(routes.collect())
    }

    /// Makes a route true, in place of one to the same destination.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewRoute(route.message());
        self.request(request, NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("set the {}", route.describe())
        })
    }

    /// Removes a route. One that is not there is fine.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let mut message = route.message();
        // The kernel compares these too; unset they match any.
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        let deleted = self.request(RouteNetlinkMessage::DelRoute(message), 0, || {
            format!("remove the {}", route.describe())
        });
        deleted.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }

    /// All IPv4 rules.
    pub fn rules(&mut self) -> Result<Vec<Rule>, NetlinkError> {
        let mut request = RuleMessage::default();
        request.header.family = AddressFamily::Inet;
        let found = self.dump(RouteNetlinkMessage::GetRule(request), "routing rules")?;
        let rules = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(message) => Some(Rule::read(&message)),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Adds a rule, which may already be there.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewRule(rule.message());
        let added = self.request(request, NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the routing rule {} to table {}", rule.priority, rule.table)
        });
        added.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
    }

    /// Removes a rule. One that is not there is fine.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::DelRule(rule.message());
        let deleted = self.request(request, 0, || {
            format!("remove the routing rule {} to table {}", rule.priority, rule.table)
        });
        deleted.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }
}
