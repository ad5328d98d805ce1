//! A further program in a running container, as `swarmctl exec` wants it.
//!
//! The caller runs a companion from the sealed program ([`Container::exec`]). The companion makes a process in the
//! container's control group and namespaces, with the container's own user, capabilities, filter and limits, and stays
//! until that process has ended. It holds no stream: the caller reads and writes those itself. When the caller goes
//! away, however that happens, the program is hung up and then killed with everything in its session.

mod companion;
mod session;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerError};
use crate::message;
use crate::program::ShimProgram;
use crate::record::ContainerStatus;

pub use companion::run;

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Which program to run, and how it differs from the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// `NAME=value`, instead of or besides the container's own.
    pub environment: Vec<String>,
    /// The working directory; by default the container's.
    pub directory: Option<PathBuf>,
    /// `user`, `uid`, `user:group` or `uid:gid`; by default the container's.
    pub user: Option<String>,
    /// A terminal of this size for its streams; pipes without.
    pub terminal: Option<TerminalSize>,
    /// Whether it gets input; without, and without a terminal, it reads the null device.
    pub input: bool,
    /// What it left running in its session is killed when it ends.
    #[serde(default)]
    pub whole_session: bool,
}

/// The other ends of a program's streams.
#[derive(Debug)]
pub enum ExecStreams {
    /// The master of its terminal. Closing it hangs the program up.
    Terminal(OwnedFd),
    /// Pipes.
    Pipes {
        /// Where to write its input; closing it ends the input.
        input: Option<OwnedFd>,
        /// Where to read its output.
        output: OwnedFd,
        /// Where to read its errors.
        errors: OwnedFd,
    },
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// The exit code as a shell tells it: its own, or 128 + n after signal n.
    pub code: i32,
}

/// A program could not be run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container does not run.
    #[error("container `{0}` does not run")]
    NotRunning(String),
    /// The program could not be run.
    #[error("{reason}")]
    Program {
        /// Why, for the user: ``exec `foo`: no such file or directory in the container's PATH``.
        reason: String,
        /// What a shell would exit with: 127 when there is no such program, 126 otherwise.
        code: i32,
    },
    /// About the container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The companion could not be run.
    #[error("could not run a companion in container `{id}`")]
    Spawn {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Talking to the companion failed.
    #[error("lost the companion of a program in container `{id}`")]
    Talk {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
}

/// What a companion is asked first.
#[derive(Debug, Serialize, Deserialize)]
struct ExecRequest {
    /// The container's folder.
    dir: PathBuf,
    /// What its shim said is the first process.
    pid: i32,
    options: ExecOptions,
}

/// What a companion is asked later.
#[derive(Debug, Serialize, Deserialize)]
struct Signal {
    number: i32,
}

/// What a companion says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// It runs; the streams are beside this message.
    Started,
    NotRunning,
    Failed {
        reason: String,
        code: i32,
    },
    Ended(ExecEnd),
}

/// A program that runs. Dropping it ends the program.
#[derive(Debug)]
pub struct Exec {
    control: UnixStream,
}

impl Container {
    /// Runs a program in the container. Returns when it runs, or with the reason why it cannot; blocks for some
    /// milliseconds.
    pub fn exec(
        &self,
        program: &ShimProgram,
        options: ExecOptions,
    ) -> Result<(Exec, ExecStreams), ExecError> {
        let id = self.id().to_owned();
        let ContainerStatus::Running { pid, .. } = self.status()? else {
            return Err(ExecError::NotRunning(id));
        };
        let has_terminal = options.terminal.is_some();
        let request = ExecRequest { dir: self.dir().to_owned(), pid, options };
        let spawn = |source| ExecError::Spawn { id: id.clone(), source };
        let (mut child, control) = program.run("exec").map_err(spawn)?;
        let asked = message::send(&control, &request, &[]);
        let answer = asked.and_then(|()| message::receive::<Reply>(&control));
        // This first process only hands over to the companion proper; it ends by itself.
        child.wait().map_err(spawn)?;
        match answer.map_err(|source| ExecError::Talk { id: id.clone(), source })? {
            (Reply::Started, fds) => {
                let streams = sort(fds, has_terminal);
                let lost = || ExecError::Talk { id, source: io::ErrorKind::InvalidData.into() };
                Ok((Exec { control }, streams.ok_or_else(lost)?))
            }
            (Reply::Failed { reason, code }, _) => Err(ExecError::Program { reason, code }),
            (Reply::NotRunning | Reply::Ended(_), _) => Err(ExecError::NotRunning(id)),
        }
    }
}

/// The streams out of the descriptors that came: output first, as all programs have that.
fn sort(fds: Vec<OwnedFd>, has_terminal: bool) -> Option<ExecStreams> {
    let mut fds = fds.into_iter();
    let output = fds.next()?;
    if has_terminal {
        return Some(ExecStreams::Terminal(output));
    }
    Some(ExecStreams::Pipes { errors: fds.next()?, input: fds.next(), output })
}

impl Exec {
    /// Sends a signal to the program and what it has started in its own process group.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        message::send(&self.control, &Signal { number }, &[])
    }

    /// Makes [`Exec::end`] never wait; for a caller that watches [`Exec`]'s descriptor.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.control.set_nonblocking(true)
    }

    /// How the program ended, which can be read once the descriptor is readable; waits until then, unless that was
    /// turned off. An error means that the companion was killed, and the program with it.
    pub fn end(&self) -> io::Result<ExecEnd> {
        match message::receive::<Reply>(&self.control)? {
            (Reply::Ended(end), _) => Ok(end),
            (other, _) => Err(io::Error::other(format!("unexpected answer {other:?}"))),
        }
    }
}

impl AsRawFd for Exec {
    fn as_raw_fd(&self) -> RawFd {
        self.control.as_raw_fd()
    }
}

impl AsFd for Exec {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Tells a terminal's program that the terminal now has this size.
pub fn resize(master: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}
