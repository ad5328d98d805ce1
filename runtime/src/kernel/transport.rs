//! A netlink socket: requests go out, the kernel's answers come back. Requests are served while they are sent, so a
//! whole batch costs one system call and its answers wait in the socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A batch may be as large as this before the kernel refuses it.
const SEND_BUFFER: usize = 16 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// The kernel fills no larger datagram. Sockets are kept by the hundred, so the space is only held while it is used.
const DATAGRAM: usize = 64 << 10;

/// An acknowledgement or a refusal, which repeats the header that it answers and may say why in some words.
const ANSWER: usize = 1 << 10;

/// One message from the kernel.
pub(super) struct Reply<'a> {
    /// What it is, as the protocol counts.
    pub(super) kind: u16,
    /// The request that it answers.
    pub(super) sequence: u32,
    /// The whole message, header included.
    pub(super) bytes: &'a [u8],
}

impl Reply<'_> {
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }
}

/// Why the kernel refused a request, in its own words where it has some.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sequence: u32,
    pub(super) code: i32,
    pub(super) words: Option<String>,
}

impl Refusal {
    pub(super) fn error(&self) -> io::Error {
        let error = io::Error::from_raw_os_error(self.code);
        match &self.words {
            Some(words) => io::Error::new(error.kind(), format!("{error}: {words}")),
            None => error,
        }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Transport {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // The forced sizes need a privilege that is missing in a user namespace; the ordinary ones do for small work.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// A number for the next message.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends whole messages.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes, 0).map(|_| ())
    }

    /// Hands every answer to `each` until the message numbered `last` is acknowledged, refused, or its dump is done.
    /// All refusals come back in the order in which they arrived.
    pub(super) fn receive(
        &mut self,
        last: u32,
        mut each: impl FnMut(&Reply<'_>),
    ) -> io::Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        loop {
            let bytes = self.read(0)?;
            let mut finished = false;
            for reply in messages(bytes) {
                if reply.kind == NLMSG_ERROR {
                    refusals.extend(refusal(&reply));
                } else if reply.kind != NLMSG_DONE {
                    each(&reply);
                    continue;
                }
                finished |= reply.sequence == last;
            }
            if finished {
                self.buffer = Vec::new();
                return Ok(refusals);
            }
        }
    }

    /// The refusals of a batch that was just sent, whose messages are numbered from `first` to `last` and whose last one
    /// asks for an acknowledgement. Answers from before are passed over.
    pub(super) fn answers(&mut self, first: u32, last: u32) -> io::Result<Vec<Refusal>> {
        // Kept on the stack: this runs for every change in every namespace, and answers are short.
        let mut space = [0; ANSWER];
        let mut refusals = Vec::new();
        loop {
            let mut rest = space.as_mut_slice();
            let length = match self.socket.recv(&mut rest, libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Requests are served while they are sent: what is not there does not come.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            };
            let answers = messages(&space[..length]).filter(|reply| reply.kind == NLMSG_ERROR);
            let count = last.wrapping_sub(first);
            let mut finished = false;
            for answer in answers.filter(|one| one.sequence.wrapping_sub(first) <= count) {
                refusals.extend(refusal(&answer));
                finished |= answer.sequence == last;
            }
            if finished {
                return Ok(refusals);
            }
        }
        if refusals.is_empty() {
            return Err(io::Error::other("the kernel gave no answer"));
        }
        Ok(refusals)
    }

    /// Hands what already waits in the socket to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&Reply<'_>)) -> io::Result<()> {
        loop {
            match self.read(libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer = Vec::new();
                    return Ok(());
                }
                other => messages(other?).for_each(|reply| each(&reply)),
            }
        }
    }

    fn read(&mut self, flags: i32) -> io::Result<&[u8]> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            match self.socket.recv(&mut self.buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    other?;
                    return Ok(&self.buffer);
                }
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of one datagram. What does not fit its own length ends the walk.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let (kind, sequence) = (u16_at(bytes, 4)?, u32_at(bytes, 8)?);
        let message = bytes.get(..length).filter(|_| length >= HEADER)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(Reply { kind, sequence, bytes: message })
    })
}

/// The attributes of a message's body, kind (without its flag bits) and content.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The text of an attribute, without its closing zero.
pub(super) fn text(content: &[u8]) -> String {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    String::from_utf8_lossy(&content[..end]).into_owned()
}

pub(super) fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn refusal(reply: &Reply<'_>) -> Option<Refusal> {
    let payload = reply.payload();
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    let flags = u16_at(reply.bytes, 6)?;
    // The request's header is repeated after the code, its body is not (NETLINK_CAP_ACK).
    let details = payload.get(4 + HEADER..).filter(|_| flags & NLM_F_ACK_TLVS != 0);
    let words = attributes(details.unwrap_or_default())
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, content)| text(content));
    (code != 0).then(|| Refusal { sequence: reply.sequence, code: -code, words })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
