//! The process beside each container: it creates the container, holds its streams, log and passed
//! descriptors, and writes down how it ended. One thread, no async runtime, little memory.
//!
//! The caller runs it with one end of a socket as standard input. It leaves the caller at once (a copy
//! goes on, the first process ends), so that the caller neither waits for it nor takes it along.

mod create;
mod fence;
mod log;
mod serve;
mod shutdown;
mod sink;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::message::{self, CreateRequest, Reply};
use crate::sys;

/// Runs the shim; the program's `shim` command.
pub fn run() -> ExitCode {
    run_detached(live)
}

/// Goes on in a copy of this process that has left the caller, with the socket to it and what it asks first.
pub(crate) fn run_detached<T: DeserializeOwned>(
    live: impl FnOnce(UnixStream, T, Vec<OwnedFd>) -> ExitCode,
) -> ExitCode {
    match sys::fork() {
        Ok(0) => {}
        Ok(_) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    let asked = leave_caller().and_then(|caller| Ok((message::receive(&caller)?, caller)));
    let Ok(((request, fds), caller)) = asked else { return ExitCode::FAILURE };
    live(caller, request, fds)
}

fn live(caller: UnixStream, request: CreateRequest, fds: Vec<OwnedFd>) -> ExitCode {
    let created = create::create(request, fds);
    // Give back what reading the configuration took, before the long wait.
    sys::release_memory();
    match created {
        Ok(shim) => {
            // The caller may have died meanwhile; its successor finds the container.
            let _ = message::send(&caller, &Reply::Created { pid: shim.pid() }, &[]);
            drop(caller);
            shim.serve()
        }
        Err(error) => {
            let _ = message::send(&caller, &Reply::Failed { message: sys::explain(&error) }, &[]);
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket from standard input and becomes independent of who started this process.
fn leave_caller() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(sys::duplicate_standard(0)?);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for number in 0..=2 {
        sys::duplicate_onto(std::os::fd::AsFd::as_fd(&null), number)?;
    }
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    // It was run from a descriptor, whose number would be its name.
    rustix::thread::set_name(c"swarm-shim")?;
    // Signals meant for the caller's group: the container decides when this process ends. SIGTERM is
    // read from a descriptor instead, once the container stands.
    sys::ignore_signals(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE]);
    Ok(socket)
}
