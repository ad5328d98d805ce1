//! Packets that packet rules tell of ([`super::nft::Log`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::namespace::{Namespace, NamespaceError};
use super::transport::{HEADER, NLM_F_ACK, NLM_F_REQUEST, Transport, align, attributes, text};

const PACKET: u16 = 4 << 8;
const CONFIGURE: u16 = 4 << 8 | 1;
// `enum nfulnl_attr_config` and `nfulnl_attr_type`
const COMMAND: u16 = 1;
const MODE: u16 = 2;
const QUEUE: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// The first packets of connections are no longer.
const LONGEST: u32 = 2048;

/// Why packets cannot be heard of.
#[derive(Debug, thiserror::Error)]
pub enum NflogError {
    /// No socket.
    #[error("could not open a socket that hears of packets")]
    Open(#[source] io::Error),
    /// The namespace to work in could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused: somebody else listens in this group, or the kernel was built without `NETFILTER_NETLINK_LOG`.
    #[error("could not listen for packets in group {group}")]
    Bind {
        /// The group.
        group: u16,
        /// Why not.
        source: io::Error,
    },
    /// The socket failed.
    #[error("could not hear of packets")]
    Take(#[source] io::Error),
}

/// A packet that a rule told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What the rule said with it.
    pub prefix: String,
    /// From its IP header on.
    pub packet: Vec<u8>,
}

/// Hears of the packets of one group in one network namespace. Its descriptor becomes readable when there are some.
#[derive(Debug)]
pub struct Listener {
    transport: Transport,
}

impl Listener {
    /// Starts to listen in a namespace; packets from before are not heard of.
    pub fn listen_in(namespace: &Namespace, group: u16) -> Result<Self, NflogError> {
        let open = || Transport::open(NETLINK_NETFILTER);
        let mut transport = namespace.enter(open)?.map_err(NflogError::Open)?;
        let failed = |source| NflogError::Bind { group, source };
        let sequence = transport.next_sequence();
        transport.send(&bind(group, sequence)).map_err(failed)?;
        let refusals = transport.receive(sequence, |_| {}).map_err(failed)?;
        if let Some(refusal) = refusals.first() {
            return Err(failed(refusal.error()));
        }
        transport.socket().set_non_blocking(true).map_err(NflogError::Open)?;
        Ok(Self { transport })
    }

    /// All packets that wait.
    pub fn take(&mut self) -> Result<Vec<Logged>, NflogError> {
        let mut taken = Vec::new();
        let drained = self.transport.drain(|reply| {
            if reply.kind == PACKET {
                taken.extend(logged(reply.payload()));
            }
        });
        match drained {
            // More than fit: those that were lost are sent again by whoever sent them.
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                Err(NflogError::Take(error))
            }
            _ => Ok(taken),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.transport.as_fd().as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

fn bind(group: u16, sequence: u32) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(group.to_be_bytes());
    append(&mut body, COMMAND, &[BIND]);
    let mut mode = LONGEST.to_be_bytes().to_vec();
    mode.extend([COPY_PACKET, 0]);
    append(&mut body, MODE, &mode);
    // Each packet is told at once.
    append(&mut body, QUEUE, &1_u32.to_be_bytes());
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(CONFIGURE.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

fn append(bytes: &mut Vec<u8>, kind: u16, content: &[u8]) {
    bytes.extend(u16::try_from(4 + content.len()).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(align(bytes.len()), 0);
}

fn logged(payload: &[u8]) -> Option<Logged> {
    let body = payload.get(4..)?;
    let find = |kind| attributes(body).find(|(found, _)| *found == kind).map(|(_, data)| data);
    let packet = find(PAYLOAD)?.to_vec();
    Some(Logged { prefix: find(PREFIX).map(text).unwrap_or_default(), packet })
}
