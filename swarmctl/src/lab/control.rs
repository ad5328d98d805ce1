//! How the lab's commands talk to a host's first process: one line of JSON each way.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::Error;

/// What a first process can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verb")]
pub(super) enum Request {
    /// How its programs are.
    List,
    /// Start a program that does not run, and keep it running.
    Start {
        /// Its name.
        program: String,
    },
    /// Kill a program and do not start it again.
    Kill {
        /// Its name.
        program: String,
    },
}

/// What a first process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Why it did not do it.
    pub(super) error: Option<String>,
    /// How its programs are now.
    pub(super) programs: Vec<State>,
}

/// How a program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Its name.
    pub(super) name: String,
    /// Its process, numbered as on the host.
    pub(super) pid: Option<i32>,
    /// Whether it is to be kept running.
    pub(super) wanted: bool,
    /// How often it ended by itself.
    pub(super) restarts: u32,
}

/// The first process behind a socket, numbered as the caller sees it; `None` when the host is off.
pub(super) fn first_process(socket: &Path) -> Result<Option<Pid>, Error> {
    let Some(stream) = connect(socket)? else { return Ok(None) };
    let peer = getsockopt(&stream, PeerCredentials)
        .map_err(Error::system(format!("ask who listens on `{}`", socket.display())))?;
    Ok(Some(Pid::from_raw(peer.pid())).filter(|pid| pid.as_raw() > 0))
}

/// Asks a first process; `None` when the host is off.
pub(super) fn ask(socket: &Path, request: &Request) -> Result<Option<Answer>, Error> {
    let Some(stream) = connect(socket)? else { return Ok(None) };
    let ask = || -> std::io::Result<Answer> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        (&stream).write_all(&text)?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    ask().map(Some).map_err(Error::file("ask", socket))
}

/// Waits until a host that was just started answers.
pub(super) fn wait(socket: &Path, within: Duration) -> Result<bool, Error> {
    let end = Instant::now() + within;
    loop {
        if ask(socket, &Request::List)?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connect(socket: &Path) -> Result<Option<UnixStream>, Error> {
    match UnixStream::connect(socket) {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::file("ask", socket)(error)),
    }
}

/// Tells when a process ends.
pub(super) struct Presence(std::os::fd::OwnedFd);

impl Presence {
    /// The process that listens on a socket.
    pub(super) fn of(socket: &Path) -> Result<Self, Error> {
        let process =
            first_process(socket)?.and_then(|pid| rustix::process::Pid::from_raw(pid.as_raw()));
        let process = process.ok_or_else(|| {
            Error::refused(format!("nobody listens on `{}`", socket.display()), "")
        })?;
        rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
            .map(Self)
            .map_err(Error::system("watch a process"))
    }

    /// Waits for its end.
    pub(super) fn wait(&self) {
        use std::os::fd::AsFd;
        let mut sources = [nix::poll::PollFd::new(self.0.as_fd(), nix::poll::PollFlags::POLLIN)];
        while nix::poll::poll(&mut sources, nix::poll::PollTimeout::NONE)
            .is_err_and(|error| error == nix::Error::EINTR)
        {}
    }
}
