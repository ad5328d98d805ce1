//! Everything the first process builds around itself before the container counts as created.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsmount, fsopen, open_tree, unmount,
};
use rustix::process::{
    DumpableBehavior, Signal, chdir, fchdir, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, setsid,
};

use super::user::Identity;
use super::{InitError, Setup, stream, user};
use crate::message::SeccompChoice;
use crate::record;
use crate::rootfs::{self, Missing, Root, device, mask, mount};
use crate::seccomp;
use crate::spec::Config;
use crate::sys::{self, MountAttributes};

/// What is needed later.
pub(super) struct Stage {
    /// Who the program runs as.
    pub(super) identity: Identity,
    /// That user's home.
    pub(super) home: String,
    /// The system call filter, empty for none.
    pub(super) filter: seccomp::Program,
    /// This process's own view of procfs, attached nowhere.
    pub(super) proc: OwnedFd,
    /// The master of the container's terminal, for the shim.
    pub(super) terminal: Option<OwnedFd>,
}

/// Builds namespaces, mounts and root, and moves in.
pub(super) fn build(setup: &Setup<'_>) -> Result<Stage, InitError> {
    let config = setup.config;
    begin()?;
    enter_namespaces(setup)?;
    let proc = own_proc()?;
    name_host(config)?;
    write_sysctl(&proc, config)?;
    let root = build_root(setup, &proc)?;
    let mut identity = match &setup.request.user {
        Some(user) => user::find(&root, user)?,
        None => config.program.identity.clone(),
    };
    user::add_groups(&root, &mut identity, &setup.request.groups)?;
    let home = user::find_home(&root, identity.uid)?;
    let filter = compile_filter(setup.request.seccomp, config)?;
    let terminal = set_streams(setup, &root, &identity)?;
    finish_root(config, setup.request.rootfs.read_only, &root)?;
    Ok(Stage { identity, home, filter, proc, terminal })
}

