//! What the caller and the shim say to each other: frames of JSON over a unix socket, with
//! descriptors beside them.
//!
//! A frame is a length (four bytes, little endian) and that many bytes of JSON. The first frame of a
//! new shim comes over its standard input and is a [`CreateRequest`]; everything later comes over the
//! control socket in the container's folder, one [`Request`] for each connection.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupSpec;
use crate::record::{ContainerStatus, ExitRecord};
use crate::sys;

/// The longest frame either side accepts.
pub const MAX_FRAME: usize = 64 * 1024;
/// How many descriptors may be passed to a shim (the kernel's limit for one message is 253).
pub const MAX_FDS: usize = 64;

/// Where the root file system comes from. The shim mounts it inside the container's own mount
/// namespace, so nothing is mounted on the host and nothing has to be unmounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsSpec {
    /// The layers, topmost first. With one layer and no `upper_dir` it is used as it is.
    pub lower_dirs: Vec<PathBuf>,
    /// Where changes go; made if missing. Without it the file system cannot be written.
    pub upper_dir: Option<PathBuf>,
    /// overlayfs's own folder, on the same file system as `upper_dir`; made if missing.
    pub work_dir: Option<PathBuf>,
    /// Whether the container sees its root read-only (`config.json` can ask for it too).
    pub read_only: bool,
}

/// How large a log may grow: `files` of `max_bytes` each, the newest is `container.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// The size at which a file is set aside.
    pub max_bytes: u64,
    /// How many files are kept, the one being written included; at least one.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_bytes: 10 * 1024 * 1024, files: 2 }
    }
}

/// The form of a syslog message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// RFC 3164, in UTC.
    #[default]
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

/// Where lines go besides the file in the container's folder. They go as they come: what cannot be sent at once is lost
/// there, and the container never waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSink {
    /// Nowhere else.
    #[default]
    File,
    /// Nowhere at all: there is no file either.
    Nowhere,
    /// The journal of systemd, in its native protocol, with these fields.
    Journal {
        /// Names in capital letters, and values.
        fields: Vec<(String, String)>,
    },
    /// A syslog server.
    Syslog {
        /// `udp://host:514`, `tcp://host:601`, `unix:///path` or `unixgram:///path`.
        address: String,
        /// The facility's number.
        facility: u8,
        /// The form.
        format: SyslogFormat,
        /// The program's name in it.
        tag: String,
        /// The host's name in it.
        hostname: String,
    },
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogOptions {
    /// The bounds of the file.
    pub limits: LogLimits,
    /// Where else.
    pub sink: LogSink,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompChoice {
    /// The profile in `config.json` (`linux.seccomp`), or the built-in default profile without one.
    #[default]
    Default,
    /// No filter, whatever `config.json` says.
    Unconfined,
}

/// Until when a container may run: as long as somebody writes down that it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The file that says so: its last number is a time in milliseconds since the boot.
    pub file: PathBuf,
    /// So long after that time the container is killed.
    pub after: Duration,
}

/// The first message to a new shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The caller's name for the container.
    pub id: String,
    /// The container's folder.
    pub dir: PathBuf,
    /// The layers of its root file system.
    pub rootfs: RootfsSpec,
    /// The image's user: `name`, `uid`, `name:group`, `uid:gid`; instead of `process.user`'s ids.
    pub user: Option<String>,
    /// Further groups, by name in the image or by number.
    pub groups: Vec<String>,
    /// Whether a small init runs as process 1 and the program as its child.
    pub init: bool,
    /// Whether standard input stays open although nobody writes to it.
    pub stdin_open: bool,
    /// The system call filter.
    pub seccomp: SeccompChoice,
    /// Where output goes.
    pub log: LogOptions,
    /// Its control group and limits.
    pub cgroup: CgroupSpec,
    /// Until when it may run; without one for ever.
    pub fence: Option<Fence>,
    /// Names of the descriptors sent beside this message, in order.
    pub fd_names: Vec<String>,
}

/// What a caller asks of a running shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the program; answered when it runs or could not be run.
    Start,
    /// Send a signal to the first process, or to every process of the container.
    Kill {
        /// The signal's number.
        signal: i32,
        /// Whether every process gets it.
        all: bool,
    },
    /// Tell the status.
    Status,
    /// Answer when the container has ended.
    Wait,
    /// Hand out duplicates of the passed descriptors.
    Fds,
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// The container is created, and its first process has this id.
    Created {
        /// The process id as the host sees it.
        pid: i32,
    },
    /// The status asked for.
    Status(ContainerStatus),
    /// The container has ended.
    Exited(ExitRecord),
    /// The names of the descriptors beside this message, in order.
    Fds {
        /// The names.
        names: Vec<String>,
    },
    /// It did not work.
    Failed {
        /// What and why, in one sentence.
        message: String,
    },
}

/// Encodes one frame.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    if length as usize > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Sends one frame with descriptors beside it, blocking.
pub fn send<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = encode(message)?;
    sys::send_with_fds(socket.as_fd(), &frame, fds)
}

/// Receives one frame and the descriptors beside it, blocking.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut header = [0; 4];
    let mut fds = Vec::new();
    let got = sys::receive_with_fds(socket.as_fd(), &mut header, &mut fds)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut reader = socket;
    reader.read_exact(&mut header[got..])?;
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body).map_err(io::Error::other)?, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_messages_and_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&left, &Reply::Fds { names: vec!["dns".into()] }, &[file.as_fd()]).unwrap();
        send(&left, &Request::Wait, &[]).unwrap();
        let (reply, fds) = receive::<Reply>(&right).unwrap();
        assert_eq!(reply, Reply::Fds { names: vec!["dns".into()] });
        assert_eq!(fds.len(), 1);
        let (request, fds) = receive::<Request>(&right).unwrap();
        assert_eq!(request, Request::Wait);
        assert!(fds.is_empty());
    }

    #[test]
    fn a_frame_longer_than_allowed_is_refused_unread() {
        use std::io::Write as _;
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive::<Request>(&right).is_err());
        drop(left);
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        let error = receive::<Request>(&right).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
