//! Flows that the kernel remembers. A translated flow of datagrams keeps its old destination for as long as datagrams
//! come, also when that destination is gone: such flows can be removed. And who has connections open can be told.

use std::io;
use std::net::Ipv4Addr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::namespace::{Namespace, NamespaceError};
use super::transport::{
    HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Transport, align, attributes,
};

const COUNTING: &str = "count the tracked flows";
const LISTING: &str = "list the tracked flows";
const REMOVING: &str = "remove a tracked flow";

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const GET_STATISTICS: u16 = 1 << 8 | 5;
/// `enum ctattr_stats_global`
const STATISTICS_ENTRIES: u16 = 1;
const IPV4: u8 = 2;
const UDP: u8 = 17;
const NESTED: u16 = 0x8000;
// `enum ctattr_type`, `ctattr_tuple`, `ctattr_ip`, `ctattr_l4proto`
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ZONE: u16 = 18;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
// `enum ctattr_protoinfo`, `ctattr_protoinfo_tcp`, `enum tcp_conntrack`
const INFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const TCP_SYN_SENT: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 5;
const TCP: u8 = 6;

/// Why flows could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// No socket.
    #[error("could not open a connection tracking socket")]
    Open(#[source] io::Error),
    /// The namespace to work in could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused, or could not be asked.
    #[error("could not {attempted}")]
    Refused {
        /// What was asked.
        attempted: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A translated flow of UDP datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where its sender sends to.
    pub destination: Ipv4Addr,
    /// At which port.
    pub port: u16,
    /// Who gets it.
    pub backend: Ipv4Addr,
}

/// A connection tracking socket in one network namespace. It keeps that namespace alive.
#[derive(Debug)]
pub struct Socket {
    transport: Transport,
}

impl Socket {
    /// Opens a socket in a namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self, ConntrackError> {
        let open = || Transport::open(NETLINK_NETFILTER);
        let transport = namespace.enter(open)?.map_err(ConntrackError::Open)?;
        Ok(Self { transport })
    }

    /// Removes the translated UDP flows of the namespace that `doomed` picks, and returns how many. The next datagram of
    /// their senders is led anew.
    pub fn forget_udp(&mut self, doomed: impl Fn(&Flow) -> bool) -> Result<usize, ConntrackError> {
        // To list them the kernel looks at the flows of all namespaces.
        if self.count()? == 0 {
            return Ok(0);
        }
        let mut found = Vec::new();
        self.ask(LISTING, GET, NLM_F_DUMP, |payload| found.extend(translated(payload, &doomed)))?;
        let failed = |source| ConntrackError::Refused { attempted: REMOVING, source };
        for tuple in &found {
            let sequence = self.transport.next_sequence();
            let request = message(DELETE, NLM_F_ACK, sequence, tuple);
            self.transport.send(&request).map_err(failed)?;
            let refusals = self.transport.receive(sequence, |_| {}).map_err(failed)?;
            // One that ended meanwhile is gone as well.
            if let Some(refusal) = refusals.iter().find(|refusal| refusal.code != libc::ENOENT) {
                return Err(failed(refusal.error()));
            }
        }
        Ok(found.len())
    }

    /// How many flows to one of these addresses are open in the namespace that `own` addresses did not begin:
    /// connections until both sides have closed them, datagrams as long as the kernel remembers them.
    pub fn count_open(&mut self, own: &[Ipv4Addr]) -> Result<u64, ConntrackError> {
        let mut count = 0;
        self.ask(LISTING, GET, NLM_F_DUMP, |payload| count += u64::from(is_open(payload, own)))?;
        Ok(count)
    }

    /// How many flows the namespace has.
    pub fn count(&mut self) -> Result<u32, ConntrackError> {
        let mut count = 0;
        self.ask(COUNTING, GET_STATISTICS, NLM_F_ACK, |payload| {
            let entries = payload.get(4..).and_then(|body| find(body, STATISTICS_ENTRIES));
            count = entries.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        })?;
        Ok(count)
    }

    fn ask(
        &mut self,
        attempted: &'static str,
        kind: u16,
        flags: u16,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ConntrackError> {
        let failed = |source| ConntrackError::Refused { attempted, source };
        let sequence = self.transport.next_sequence();
        self.transport.send(&message(kind, flags, sequence, &[])).map_err(failed)?;
        let refusals = self.transport.receive(sequence, |reply| each(reply.payload()));
        match refusals.map_err(failed)?.first() {
            Some(refusal) => Err(failed(refusal.error())),
            None => Ok(()),
        }
    }
}

fn find(of: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(of).find(|(found, _)| *found == kind).map(|(_, data)| data)
}

/// Whether a listed flow is one that others began to one of these addresses, and is not over.
fn is_open(payload: &[u8], own: &[Ipv4Addr]) -> bool {
    let look = || {
        let body = payload.get(4..)?;
        let original = find(body, ORIGINAL)?;
        let (source, destination, protocol, _) = addresses(original)?;
        let state = find(body, PROTOCOL_INFO)
            .and_then(|info| find(info, INFO_TCP))
            .and_then(|tcp| find(tcp, TCP_STATE)?.first().copied());
        let is_over = protocol == TCP
            && !state.is_some_and(|state| (TCP_SYN_SENT..=TCP_CLOSE_WAIT).contains(&state));
        Some(own.contains(&destination) && !own.contains(&source) && !is_over)
    };
    look().unwrap_or(false)
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = HEADER + 4 + body.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    // `struct nfgenmsg`
    bytes.extend([IPV4, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

/// The attributes by which a listed flow is named in a request, when it is one of the doomed.
fn translated(payload: &[u8], doomed: &impl Fn(&Flow) -> bool) -> Option<Vec<u8>> {
    let body = payload.get(4..)?;
    let (original, reply) = (find(body, ORIGINAL)?, find(body, REPLY)?);
    let (_, destination, protocol, port) = addresses(original)?;
    let (backend, ..) = addresses(reply)?;
    let flow = Flow { destination, port, backend };
    if protocol != UDP || destination == backend || !doomed(&flow) {
        return None;
    }
    let mut name = Vec::new();
    append(&mut name, ORIGINAL | NESTED, original);
    if let Some(zone) = find(body, ZONE) {
        append(&mut name, ZONE, zone);
    }
    Some(name)
}

fn append(bytes: &mut Vec<u8>, kind: u16, content: &[u8]) {
    bytes.extend(u16::try_from(4 + content.len()).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(align(bytes.len()), 0);
}

/// Source, destination, protocol and destination port of one direction.
fn addresses(tuple: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, u8, u16)> {
    let both = find(tuple, TUPLE_ADDRESSES)?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(both, kind)?).ok()?));
    let number = *find(protocol, 1)?.first()?;
    // Not every protocol has ports.
    let port = find(protocol, 3).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    Some((address(1)?, address(2)?, number, port.unwrap_or_default()))
}