/// Cuts the ties to the process that made this one, but for the one that ends this process with it.
pub(super) fn begin() -> Result<(), InitError> {
    sys::reset_signals();
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(InitError::call("tie the container to its shim"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(InitError::call("hide the first process's memory"))?;
    sys::close_on_exec_from(3).map_err(InitError::step("mark descriptors"))?;
    setsid().map(drop).map_err(InitError::call("start a session"))?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

fn enter_namespaces(setup: &Setup<'_>) -> Result<(), InitError> {
    let namespaces = &setup.config.namespaces;
    for procs in &setup.procs {
        rustix::io::write(procs, b"0").map_err(InitError::call("join the control group"))?;
    }
    if namespaces.cgroup {
        sys::unshare_namespaces(libc::CLONE_NEWCGROUP)
            .map_err(InitError::step("make a control group namespace"))?;
    }
    for (kind, path) in &namespaces.join {
        let step = format!("join namespace `{}`", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace =
            openat(CWD, path, flags, Mode::empty()).map_err(InitError::call(step.clone()))?;
        sys::join_namespace(namespace.as_fd(), *kind).map_err(InitError::step(step))?;
    }
    if namespaces.new & libc::CLONE_NEWNET != 0 {
        sys::loopback_up().map_err(InitError::step("bring up the loopback link"))?;
    }
    join_keyring()
}

/// Leaves the session keyring of whoever started the agent.
pub(super) fn join_keyring() -> Result<(), InitError> {
    match sys::join_session_keyring() {
        // A kernel without keyrings has none to share.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map_err(InitError::step("start a session keyring")),
    }
}

/// A procfs of this pid namespace that no mount can cover.
pub(super) fn own_proc() -> Result<OwnedFd, InitError> {
    let open = || {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    open().map_err(InitError::call("open a private proc file system"))
}

/// Opens a file of the private procfs, following no link and crossing no mount.
fn open_proc(proc: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    openat2(proc, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn name_host(config: &Config) -> Result<(), InitError> {
    if let Some(name) = &config.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(InitError::call(format!("set hostname `{name}`")))?;
    }
    if let Some(name) = &config.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(InitError::call(format!("set domainname `{name}`")))?;
    }
    Ok(())
}

fn write_sysctl(proc: &OwnedFd, config: &Config) -> Result<(), InitError> {
    for (key, value) in &config.sysctl {
        let step = format!("set sysctl `{key}` to `{value}`");
        // As sysctl does: a slash in a key stands for a dot in a name.
        let swap = |each| match each {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path: String = key.chars().map(swap).collect();
        let file = open_proc(proc, &format!("sys/{path}"), OFlags::WRONLY)
            .map_err(InitError::call(step.clone()))?;
        std::fs::File::from(file).write_all(value.as_bytes()).map_err(InitError::step(step))?;
    }
    Ok(())
}

/// Sets the adjustment of the out-of-memory score; a lower one than inherited needs a privilege.
pub(super) fn adjust_oom_score(
    proc: &OwnedFd,
    adjustment: i32,
    inherited: i32,
) -> Result<(), InitError> {
    let step = format!("set oomScoreAdj to {adjustment} (this host started with {inherited})");
    let file = open_proc(proc, "self/oom_score_adj", OFlags::WRONLY)
        .map_err(InitError::call(step.clone()))?;
    std::fs::File::from(file)
        .write_all(adjustment.to_string().as_bytes())
        .map_err(InitError::step(step))
}

/// Mounts the layers and everything inside, up to what must come last.
fn build_root(setup: &Setup<'_>, proc: &OwnedFd) -> Result<Root, InitError> {
    let config = setup.config;
    detach_from_host()?;
    let descriptors = open_proc(proc, "self/fd", OFlags::PATH | OFlags::DIRECTORY)
        .map_err(InitError::call("list descriptors"))?;
    let root = Root::new(rootfs::mount_layers(&setup.request.rootfs, &descriptors)?);
    chdir("/").map_err(InitError::call("leave the descriptors' folder"))?;
    let private =
        MountAttributes { propagation: config.root_propagation, ..MountAttributes::default() };
    let slash = Path::new("/");
    mount::set_attributes(slash, root.as_fd(), true, &private)?;
    let place = setup.request.dir.join(record::ROOTFS_DIR);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = openat(CWD, &place, flags, Mode::empty())
        .map_err(InitError::call(format!("open `{}`", place.display())))?;
    mount::attach(slash, root.as_fd(), place.as_fd())?;
    for spec in &config.mounts {
        mount::mount(&root, spec, setup.cgroup.hierarchies())?;
    }
    device::set_up(&root, &config.devices)?;
    // As Docker: a working directory that the image lacks is made.
    let directory = &config.program.directory;
    root.make(directory, Missing::Directory)
        .map_err(InitError::step(format!("make working directory `{}`", directory.display())))?;
    Ok(root)
}

/// Lets nothing that is mounted here appear on the host.
fn detach_from_host() -> Result<(), InitError> {
    let step = "separate mounts from the host's";
    let slash =
        open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(InitError::call(step))?;
    let slave = MountAttributes { propagation: libc::MS_SLAVE, ..MountAttributes::default() };
    sys::mount_setattr(slash.as_fd(), true, &slave).map_err(InitError::step(step))
}

pub(super) fn compile_filter(
    choice: SeccompChoice,
    config: &Config,
) -> Result<seccomp::Program, InitError> {
    let capabilities = config.program.capabilities.as_ref();
    let program = match (choice, &config.seccomp) {
        (SeccompChoice::Unconfined, _) => seccomp::Program::default(),
        (SeccompChoice::Default, Some(profile)) => seccomp::compile(profile)?,
        (SeccompChoice::Default, None) => {
            let bounding = capabilities.map_or(0, |sets| sets.bounding);
            seccomp::compile_default(bounding)?
        }
    };
    if program.notifies() {
        return Err(seccomp::SeccompError::Notify.into());
    }
    Ok(program)
}

/// Points the standard streams to where they belong; returns the master of a terminal.
fn set_streams(
    setup: &Setup<'_>,
    root: &Root,
    identity: &Identity,
) -> Result<Option<OwnedFd>, InitError> {
    if setup.config.program.terminal {
        let (master, peer) = device::open_terminal(root)?;
        stream::give_terminal(&peer, identity)?;
        return Ok(Some(master));
    }
    match &setup.stdin {
        Some(stdin) => stream::give(stdin, 0, identity)?,
        None => stream::put(&device::open_null(root, OFlags::RDWR)?, 0)?,
    }
    stream::give(&setup.stdout, 1, identity)?;
    stream::give(&setup.stderr, 2, identity)?;
    Ok(None)
}

/// Hides what is to be hidden, and makes the root this process's own.
fn finish_root(config: &Config, read_only: bool, root: &Root) -> Result<(), InitError> {
    mask::freeze(root, &config.read_only)?;
    mask::hide(root, &config.masked)?;
    if config.read_only_root || read_only {
        let slash = Path::new("/");
        mount::set_attributes(slash, root.as_fd(), false, &mount::read_only())?;
    }
    fchdir(root).map_err(InitError::call("enter the root file system"))?;
    pivot_root(".", ".").map_err(InitError::call("change the root"))?;
    // The old root now lies on top of the new one, where `.` is.
    unmount(".", UnmountFlags::DETACH).map_err(InitError::call("leave the host's file systems"))?;
    chdir("/").map_err(InitError::call("enter the new root"))
}
