//! Creating the container, or leaving nothing of it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use super::fence::FenceTimer;
use super::log::Log;
use super::serve::{Held, Shim};
use super::shutdown::Shutdown;
use crate::cgroup::{Cgroup, CgroupError, Layout};
use crate::init::{self, Setup};
use crate::message::{self, CreateRequest, Reply};
use crate::record::{self, ContainerRecord, RecordError};
use crate::spec::{Config, SpecError};
use crate::sys::{self, Cloned};

/// The adjustment that makes the kernel take other processes first when memory is short.
const OOM_SCORE_ADJUSTMENT: &str = "-999";
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";
/// How long the removal of a control group may take after a failed creation.
const UNDO_LIMIT: Duration = Duration::from_secs(5);

/// The container could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("could not {step}")]
    Step { step: &'static str, source: io::Error },
    #[error("another shim is at work in the container's folder")]
    Busy,
    /// The first process says why.
    #[error("{0}")]
    Init(String),
    #[error("the container's first process ended before it was set up")]
    InitEnded,
    #[error("the memory limit is too low even to set the container up")]
    OutOfMemory,
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::Step { step, source }
}

fn call(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> CreateError {
    move |errno| CreateError::Step { step, source: errno.into() }
}

/// What has to be undone when a later step fails.
#[derive(Default)]
struct Undo {
    paths: Vec<PathBuf>,
    cgroup: Option<Cgroup>,
    pid: Option<i32>,
}

impl Undo {
    fn forget(mut self) {
        self.paths.clear();
        self.cgroup = None;
        self.pid = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // One failure must not keep the rest; the first error is told already.
        if let Some(pid) = self.pid {
            let _ = sys::kill(pid, libc::SIGKILL);
            let _ = sys::wait_child(pid);
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.delete(UNDO_LIMIT);
        }
        for path in self.paths.iter().rev() {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// Creates the container that a caller asks for.
pub(super) fn create(request: CreateRequest, fds: Vec<OwnedFd>) -> Result<Shim, CreateError> {
    let lock = lock(&request.dir)?;
    let config = Config::read(&request.dir)?;
    let mut undo = Undo::default();
    let rootfs = request.dir.join(record::ROOTFS_DIR);
    fs::create_dir_all(&rootfs).map_err(step("make the root's mount point"))?;
    undo.paths.push(rootfs);
    // The end of an earlier container in this folder is not this one's.
    let _ = fs::remove_file(request.dir.join(record::EXIT_FILE));
    let cgroup = Cgroup::create(&Layout::detect()?, &request.cgroup, &config.device_rules)?;
    undo.cgroup = Some(cgroup.clone());
    let listener = listen(&request, &mut undo)?;
    let log = Log::open(&request.dir, &request.log).map_err(step("open the log"))?;
    let born = give_birth(&request, &config, &cgroup)?;
    undo.pid = Some(born.pid);
    let shares_processes = config.namespaces.new & libc::CLONE_NEWPID == 0;
    drop(config);
    let terminal = wait_until_created(&born.channel).map_err(|error| match error {
        CreateError::InitEnded if cgroup.oom_kills() > 0 => CreateError::OutOfMemory,
        other => other,
    })?;
    let record = ContainerRecord {
        id: request.id,
        pid: born.pid,
        shim_pid: rustix::process::getpid().as_raw_pid(),
        cgroups: cgroup.hierarchies().to_vec(),
        user: request.user,
        seccomp: request.seccomp,
        groups: request.groups,
        shares_processes,
    };
    let fence = request.fence.map(FenceTimer::begin).transpose();
    let fence = fence.map_err(step("watch until when it may run"))?;
    let shutdown = Shutdown::watch().map_err(step("watch for the host's shutdown"))?;
    record::write(&request.dir.join(record::CONTAINER_FILE), &record, false)?;
    undo.forget();
    let streams = match terminal {
        Some(master) => [Some(master), None],
        None => [Some(born.stdout), Some(born.stderr)],
    };
    for stream in streams.iter().flatten() {
        // Reading must never wait: other streams and callers have their turn.
        let _ = rustix::io::ioctl_fionbio(stream, true);
    }
    let passed = request.fd_names.into_iter().zip(fds).collect();
    let held = Held {
        pidfd: born.pidfd,
        channel: born.channel,
        streams,
        listener,
        log,
        passed,
        lock,
        shutdown,
        fence,
        stdin: born.stdin,
    };
    Ok(Shim::new(request.dir, record, held))
}

/// Holds the folder for as long as this process lives: a caller that died while it created a container
/// and its successor must not end up with two.
fn lock(dir: &Path) -> Result<fs::File, CreateError> {
    let folder = fs::File::open(dir).map_err(step("open the container's folder"))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(CreateError::Busy),
        Err(error) => Err(call("lock the container's folder")(error)),
    }
}

/// Binds the control socket. The folder's path may be longer than a socket's address may be.
fn listen(request: &CreateRequest, undo: &mut Undo) -> Result<UnixListener, CreateError> {
    let dir = fs::File::open(&request.dir).map_err(step("open the container's folder"))?;
    let path = request.dir.join(record::SOCKET_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(step("remove an old control socket")(error));
        }
        _ => {}
    }
    let short = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), record::SOCKET_FILE);
    // Only the owner may connect: the mask is set by now and nobody else runs in this process.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(short).map_err(step("bind the control socket"));
    rustix::process::umask(mask);
    let listener = bound?;
    undo.paths.push(path);
    listener.set_nonblocking(true).map_err(step("set up the control socket"))?;
    Ok(listener)
}

