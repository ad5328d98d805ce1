//! The long part of a shim's life: reads the container's streams into the log, answers callers, and
//! writes down the end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use super::fence::FenceTimer;
use super::log::{Log, Stream};
use super::shutdown::Shutdown;
use crate::cgroup::Cgroup;
use crate::message::{self, MAX_FRAME, Reply, Request};
use crate::record::{self, ContainerRecord, ContainerStatus, ExitRecord};
use crate::sys::{self, WaitStatus};

/// How much is read from a stream at a time.
const READ_SIZE: usize = 8 * 1024;
/// How much is still read from a stream after the container's end. Its processes are gone by then; a
/// process elsewhere that holds the pipe must not hold up the end.
const DRAIN_LIMIT: usize = 1 << 20;
/// How many callers may be connected at a time.
const MAX_CLIENTS: usize = 32;

/// A caller on the control socket.
struct Client {
    socket: UnixStream,
    received: Vec<u8>,
    /// What it waits for, once it has asked.
    waiting: Option<Request>,
}

/// How far the start has come.
enum Start {
    /// Nobody has asked.
    Waiting,
    /// The first process was told; its channel closes when the program runs.
    Asked,
    /// The program runs.
    Done { at_ms: u64 },
}

/// What only this process holds open of a new container.
pub(super) struct Held {
    pub(super) pidfd: OwnedFd,
    pub(super) channel: UnixStream,
    pub(super) streams: [Option<OwnedFd>; 2],
    pub(super) listener: UnixListener,
    pub(super) log: Log,
    pub(super) passed: Vec<(String, OwnedFd)>,
    pub(super) lock: File,
    pub(super) shutdown: Shutdown,
    pub(super) fence: Option<FenceTimer>,
    /// Where the container's input would be written; open, so that the input has no end.
    pub(super) stdin: Option<OwnedFd>,
}

/// A shim whose container is created.
pub(super) struct Shim {
    dir: PathBuf,
    record: ContainerRecord,
    pidfd: OwnedFd,
    /// The conversation with the first process, until the program runs.
    channel: Option<UnixStream>,
    streams: [Option<OwnedFd>; 2],
    listener: UnixListener,
    log: Log,
    passed: Vec<(String, OwnedFd)>,
    /// Keeps other shims out of the folder.
    _lock: File,
    /// Keeps the container's input open.
    _stdin: Option<OwnedFd>,
    clients: Vec<Client>,
    start: Start,
    failure: Option<String>,
    shutdown: Shutdown,
    fence: Option<FenceTimer>,
}

/// Which descriptor an event is about.
#[derive(Clone, Copy)]
enum Source {
    End,
    Listener,
    Shutdown,
    Fence,
    Channel,
    Stream(Stream),
    Client(usize),
}

impl Shim {
    pub(super) fn new(dir: PathBuf, record: ContainerRecord, held: Held) -> Self {
        Self {
            dir,
            record,
            pidfd: held.pidfd,
            channel: Some(held.channel),
            streams: held.streams,
            listener: held.listener,
            log: held.log,
            passed: held.passed,
            _lock: held.lock,
            _stdin: held.stdin,
            clients: Vec::new(),
            start: Start::Waiting,
            failure: None,
            shutdown: held.shutdown,
            fence: held.fence,
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Serves until the container has ended and its end is written down.
    pub(super) fn serve(mut self) -> ExitCode {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            };
            let mut ended = false;
            // Callers last and from the back: serving one may remove it.
            for source in ready.into_iter().rev() {
                match source {
                    Source::End => ended = true,
                    Source::Listener => self.accept(),
                    Source::Shutdown => drop(self.shutdown.has_begun()),
                    Source::Fence => self.look_at_fence(),
                    Source::Channel => self.hear_first_process(),
                    Source::Stream(stream) => drop(self.read_stream(stream)),
                    Source::Client(index) => self.serve_client(index),
                }
            }
            if ended {
                break;
            }
            if self.shutdown.is_over() {
                drop(self.kill(libc::SIGKILL, true));
            }
        }
        self.end()
    }

