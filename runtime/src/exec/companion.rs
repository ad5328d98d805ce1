//! The process beside a program that was run in a container: makes it, passes signals on, tells its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::session::Session;
use super::{ExecEnd, ExecRequest, Reply, Signal};
use crate::cgroup::{Cgroup, CgroupError};
use crate::container::{Container, ContainerError};
use crate::init::{self, ExecSetup};
use crate::message;
use crate::record::ContainerStatus;
use crate::shim::run_detached;
use crate::spec::{Config, SpecError};
use crate::sys::{self, Cloned};

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// The container has ended, or is another one by now.
    #[error("the container does not run")]
    NotRunning,
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("could not {step}")]
    Step { step: &'static str, source: io::Error },
    /// The new process says why.
    #[error("{reason}")]
    Program { reason: String, code: i32 },
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Step { step, source }
}

fn call(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> StartError {
    move |errno| StartError::Step { step, source: errno.into() }
}

/// Runs the companion; the program's `exec` command.
pub fn run() -> ExitCode {
    run_detached(|caller, request, _fds| live(&caller, &request))
}

fn live(caller: &UnixStream, request: &ExecRequest) -> ExitCode {
    let failed = match start(request) {
        Ok(running) => {
            let fds: Vec<_> = running.streams.iter().map(AsFd::as_fd).collect();
            // When the caller is gone already, the program is hung up at once.
            let _ = message::send(caller, &Reply::Started, &fds);
            return running.serve(caller);
        }
        Err(StartError::NotRunning) => Reply::NotRunning,
        Err(StartError::Program { reason, code }) => Reply::Failed { reason, code },
        Err(error) => Reply::Failed { reason: sys::explain(&error), code: init::NOT_RUNNABLE },
    };
    let _ = message::send(caller, &failed, &[]);
    ExitCode::FAILURE
}

/// The program, as the companion knows it.
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    /// The caller's ends: output, errors, input; or the terminal's master alone.
    streams: Vec<OwnedFd>,
    cgroup: Cgroup,
    /// Whether its session ends with it.
    whole_session: bool,
}

fn start(request: &ExecRequest) -> Result<Running, StartError> {
    let container = Container::open(&request.dir)?;
    let first = first_process(&container, request.pid)?;
    let config = Config::read(&request.dir)?;
    let cgroup = container.cgroup();
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(call("make a pipe"));
    let (mut streams, mut theirs) = (Vec::new(), Vec::new());
    if request.options.terminal.is_none() {
        for _ in 0..2 {
            let (ours, program) = pipe()?;
            streams.push(ours);
            theirs.push(program);
        }
        if request.options.input {
            let (program, ours) = pipe()?;
            streams.push(ours);
            theirs.push(program);
        }
    }
    let (channel, child_channel) = UnixStream::pair().map_err(step("make a socket pair"))?;
    let procs = cgroup.open_procs()?;
    let unified = cgroup.open_unified()?;
    // Concerns the processes made from now on, not this one.
    sys::join_namespace(first.as_fd(), libc::CLONE_NEWPID)
        .map_err(step("join the container's process ids"))?;
    let cloned = sys::clone3(0, unified.as_ref().map(AsFd::as_fd));
    match cloned.map_err(step("start a process in the container"))? {
        Cloned::Child => {
            drop((channel, streams, unified));
            let setup = ExecSetup {
                record: container.record(),
                config: &config,
                options: &request.options,
                first,
                procs,
                streams: theirs,
            };
            init::run_exec(setup, &child_channel)
        }
        Cloned::Parent { pid, pidfd } => {
            drop((child_channel, theirs));
            streams.extend(wait_until_runs(&channel, pid)?);
            let whole_session = request.options.whole_session;
            Ok(Running { pid, pidfd, streams, cgroup, whole_session })
        }
    }
}

/// A descriptor of the container's first process. The shim buries that process only at the container's end: while it
/// says that the container runs, the number cannot be another's.
fn first_process(container: &Container, pid: i32) -> Result<OwnedFd, StartError> {
    let number = Pid::from_raw(pid).ok_or(StartError::NotRunning)?;
    let first = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(first) => first,
        Err(rustix::io::Errno::SRCH) => return Err(StartError::NotRunning),
        Err(error) => return Err(call("open the container's first process")(error)),
    };
    match container.status()? {
        ContainerStatus::Running { pid: now, .. } if now == pid => Ok(first),
        _ => Err(StartError::NotRunning),
    }
}

/// Waits until the new process is the program; returns the master of its terminal.
fn wait_until_runs(channel: &UnixStream, pid: i32) -> Result<Option<OwnedFd>, StartError> {
    let mut master = None;
    let reason = match message::receive::<message::Reply>(channel) {
        Ok((message::Reply::Done, fds)) => {
            master = fds.into_iter().next();
            match message::receive::<message::Reply>(channel) {
                Ok((message::Reply::Failed { message }, _)) => message,
                // Closed: it runs. Or it was killed just now, which its end tells.
                _ => return Ok(master),
            }
        }
        Ok((message::Reply::Failed { message }, _)) => message,
        _ => String::from("the container ended, or its memory limit leaves no room for a program"),
    };
    drop(master);
    let code = sys::wait_child(pid).map_or(init::NOT_RUNNABLE, sys::WaitStatus::code);
    Err(StartError::Program { reason, code })
}

impl Running {
    /// Serves the caller until the program has ended, or the caller is gone and all is cleaned up.
    fn serve(mut self, caller: &UnixStream) -> ExitCode {
        // The caller's alone from now on: a terminal hangs up, and a pipe ends, when it closes them.
        self.streams.clear();
        loop {
            let mut fds =
                [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(caller, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
                Ok(_) => {}
            }
            let (ended, asked) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if ended {
                let code = if self.whole_session {
                    self.session().kill()
                } else {
                    sys::wait_child(self.pid)
                };
                let code = code.map_or(255, sys::WaitStatus::code);
                let _ = message::send(caller, &Reply::Ended(ExecEnd { code }), &[]);
                return ExitCode::SUCCESS;
            }
            match asked.then(|| message::receive::<Signal>(caller)) {
                None => {}
                // The process leads a group of its own; when that has just ended there is nobody to tell.
                Some(Ok((signal, _))) => drop(sys::kill(-self.pid, signal.number)),
                Some(Err(_)) => break,
            }
        }
        self.session().end();
        ExitCode::SUCCESS
    }

    fn session(&self) -> Session<'_> {
        Session { leader: self.pid, pidfd: &self.pidfd, cgroup: &self.cgroup }
    }
}