/// The first process, as the shim knows it.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
    channel: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
    stdin: Option<OwnedFd>,
}

fn give_birth(
    request: &CreateRequest,
    config: &Config,
    cgroup: &Cgroup,
) -> Result<Born, CreateError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(call("make a pipe"));
    let (stdout, init_stdout) = pipe()?;
    let (stderr, init_stderr) = pipe()?;
    let (init_stdin, stdin) = if request.stdin_open {
        pipe().map(|(read, write)| (Some(read), Some(write)))?
    } else {
        (None, None)
    };
    let (channel, init_channel) = UnixStream::pair().map_err(step("make a socket pair"))?;
    let procs = cgroup.open_procs()?;
    let oom_score_adjustment = protect_from_oom();
    let namespaces = u64::from(config.namespaces.new.cast_unsigned());
    let unified = cgroup.open_unified()?;
    let group = unified.as_ref().map(std::os::fd::AsFd::as_fd);
    let cloned = sys::clone3(namespaces, group);
    match cloned.map_err(step("start the first process in new namespaces"))? {
        Cloned::Parent { pid, pidfd } => Ok(Born { pid, pidfd, channel, stdout, stderr, stdin }),
        Cloned::Child => {
            drop((channel, stdout, stderr, stdin));
            init::run(&Setup {
                request,
                config,
                cgroup,
                procs,
                channel: init_channel,
                stdout: init_stdout,
                stderr: init_stderr,
                stdin: init_stdin,
                oom_score_adjustment,
            })
        }
    }
}

/// Asks the kernel to spare this process; without the privilege it stays as it was. Returns how it was.
fn protect_from_oom() -> i32 {
    let before = fs::read_to_string(OOM_SCORE_FILE).unwrap_or_default();
    let _ = fs::write(OOM_SCORE_FILE, OOM_SCORE_ADJUSTMENT);
    before.trim().parse().unwrap_or(0)
}

/// Waits for the first process's word; returns the master of its terminal.
fn wait_until_created(channel: &UnixStream) -> Result<Option<OwnedFd>, CreateError> {
    match message::receive::<Reply>(channel) {
        Ok((Reply::Done, fds)) => Ok(fds.into_iter().next()),
        Ok((Reply::Failed { message }, _)) => Err(CreateError::Init(message)),
        Ok((other, _)) => Err(CreateError::Init(format!("unexpected answer {other:?}"))),
        Err(_) => Err(CreateError::InitEnded),
    }
}
