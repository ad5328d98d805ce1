//! The first process of a container, from its birth in new namespaces to the container's program.
//!
//! It is a copy of the shim, so it has one thread and may allocate. It sets up what only it can (its
//! namespaces, mounts, root), says that the container is created, waits for the start, gives up its
//! privileges, and becomes the program. What goes wrong travels back as a sentence.

mod capability;
mod exec;
mod join;
mod limit;
mod reap;
mod stage;
mod stream;
mod user;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::cgroup::{Cgroup, CgroupError};
use crate::message::{self, CreateRequest, Reply};
use crate::rootfs::MountError;
use crate::seccomp::SeccompError;
use crate::spec::Config;
use crate::sys;

pub(crate) use capability::{Capabilities, number as capability_number};
pub(crate) use join::{ExecSetup, run_exec};
pub(crate) use limit::Limit;
pub(crate) use user::Identity;

/// The exit code for a program that is not there.
const NOT_FOUND: i32 = 127;
/// The exit code for a program that is there and cannot be run.
pub(crate) const NOT_RUNNABLE: i32 = 126;

/// The container's program and how it is to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) umask: u32,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adjustment: Option<i32>,
    pub(crate) terminal: bool,
}

/// What the first process starts with.
pub(crate) struct Setup<'a> {
    pub(crate) request: &'a CreateRequest,
    pub(crate) config: &'a Config,
    pub(crate) cgroup: &'a Cgroup,
    /// What to write `0` to in order to join the control group where it was not born in it.
    pub(crate) procs: Vec<OwnedFd>,
    /// The conversation with the shim; closes when the program runs.
    pub(crate) channel: UnixStream,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// What standard input reads; the null device without.
    pub(crate) stdin: Option<OwnedFd>,
    /// The adjustment that the shim was started with, before it changed its own.
    pub(crate) oom_score_adjustment: i32,
}

/// A step of the first process failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// A system call failed.
    #[error("could not {step}")]
    Step { step: String, source: io::Error },
    /// A file system could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The control group could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The user could not be found.
    #[error(transparent)]
    User(#[from] user::UserError),
    /// The filter could not be compiled.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// A limit could not be set.
    #[error("rlimit `{name}`: {value} is above this host's own hard limit of {own}")]
    Limit { name: &'static str, value: u64, own: u64 },
    /// The working directory is outside the container.
    #[error("working directory `{}` is outside the container", .0.display())]
    Directory(PathBuf),
    /// The program is not there.
    #[error("exec `{program}`: {reason}")]
    Exec { program: String, reason: String, code: i32 },
}

impl InitError {
    fn step(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Step { step, source }
    }

    /// What a shell would exit with.
    fn code(&self) -> i32 {
        match self {
            Self::Exec { code, .. } => *code,
            _ => NOT_RUNNABLE,
        }
    }

    /// As [`InitError::step`], for calls with rustix's own errors.
    fn call(step: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let step = step.into();
        move |errno| Self::Step { step, source: errno.into() }
    }
}

/// Runs the first process to its end.
pub(crate) fn run(setup: &Setup<'_>) -> ! {
    let Err(error) = live(setup);
    // With nobody left to listen there is nobody to tell.
    let _ = message::send(&setup.channel, &Reply::Failed { message: sys::explain(&error) }, &[]);
    sys::exit_now(error.code())
}

fn live(setup: &Setup<'_>) -> Result<std::convert::Infallible, InitError> {
    let (request, config) = (setup.request, setup.config);
    // Never dropped: right before the program its descriptors are closed as numbers.
    let mut stage = std::mem::ManuallyDrop::new(stage::build(setup)?);
    // Everything that can fail without the program is over: the container is created.
    let master: Vec<_> = stage.terminal.iter().map(std::os::fd::AsFd::as_fd).collect();
    message::send(&setup.channel, &Reply::Done, &master)
        .map_err(InitError::step("tell the shim that the container is created"))?;
    drop(master);
    drop(stage.terminal.take());
    message::receive::<message::Request>(&setup.channel)
        .map_err(InitError::step("wait for the start"))?;
    let adjustment = config.program.oom_score_adjustment.unwrap_or(setup.oom_score_adjustment);
    let inherited = setup.oom_score_adjustment;
    stage::adjust_oom_score(&stage.proc, adjustment, inherited)?;
    exec::become_program(&exec::Launch {
        program: &config.program,
        identity: &stage.identity,
        home: &stage.home,
        filter: &stage.filter,
        init: request.init,
        channel: &setup.channel,
    })
}
