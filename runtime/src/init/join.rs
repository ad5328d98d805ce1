//! A further process of a running container, from its birth to the program that it becomes.
//!
//! It was born in the container's process ids. Until it is the program, nothing of the container can look into it: its
//! memory is not dumpable before it joins the other namespaces.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{InitError, Program, exec, stage, stream, user};
use crate::exec::{ExecOptions, resize};
use crate::message::{self, Reply};
use crate::record::ContainerRecord;
use crate::rootfs::{Root, device};
use crate::spec::Config;
use crate::sys;

/// All namespaces of the container's first process but for the process ids. Those that it shares with the host are
/// joined too, which changes nothing.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// What the process starts with.
pub(crate) struct ExecSetup<'a> {
    pub(crate) record: &'a ContainerRecord,
    pub(crate) config: &'a Config,
    pub(crate) options: &'a ExecOptions,
    /// The container's first process.
    pub(crate) first: OwnedFd,
    /// What to write `0` to in order to join the control group where it was not born in it.
    pub(crate) procs: Vec<OwnedFd>,
    /// Output, errors, and input if there is some; none with a terminal.
    pub(crate) streams: Vec<OwnedFd>,
}

/// Runs the process to its end. The channel is the conversation with the companion; it closes when the program runs.
pub(crate) fn run_exec(setup: ExecSetup<'_>, channel: &UnixStream) -> ! {
    let Err(error) = live(setup, channel);
    // With nobody left to listen there is nobody to tell.
    let failed = Reply::Failed { message: sys::explain(&error) };
    let _ = message::send(channel, &failed, &[]);
    sys::exit_now(error.code())
}

fn live(setup: ExecSetup<'_>, channel: &UnixStream) -> Result<Infallible, InitError> {
    let ExecSetup { record, config, options, first, procs, streams } = setup;
    stage::begin()?;
    for procs in &procs {
        rustix::io::write(procs, b"0").map_err(InitError::call("join the control group"))?;
    }
    drop(procs);
    sys::join_namespace(first.as_fd(), NAMESPACES)
        .map_err(InitError::step("join the container's namespaces"))?;
    drop(first);
    stage::join_keyring()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty())
        .map(Root::new)
        .map_err(InitError::call("open the container's root"))?;
    let user = options.user.as_ref().or(record.user.as_ref());
    let mut identity = match user {
        Some(user) => user::find(&root, user)?,
        None => config.program.identity.clone(),
    };
    user::add_groups(&root, &mut identity, &record.groups)?;
    let home = user::find_home(&root, identity.uid)?;
    let filter = stage::compile_filter(record.seccomp, config)?;
    let master = set_streams(options, &streams, &root, &identity)?;
    drop(streams);
    if let Some(adjustment) = config.program.oom_score_adjustment {
        stage::adjust_oom_score(&stage::own_proc()?, adjustment, adjustment)?;
    }
    drop(root);
    let masters: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    message::send(channel, &Reply::Done, &masters)
        .map_err(InitError::step("hand over the terminal"))?;
    drop(masters);
    drop(master);
    exec::become_program(&exec::Launch {
        program: &program(config, options),
        identity: &identity,
        home: &home,
        filter: &filter,
        init: false,
        channel,
    })
}

/// The container's own program, but for what is asked otherwise.
fn program(config: &Config, options: &ExecOptions) -> Program {
    let mut program = config.program.clone();
    program.arguments.clone_from(&options.arguments);
    for variable in &options.environment {
        let name = variable.split('=').next().unwrap_or_default();
        program.environment.retain(|each| each.split('=').next() != Some(name));
        program.environment.push(variable.clone());
    }
    if options.user.is_some() {
        // Another user has another home, unless the caller gave one.
        let given = options.environment.iter().any(|each| each.starts_with("HOME="));
        program.environment.retain(|each| given || !each.starts_with("HOME="));
    }
    if let Some(directory) = &options.directory {
        program.directory.clone_from(directory);
    }
    program
}

/// Points the standard streams to where they belong; returns the master of a terminal.
fn set_streams(
    options: &ExecOptions,
    streams: &[OwnedFd],
    root: &Root,
    identity: &user::Identity,
) -> Result<Option<OwnedFd>, InitError> {
    if let Some(size) = options.terminal {
        let (master, peer) = device::make_terminal(root)?;
        resize(master.as_fd(), size).map_err(InitError::step("set the terminal's size"))?;
        stream::give_terminal(&peer, identity)?;
        return Ok(Some(master));
    }
    // As the companion made them: output, errors, input.
    for (fd, number) in streams.iter().zip([1, 2, 0]) {
        stream::give(fd, number, identity)?;
    }
    if !options.input {
        stream::put(&device::open_null(root, OFlags::RDONLY)?, 0)?;
    }
    Ok(None)
}
