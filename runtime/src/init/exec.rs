//! The last steps before the container's program: limits, identity, capabilities, filter, execution.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Signal, chdir, getcwd, set_parent_process_death_signal};
use rustix::thread::{
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::{Identity, InitError, NOT_FOUND, NOT_RUNNABLE, Program, capability, limit, reap};
use crate::seccomp;
use crate::sys;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is needed to run the program.
pub(super) struct Launch<'a> {
    pub(super) program: &'a Program,
    pub(super) identity: &'a Identity,
    /// The user's home, where the environment does not say.
    pub(super) home: &'a str,
    pub(super) filter: &'a seccomp::Program,
    pub(super) init: bool,
    pub(super) channel: &'a UnixStream,
}

/// Becomes the program; comes back only with the reason why not.
pub(super) fn become_program(launch: &Launch<'_>) -> Result<Infallible, InitError> {
    let program = launch.program;
    enter_directory(program)?;
    let environment = environment(launch);
    limit::apply(&program.limits)?;
    rustix::process::umask(Mode::from_raw_mode(program.umask & 0o777));
    if launch.init {
        // Before the fork: the kernel drops what a first process neither blocks nor catches, and the stop signal may
        // come as soon as the program runs.
        sys::block_signals();
        match sys::fork().map_err(InitError::step("start the program beside the init"))? {
            0 => sys::reset_signals(),
            child => {
                drop_privileges(launch, false)?;
                reap::run(child);
            }
        }
    }
    drop_privileges(launch, true)?;
    let arguments: Vec<_> =
        program.arguments.iter().map(|each| text(each)).collect::<Result<_, _>>()?;
    let environment: Vec<_> =
        environment.iter().map(|each| text(each)).collect::<Result<_, _>>()?;
    let candidates = candidates(&program.arguments[0], &environment)?;
    close_all_but(launch.channel)?;
    if program.no_new_privileges {
        load(launch.filter)?;
    }
    Err(execute(&program.arguments[0], &candidates, &arguments, &environment))
}

/// Goes to the working directory, and makes sure that it lies in the container: a descriptor of the
/// host that leaked in would make a way out.
fn enter_directory(program: &Program) -> Result<(), InitError> {
    let directory = &program.directory;
    chdir(directory)
        .map_err(InitError::call(format!("enter working directory `{}`", directory.display())))?;
    let outside = || InitError::Directory(directory.clone());
    let now = getcwd(Vec::new()).map_err(|_| outside())?;
    let now = Path::new(OsStr::from_bytes(now.as_bytes()));
    if now.is_absolute() { Ok(()) } else { Err(outside()) }
}

fn environment(launch: &Launch<'_>) -> Vec<String> {
    let mut environment = launch.program.environment.clone();
    if !environment.iter().any(|each| each.starts_with("HOME=")) {
        environment.push(format!("HOME={}", launch.home));
    }
    environment
}

/// Gives up everything that the program may not have. Without "no new privileges" the filter needs a
/// privilege itself and is loaded first.
fn drop_privileges(launch: &Launch<'_>, filter: bool) -> Result<(), InitError> {
    let program = launch.program;
    let sets = program.capabilities.unwrap_or_default();
    if filter && !program.no_new_privileges {
        load(launch.filter)?;
    }
    capability::limit_bounding(&sets)?;
    set_keep_capabilities(true).map_err(InitError::call("keep capabilities"))?;
    become_user(launch.identity)?;
    capability::apply(&sets)?;
    set_keep_capabilities(false).map_err(InitError::call("keep capabilities no longer"))?;
    // The kernel forgot it when the user changed.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(InitError::call("tie the program to its parent"))?;
    if program.no_new_privileges {
        set_no_new_privs(true).map_err(InitError::call("forbid new privileges"))?;
    }
    Ok(())
}

fn become_user(identity: &Identity) -> Result<(), InitError> {
    let groups: Vec<_> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups).map_err(InitError::call("set groups"))?;
    set_thread_res_gid(gid, gid, gid)
        .map_err(InitError::call(format!("become group {}", identity.gid)))?;
    set_thread_res_uid(uid, uid, uid)
        .map_err(InitError::call(format!("become user {}", identity.uid)))
}

fn load(filter: &seccomp::Program) -> Result<(), InitError> {
    filter.load().map(drop).map_err(InitError::step("load the system call filter"))
}

/// Closes what may be open, for good: the program may name a descriptor as what to execute.
fn close_all_but(channel: &UnixStream) -> Result<(), InitError> {
    let keep = channel.as_raw_fd().cast_unsigned();
    let closed = sys::close_range(3, keep - 1).and_then(|()| sys::close_range(keep + 1, u32::MAX));
    closed.map_err(InitError::step("close descriptors"))
}

fn text(text: &str) -> Result<CString, InitError> {
    CString::new(text).map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it contains a zero byte");
        InitError::step("pass an argument or environment variable")(source)
    })
}

/// The files to try, in order.
fn candidates(program: &str, environment: &[CString]) -> Result<Vec<CString>, InitError> {
    if program.contains('/') {
        return Ok(vec![text(program)?]);
    }
    let path = environment.iter().find_map(|each| each.to_bytes().strip_prefix(b"PATH="));
    let path = path.map_or(DEFAULT_PATH.into(), String::from_utf8_lossy);
    let join = |folder: &str| {
        let folder = if folder.is_empty() { "." } else { folder };
        text(&format!("{folder}/{program}"))
    };
    path.split(':').map(join).collect()
}

/// Tries each candidate; the most telling reason wins.
fn execute(
    program: &str,
    candidates: &[CString],
    arguments: &[CString],
    environment: &[CString],
) -> InitError {
    let mut denied = None;
    for candidate in candidates {
        let error = sys::execve(candidate, arguments, environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some(error),
            _ => {
                let (program, reason) = (program.to_owned(), sys::reason(&error));
                return InitError::Exec { program, reason, code: NOT_RUNNABLE };
            }
        }
    }
    let (reason, code) = match denied {
        Some(error) => (sys::reason(&error), NOT_RUNNABLE),
        None if program.contains('/') => ("no such file or directory".into(), NOT_FOUND),
        None => ("no such file or directory in the container's PATH".into(), NOT_FOUND),
    };
    InitError::Exec { program: program.to_owned(), reason, code }
}