    fn wait(&self) -> rustix::io::Result<Vec<Source>> {
        let mut sources = vec![Source::End, Source::Listener, Source::Shutdown];
        let mut fds = vec![
            PollFd::new(&self.pidfd, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.shutdown, PollFlags::IN),
        ];
        if let Some(fence) = &self.fence {
            sources.push(Source::Fence);
            fds.push(PollFd::new(fence, PollFlags::IN));
        }
        if let Some(channel) = &self.channel {
            sources.push(Source::Channel);
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        for stream in Stream::ALL {
            if let Some(fd) = &self.streams[stream as usize] {
                sources.push(Source::Stream(stream));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            sources.push(Source::Client(index));
            fds.push(PollFd::new(&client.socket, PollFlags::IN));
        }
        poll(&mut fds, self.shutdown.left().as_ref())?;
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(sources.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(s, _)| s).collect())
    }

    /// Kills the container when it may not run any longer.
    fn look_at_fence(&mut self) {
        if self.fence.as_mut().is_some_and(FenceTimer::is_over) {
            let why = "killed: no controller was in reach for too long";
            self.failure.get_or_insert_with(|| why.to_owned());
            drop(self.kill(libc::SIGKILL, true));
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if self.clients.len() < MAX_CLIENTS && socket.set_nonblocking(true).is_ok() {
                self.clients.push(Client { socket, received: Vec::new(), waiting: None });
            }
        }
    }

    /// Reads a stream once; whether there may be more. A stream that has ended is closed.
    fn read_stream(&mut self, stream: Stream) -> bool {
        let Some(fd) = &self.streams[stream as usize] else { return false };
        let mut buffer = [0; READ_SIZE];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {}
            Ok(got) => {
                self.log.take(stream, &buffer[..got], sys::wall_clock());
                return true;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            // A terminal whose other end is closed says EIO.
            Err(_) => {}
        }
        self.streams[stream as usize] = None;
        false
    }

    /// The first process's channel has a message (it could not run the program) or is closed (the
    /// program runs, or the process died).
    fn hear_first_process(&mut self) {
        let Some(channel) = self.channel.take() else { return };
        match message::receive::<Reply>(&channel) {
            Ok((Reply::Failed { message }, _)) => self.failure = Some(message),
            _ if matches!(self.start, Start::Asked) => {
                self.start = Start::Done { at_ms: now_ms() };
                self.answer_waiting(&Request::Start, &Reply::Done);
            }
            _ => {}
        }
    }

    fn serve_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        match next_request(client) {
            Ok(None) => {}
            Ok(Some(request)) => {
                client.waiting = Some(request.clone());
                if let Some(reply) = self.answer(&request) {
                    self.send(index, &reply);
                    self.clients.swap_remove(index);
                }
            }
            Err(_) => drop(self.clients.swap_remove(index)),
        }
    }

    /// What to answer now; `None` when the answer comes later.
    fn answer(&mut self, request: &Request) -> Option<Reply> {
        match request {
            Request::Start => match self.start {
                Start::Done { .. } => Some(Reply::Done),
                Start::Asked => None,
                Start::Waiting => self.ask_to_start(),
            },
            Request::Kill { signal, all } => Some(self.kill(*signal, *all)),
            Request::Status => Some(Reply::Status(self.status())),
            Request::Wait => None,
            Request::Fds => {
                let names = self.passed.iter().map(|(name, _)| name.clone()).collect();
                Some(Reply::Fds { names })
            }
        }
    }

    fn ask_to_start(&mut self) -> Option<Reply> {
        let asked = match &self.channel {
            Some(channel) => message::send(channel, &Request::Start, &[]),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // When the first process is dead, its end is answered in a moment.
        if asked.is_ok() {
            self.start = Start::Asked;
        }
        None
    }

    fn kill(&self, signal: i32, all: bool) -> Reply {
        let killed = if all {
            Cgroup::from_hierarchies(self.record.cgroups.clone())
                .signal(signal)
                .map_err(|error| sys::explain(&error))
        } else {
            match sys::pidfd_signal(self.pidfd.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    Err(format!("could not send signal {signal}: {}", sys::reason(&error)))
                }
                _ => Ok(()),
            }
        };
        match killed {
            Ok(()) => Reply::Done,
            Err(message) => Reply::Failed { message },
        }
    }

