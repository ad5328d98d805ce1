//! Lines to a journal or a syslog server. The container never waits for one: what does not go out at once is lost there,
//! and stands in the file beside it.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::log::{Line, Stream};
use crate::message::{LogSink, SyslogFormat};
use crate::sys;

/// Where systemd's journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// How long a connection to a server may take.
const CONNECT: Duration = Duration::from_millis(500);
/// After a failed one, how long until the next.
const RETRY: Duration = Duration::from_secs(5);

/// Severities of syslog, which the journal has too.
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

/// Where lines go besides the file.
#[derive(Debug)]
pub(super) enum Sink {
    /// Nowhere.
    None,
    Journal(Journal),
    Syslog(Syslog),
}

impl Sink {
    pub(super) fn new(options: &LogSink) -> Self {
        match options.clone() {
            LogSink::File | LogSink::Nowhere => Self::None,
            LogSink::Journal { fields } => {
                Self::Journal(Journal { path: JOURNAL.into(), fields, socket: None })
            }
            LogSink::Syslog { address, facility, format, tag, hostname } => {
                let header = Header { facility, format, tag, hostname };
                Self::Syslog(Syslog { address, header, connection: None, retry_at: None })
            }
        }
    }

    pub(super) fn send(&mut self, line: Line<'_>) {
        match self {
            Self::None => {}
            Self::Journal(journal) => journal.send(line),
            Self::Syslog(syslog) => syslog.send(line),
        }
    }
}

fn severity(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => INFORMATION,
        Stream::Stderr => ERROR,
    }
}

/// The journal, in its native protocol.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    fields: Vec<(String, String)>,
    socket: Option<UnixDatagram>,
}

impl Journal {
    fn send(&mut self, line: Line<'_>) {
        if self.socket.is_none() {
            self.socket = unbound().ok();
        }
        // Addressed anew each time, so that a journal that was restarted is found.
        if let Some(socket) = &self.socket {
            let _ = socket.send_to(&entry(&self.fields, line), &self.path);
        }
    }
}

fn unbound() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One entry: `NAME=value` lines; a value with an end of line in it after its length.
fn entry(fields: &[(String, String)], line: Line<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    let mut add = |name: &str, value: &[u8]| {
        entry.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value);
        entry.push(b'\n');
    };
    add("MESSAGE", line.text);
    add("PRIORITY", severity(line.stream).to_string().as_bytes());
    if line.is_part {
        add("CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    for (name, value) in fields {
        add(name, value.as_bytes());
    }
    entry
}

/// What each message to a server begins with.
#[derive(Debug)]
struct Header {
    facility: u8,
    format: SyslogFormat,
    tag: String,
    hostname: String,
}

impl Header {
    fn message(&self, line: Line<'_>) -> Vec<u8> {
        let priority = u32::from(self.facility) * 8 + u32::from(severity(line.stream));
        let since = SignedDuration::try_from(line.time).unwrap_or_default();
        let time = Timestamp::from_duration(since).unwrap_or_default();
        let (tag, hostname, own) = (&self.tag, &self.hostname, std::process::id());
        let head = match self.format {
            SyslogFormat::Rfc3164 => {
                let time = time.strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {hostname} {tag}[{own}]: ")
            }
            SyslogFormat::Rfc5424 => {
                let time = time.strftime("%Y-%m-%dT%H:%M:%SZ");
                format!("<{priority}>1 {time} {hostname} {tag} {own} {tag} - ")
            }
            SyslogFormat::Rfc5424Micro => {
                format!("<{priority}>1 {time:.6} {hostname} {tag} {own} {tag} - ")
            }
        };
        [head.as_bytes(), line.text].concat()
    }
}

#[derive(Debug)]
enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

/// A syslog server.
#[derive(Debug)]
pub(super) struct Syslog {
    address: String,
    header: Header,
    connection: Option<Connection>,
    /// By the clock that only goes forward.
    retry_at: Option<Duration>,
}

impl Syslog {
    fn send(&mut self, line: Line<'_>) {
        if self.connection.is_none() && self.retry_at.is_none_or(|at| sys::monotonic() >= at) {
            self.connection = connect(&self.address).ok();
            self.retry_at = self.connection.is_none().then(|| sys::monotonic() + RETRY);
        }
        let Some(connection) = &mut self.connection else { return };
        let mut message = self.header.message(line);
        let sent = match connection {
            Connection::Udp(socket) => socket.send(&message).map(drop),
            Connection::Datagram(socket) => socket.send(&message).map(drop),
            Connection::Tcp(stream) => {
                message.push(b'\n');
                stream.write_all(&message)
            }
            Connection::Stream(stream) => {
                message.push(b'\n');
                stream.write_all(&message)
            }
        };
        // What is only full now may take the next line; but half a line on a stream would spoil the next one.
        let is_stream = matches!(connection, Connection::Tcp(_) | Connection::Stream(_));
        if sent.is_err_and(|error| is_stream || error.kind() != io::ErrorKind::WouldBlock) {
            self.connection = None;
        }
    }
}

