//! Links, addresses, routes, rules and neighbours of one network namespace, by blocking rtnetlink requests.
//!
//! Every request takes microseconds, so callers in async code need no thread for one, only for many.

mod address;
mod link;
mod neighbour;
mod route;

use std::io;

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

pub use address::Address;
pub use link::{Link, LinkKind, NewLink};
pub use neighbour::{Forwarding, Neighbour};
pub use route::{Route, Rule};

use super::namespace::{Namespace, NamespaceError};
use super::transport::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Transport};

/// A link address.
pub type Mac = [u8; 6];

/// As many bytes of requests go into one system call.
const BATCH: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("could not open a netlink socket")]
    Open(#[source] io::Error),
    /// The namespace to work in could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The request did not reach the kernel, or its answer not us.
    #[error("could not {attempted}: the netlink socket failed")]
    Socket {
        /// What was asked.
        attempted: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("could not {attempted}")]
    Refused {
        /// What was asked.
        attempted: String,
        /// The error number of `errno.h`.
        code: i32,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A link that must be there is not.
    #[error("there is no link `{name}`")]
    NoLink {
        /// Its name.
        name: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, when it was the kernel that refused.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether what should be made is already there.
    pub fn is_exists(&self) -> bool {
        self.code() == Some(libc::EEXIST)
    }

    /// Whether what should be changed or removed is not there.
    pub fn is_missing(&self) -> bool {
        let missing = [libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL];
        matches!(self, Self::NoLink { .. })
            || self.code().is_some_and(|code| missing.contains(&code))
    }
}

/// An rtnetlink socket in one network namespace. It keeps that namespace alive.
#[derive(Debug)]
pub struct Socket {
    transport: Transport,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let transport = Transport::open(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        Ok(Self { transport })
    }

    /// Opens a socket in another namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self, NetlinkError> {
        namespace.enter(Self::open)?
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempted: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        self.batch(std::iter::once(message), flags, |_| attempted())
    }

    /// Sends requests in as few system calls as their size allows. All are tried; the first refusal is returned.
    fn batch(
        &mut self,
        requests: impl IntoIterator<Item = RouteNetlinkMessage>,
        flags: u16,
        attempted: impl Fn(usize) -> String,
    ) -> Result<(), NetlinkError> {
        let mut requests = requests.into_iter().enumerate().peekable();
        let mut failed = None;
        while requests.peek().is_some() {
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            while bytes.len() < BATCH
                && let Some((index, request)) = requests.next()
            {
                let sequence = self.transport.next_sequence();
                sent.push((sequence, index));
                emit(request, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &mut bytes);
            }
            let Some((last, index)) = sent.last().copied() else { break };
            let lost = |source| NetlinkError::Socket { attempted: attempted(index), source };
            self.transport.send(&bytes).map_err(lost)?;
            let refusals = self.transport.receive(last, |_| {}).map_err(lost)?;
            if let (None, Some(refusal)) = (&failed, refusals.first()) {
                let of = sent.iter().find(|(sequence, _)| *sequence == refusal.sequence);
                failed = Some(NetlinkError::Refused {
                    attempted: attempted(of.map_or(index, |(_, index)| *index)),
                    code: refusal.code,
                    source: refusal.error(),
                });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks for everything of one kind.
    fn dump(
        &mut self,
        request: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let lost = |source| NetlinkError::Socket { attempted: format!("list the {what}"), source };
        let sequence = self.transport.next_sequence();
        let mut bytes = Vec::new();
        emit(request, NLM_F_REQUEST | NLM_F_DUMP, sequence, &mut bytes);
        self.transport.send(&bytes).map_err(lost)?;
        let mut found = Vec::new();
        let refusals = self
            .transport
            .receive(sequence, |reply| found.extend(decode(reply.bytes)))
            .map_err(lost)?;
        match refusals.first() {
            None => Ok(found),
            Some(refusal) => Err(NetlinkError::Refused {
                attempted: format!("list the {what}"),
                code: refusal.code,
                source: refusal.error(),
            }),
        }
    }
}

fn emit(message: RouteNetlinkMessage, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// What this library cannot read (a newer kernel's kind of link) is left out of a listing.
fn decode(bytes: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::deserialize(bytes).ok()?.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