    fn status(&self) -> ContainerStatus {
        let pid = self.record.pid;
        match self.start {
            Start::Done { at_ms } => ContainerStatus::Running { pid, started_at_ms: at_ms },
            _ => ContainerStatus::Created { pid },
        }
    }

    fn send(&self, index: usize, reply: &Reply) {
        let fds: Vec<_> = match reply {
            Reply::Fds { .. } => self.passed.iter().map(|(_, fd)| fd.as_fd()).collect(),
            _ => Vec::new(),
        };
        // A caller that has gone needs no answer. One message always fits into an empty socket.
        let _ = message::send(&self.clients[index].socket, reply, &fds);
    }

    /// Answers every caller that waits for this, and lets it go.
    fn answer_waiting(&mut self, request: &Request, reply: &Reply) {
        for index in (0..self.clients.len()).rev() {
            if self.clients[index].waiting.as_ref() == Some(request) {
                self.send(index, reply);
                self.clients.swap_remove(index);
            }
        }
    }

    /// Writes down the end, tells those who wait, and ends this process too.
    fn end(mut self) -> ExitCode {
        let status = sys::wait_child(self.record.pid).ok();
        if self.record.shares_processes {
            // Nothing else ends what the first process leaves behind. What fails here, the removal tries again.
            drop(self.kill(libc::SIGKILL, true));
        }
        if self.channel.is_some() {
            self.hear_first_process();
        }
        for stream in Stream::ALL {
            let mut rest = DRAIN_LIMIT / READ_SIZE;
            while rest > 0 && self.read_stream(stream) {
                rest -= 1;
            }
        }
        self.log.finish(sys::wall_clock());
        if matches!(self.start, Start::Waiting) {
            self.failure.get_or_insert_with(|| "it was killed before its start".into());
        }
        let record = self.exit_record(status);
        // What the host ended, whatever the program made of it, counts as lost with the host: it did not end by itself.
        let lost = self.shutdown.has_begun();
        let written = if lost {
            Ok(())
        } else {
            record::write(&self.dir.join(record::EXIT_FILE), &record, true)
        };
        let start = match &self.failure {
            Some(message) => Reply::Failed { message: message.clone() },
            None => Reply::Done,
        };
        self.accept();
        for index in (0..self.clients.len()).rev() {
            let request = match self.clients[index].waiting.take() {
                Some(request) => Some(request),
                None => next_request(&mut self.clients[index]).ok().flatten(),
            };
            let reply = match request {
                Some(Request::Start) => start.clone(),
                Some(Request::Kill { .. }) => Reply::Done,
                Some(Request::Fds) => Reply::Fds { names: Vec::new() },
                Some(Request::Wait | Request::Status) if !lost => Reply::Exited(record.clone()),
                Some(Request::Wait | Request::Status) | None => continue,
            };
            let _ = message::send(&self.clients[index].socket, &reply, &[]);
        }
        let socket = self.dir.join(record::SOCKET_FILE);
        drop(self.listener);
        let _ = std::fs::remove_file(socket);
        if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn exit_record(&self, status: Option<WaitStatus>) -> ExitRecord {
        let kills = Cgroup::from_hierarchies(self.record.cgroups.clone()).oom_kills();
        ExitRecord {
            code: status.map_or(255, WaitStatus::code),
            signal: status.and_then(WaitStatus::signal),
            oom_killed: kills > 0,
            started_at_ms: match self.start {
                Start::Done { at_ms } => Some(at_ms),
                _ => None,
            },
            finished_at_ms: now_ms(),
            message: self.failure.clone(),
        }
    }
}

fn now_ms() -> u64 {
    u64::try_from(sys::wall_clock().as_millis()).unwrap_or(u64::MAX)
}

/// Reads what a caller has sent; a request once it is whole. An error when the caller is gone or talks
/// nonsense.
fn next_request(client: &mut Client) -> io::Result<Option<Request>> {
    let mut buffer = [0; 256];
    loop {
        let got = match client.socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        client.received.extend_from_slice(&buffer[..got]);
        let Some(header) = client.received.first_chunk::<4>() else { continue };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME || client.waiting.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(body) = client.received.get(4..4 + length) {
            let request = serde_json::from_slice(body).map_err(io::Error::other)?;
            client.received = Vec::new();
            return Ok(Some(request));
        }
    }
}
