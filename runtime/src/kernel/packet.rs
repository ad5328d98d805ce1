//! IPv4 packets that begin connections: what they say, and how they are sent again.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use super::namespace::{Namespace, NamespaceError};
use super::nft::Transport;

const SHORTEST: usize = 20;
const SEQUENCE: usize = 4;
const CHECKSUM: usize = 16;
const RESET_AND_ACKNOWLEDGE: u8 = 0x14;

/// Why packets cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// No socket.
    #[error("could not open a socket that sends packets")]
    Open(#[source] io::Error),
    /// The namespace to work in could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// Between whom a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its transport protocol.
    pub transport: Transport,
    /// Who sent it.
    pub source: SocketAddrV4,
    /// To whom.
    pub destination: SocketAddrV4,
}

impl Flow {
    /// Of a packet from its IP header on; `None` for what is neither TCP nor UDP, or cut short.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let content = packet.get(header(packet)?..)?;
        let transport = match packet.get(9)? {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes(content.get(at..at + 2)?.try_into().ok()?));
        Some(Self {
            transport,
            source: SocketAddrV4::new(address(packet, 12)?, port(0)?),
            destination: SocketAddrV4::new(address(packet, 16)?, port(2)?),
        })
    }
}

/// Sends whole packets from one network namespace, where rules for what its host sends are met.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
}

impl Sender {
    /// Opens a socket in a namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self, PacketError> {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw)
        };
        let socket = namespace.enter(open)?.map_err(|error| PacketError::Open(error.into()))?;
        Ok(Self { socket })
    }

    /// Sends a packet of TCP again as it was. Its checksum is made anew: while a packet is on its way inside a host it has
    /// none yet.
    pub fn repeat(&self, packet: &[u8]) -> io::Result<()> {
        let mut packet = packet.to_vec();
        self.send(complete(&mut packet).ok_or_else(cut_short)?, &packet)
    }

    /// Answers the first packet of a connection of TCP in the name of whom it was for: nobody is there.
    pub fn refuse(&self, packet: &[u8]) -> io::Result<()> {
        let mut answer = refusal(packet).ok_or_else(cut_short)?;
        self.send(complete(&mut answer).ok_or_else(cut_short)?, &answer)
    }

    fn send(&self, to: Ipv4Addr, packet: &[u8]) -> io::Result<()> {
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        sendto(self.socket.as_raw_fd(), packet, &to, MsgFlags::empty())?;
        Ok(())
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the packet is cut short")
}

/// The length of the IP header.
fn header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && length >= SHORTEST && packet.len() >= length).then_some(length)
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
}

/// Gives a packet of TCP its checksum, and returns for whom it is.
fn complete(packet: &mut [u8]) -> Option<Ipv4Addr> {
    let start = header(packet)?;
    let length = u16::try_from(packet.len() - start).ok()?;
    if usize::from(length) < SHORTEST {
        return None;
    }
    packet[start + CHECKSUM..start + CHECKSUM + 2].fill(0);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(length.to_be_bytes());
    let mut sum: u32 = 0;
    for pair in pseudo.chunks(2).chain(packet[start..].chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).ok()?;
    packet[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    address(packet, 16)
}

/// The answer to a first packet, without its checksums.
fn refusal(packet: &[u8]) -> Option<Vec<u8>> {
    let content = packet.get(header(packet)?..)?;
    let number = u32::from_be_bytes(content.get(SEQUENCE..SEQUENCE + 4)?.try_into().ok()?);
    // Version and length, nothing asked for, the whole length; an identity that the kernel chooses; then time to live.
    let mut answer = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    answer.extend(&packet[16..20]);
    answer.extend(&packet[12..16]);
    answer.extend(content.get(2..4)?);
    answer.extend(content.get(0..2)?);
    answer.extend([0; 4]);
    answer.extend(number.wrapping_add(1).to_be_bytes());
    answer.extend([0x50, RESET_AND_ACKNOWLEDGE, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 10.0.0.1:1000 to 10.0.0.2:80, with the sequence number 5.
    fn first() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([3, 0xe8, 0, 80, 0, 0, 0, 5, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 1, 1, 0, 0]);
        packet
    }

    #[test]
    fn a_packet_says_between_whom_it_goes() {
        let flow = Flow::of(&first()).unwrap();
        assert_eq!(flow.transport, Transport::Tcp);
        assert_eq!(flow.source.to_string(), "10.0.0.1:1000");
        assert_eq!(flow.destination.to_string(), "10.0.0.2:80");
        for length in 0..24 {
            assert_eq!(Flow::of(&first()[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_checksum_makes_the_sum_whole() {
        let mut packet = first();
        assert_eq!(complete(&mut packet), Some(Ipv4Addr::new(10, 0, 0, 2)));
        let mut sum: u32 = [0x0a00, 0x0001, 0x0a00, 0x0002, 6, 20].into_iter().sum();
        for pair in packet[20..].chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(complete(&mut packet[..30].to_vec()), None);
    }

    #[test]
    fn a_refusal_answers_the_first_packet() {
        let answer = refusal(&first()).unwrap();
        let flow = Flow::of(&answer).unwrap();
        assert_eq!(flow.source.to_string(), "10.0.0.2:80");
        assert_eq!(flow.destination.to_string(), "10.0.0.1:1000");
        assert_eq!(answer[28..34], [0, 0, 0, 6, 0x50, RESET_AND_ACKNOWLEDGE]);
        assert_eq!(answer.len(), 40);
    }
}