fn connect(address: &str) -> io::Result<Connection> {
    let (kind, rest) = address.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
    Ok(match kind {
        "udp" => {
            let server = rest.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
            let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            Connection::Udp(socket)
        }
        "tcp" => {
            let server = rest.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&server, CONNECT)?;
            stream.set_nonblocking(true)?;
            Connection::Tcp(stream)
        }
        "unixgram" => datagram(Path::new(rest))?,
        // As Docker: whatever listens there.
        "unix" => datagram(Path::new(rest)).or_else(|_| stream(Path::new(rest)))?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    })
}

fn stream(path: &Path) -> io::Result<Connection> {
    let stream = UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    Ok(Connection::Stream(stream))
}

fn datagram(path: &Path) -> io::Result<Connection> {
    let socket = unbound()?;
    socket.connect(path)?;
    Ok(Connection::Datagram(socket))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    const TIME: Duration = Duration::new(1_475_713_029, 669_794_202);

    fn line(stream: Stream, text: &str) -> Line<'_> {
        Line { stream, is_part: false, text: text.as_bytes(), time: TIME }
    }

    fn syslog(address: String, format: SyslogFormat) -> Sink {
        let (tag, hostname) = ("web.1".to_owned(), "n1".to_owned());
        Sink::new(&LogSink::Syslog { address, facility: 3, format, tag, hostname })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn the_journal_gets_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let fields = vec![("CONTAINER_NAME".to_owned(), "web.1".to_owned())];
        let mut journal = Journal { path, fields, socket: None };
        journal.send(line(Stream::Stderr, "bad"));
        let wanted = "MESSAGE=bad\nPRIORITY=3\nCONTAINER_NAME=web.1\n";
        assert_eq!(received(&listener), wanted);
        journal.send(Line { is_part: true, ..line(Stream::Stdout, "a") });
        assert!(received(&listener).contains("\nCONTAINER_PARTIAL_MESSAGE=true\n"));
        // A journal that is gone costs lines, and one that is back has the next.
        drop(listener);
        journal.send(line(Stream::Stdout, "lost"));
        std::fs::remove_file(&journal.path).unwrap();
        let listener = UnixDatagram::bind(&journal.path).unwrap();
        journal.send(line(Stream::Stdout, "here"));
        assert!(received(&listener).starts_with("MESSAGE=here\n"));
    }

    #[test]
    fn a_value_of_several_lines_has_its_length() {
        let fields = [("A".to_owned(), "x\ny".to_owned())];
        let entry = entry(&fields, line(Stream::Stdout, "m"));
        let wanted = [&b"MESSAGE=m\nPRIORITY=6\nA\n"[..], &[3, 0, 0, 0, 0, 0, 0, 0], b"x\ny\n"];
        assert_eq!(entry, wanted.concat());
    }

    #[test]
    fn syslog_has_three_forms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let listener = UnixDatagram::bind(&path).unwrap();
        let own = std::process::id();
        for (kind, format, wanted) in [
            ("unix", SyslogFormat::Rfc3164, format!("<30>Oct  6 00:17:09 n1 web.1[{own}]: hi")),
            (
                "unixgram",
                SyslogFormat::Rfc5424,
                format!("<30>1 2016-10-06T00:17:09Z n1 web.1 {own} web.1 - hi"),
            ),
            (
                "unixgram",
                SyslogFormat::Rfc5424Micro,
                format!("<30>1 2016-10-06T00:17:09.669794Z n1 web.1 {own} web.1 - hi"),
            ),
        ] {
            let mut sink = syslog(format!("{kind}://{}", path.display()), format);
            sink.send(line(Stream::Stdout, "hi"));
            assert_eq!(received(&listener), wanted);
        }
    }

    #[test]
    fn servers_are_reached_by_udp_and_tcp() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", udp.local_addr().unwrap());
        syslog(address, SyslogFormat::Rfc5424).send(line(Stream::Stderr, "oops"));
        let mut buffer = [0; 256];
        let length = udp.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"<27>1 ") && buffer[..length].ends_with(b"- oops"));

        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", tcp.local_addr().unwrap());
        let mut sink = syslog(address, SyslogFormat::Rfc5424);
        sink.send(line(Stream::Stdout, "one"));
        sink.send(line(Stream::Stdout, "two"));
        drop(sink);
        let mut text = String::new();
        tcp.accept().unwrap().0.read_to_string(&mut text).unwrap();
        let ends: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(ends, ["one", "two"], "{text}");
    }

    #[test]
    fn a_server_that_is_not_there_is_left_alone_for_a_while() {
        let mut sink = syslog("unix:///nowhere/at/all".to_owned(), SyslogFormat::Rfc3164);
        sink.send(line(Stream::Stdout, "lost"));
        let Sink::Syslog(syslog) = &sink else { panic!() };
        assert!(syslog.connection.is_none() && syslog.retry_at.is_some());
    }
}
