//! The caller's side of a container: create, find again, start, signal, wait for, delete.
//!
//! All calls block, most for less than a millisecond; `create` takes a few. None keeps state that a
//! restart of the caller would lose.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::{Cgroup, CgroupError, CgroupSpec};
use crate::message::{
    self, CreateRequest, Fence, LogOptions, Reply, Request, RootfsSpec, SeccompChoice,
};
use crate::program::ShimProgram;
use crate::record::{self, ContainerRecord, ContainerStatus, ExitRecord, RecordError};
use crate::sys;

/// How long removal of control groups may take before it is an error.
const DELETE_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of a killed container may take before it is an error.
const END_LIMIT: Duration = Duration::from_secs(30);

/// What a new container is made from, besides the `config.json` in its folder.
///
/// `config.json` says: `process` (`args`, `env`, `cwd`, `user`, `capabilities`, `rlimits`,
/// `noNewPrivileges`, `oomScoreAdj`, `terminal`), `root.readonly`, `hostname`, `domainname`, `mounts`,
/// and of `linux`: `namespaces` (a `network` path joins that namespace, no path makes a new one, no
/// entry shares the host's), `sysctl`, `devices`, `seccomp`, `maskedPaths`, `readonlyPaths`,
/// `rootfsPropagation`. `root.path` is not read, `rootfs` says that; limits are in `cgroup`. Anything
/// else that asks for something is refused by name, never ignored.
#[derive(Debug)]
pub struct CreateOptions {
    /// The caller's name for the container, for messages.
    pub id: String,
    /// The container's folder, with `config.json` in it. The shim adds `container.json`,
    /// `container.log`, `shim.sock` and at the end `exit.json`; the caller removes the folder.
    pub dir: PathBuf,
    /// The layers of its root file system.
    pub rootfs: RootfsSpec,
    /// The image's `USER`: `name`, `uid`, `name:group`, `uid:gid`, looked up in the container's own
    /// `/etc/passwd` and `/etc/group`. It takes the place of the ids in `process.user`, and sets
    /// `HOME` where `env` does not.
    pub user: Option<String>,
    /// Groups of the user besides its own, by name in the image's `/etc/group` or by number.
    pub groups: Vec<String>,
    /// Whether a small init runs as process 1 and the program as its child.
    pub init: bool,
    /// Whether standard input stays open although nobody writes to it; without, it is the null device.
    pub stdin_open: bool,
    /// The system call filter.
    pub seccomp: SeccompChoice,
    /// Where output goes.
    pub log: LogOptions,
    /// Descriptors the shim keeps open while the container lives, by name; see [`Container::take_fds`].
    pub passed_fds: Vec<(String, OwnedFd)>,
    /// The control group and limits.
    pub cgroup: CgroupSpec,
    /// Until when it may run; without one for ever.
    pub fence: Option<Fence>,
}

/// Something about a container did not work.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The container could not be set up; nothing of it is left but its folder.
    #[error("could not create container `{id}`: {reason}")]
    Create {
        /// The container.
        id: String,
        /// Which step failed and why, for the user.
        reason: String,
    },
    /// The program could not be run; the container has ended and `exit.json` says the same.
    #[error("could not start container `{id}`: {reason}")]
    Start {
        /// The container.
        id: String,
        /// Why, for the user: ``exec `python`: no such file or directory in the container's PATH``.
        reason: String,
    },
    /// The folder holds no container.
    #[error("`{}` holds no container", .0.display())]
    NotFound(PathBuf),
    /// The folder holds a container already.
    #[error("`{}` holds a container already", .0.display())]
    Exists(PathBuf),
    /// The shim said no.
    #[error("container `{id}`: {reason}")]
    Refused {
        /// The container.
        id: String,
        /// Why.
        reason: String,
    },
    /// The shim's program could not be run.
    #[error("could not run the shim of container `{id}`")]
    Spawn {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Talking to the shim failed.
    #[error("lost the shim of container `{id}`")]
    Talk {
        /// The container.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// A file in the container's folder could not be used.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its control group could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// It did not end in time after being killed.
    #[error("container `{0}` did not end after SIGKILL")]
    Stuck(String),
}

/// A container on this host, by its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    dir: PathBuf,
    record: ContainerRecord,
}

impl Container {
    /// Sets a container up and returns when its first process waits for [`Container::start`].
    ///
    /// When the caller dies meanwhile, the container is either complete, and [`Container::open`] finds
    /// it, or gone.
    pub fn create(program: &ShimProgram, options: CreateOptions) -> Result<Self, ContainerError> {
        let (id, dir) = (options.id.clone(), options.dir.clone());
        if Self::open(&dir).is_ok() {
            return Err(ContainerError::Exists(dir));
        }
        let (fd_names, fds): (Vec<_>, Vec<_>) = options.passed_fds.into_iter().unzip();
        let request = CreateRequest {
            id: options.id,
            dir: options.dir,
            rootfs: options.rootfs,
            user: options.user,
            groups: options.groups,
            init: options.init,
            stdin_open: options.stdin_open,
            seccomp: options.seccomp,
            log: options.log,
            cgroup: options.cgroup,
            fence: options.fence,
            fd_names,
        };
        let spawn = |source| ContainerError::Spawn { id: id.clone(), source };
        let (mut child, ours) = program.run("shim").map_err(spawn)?;
        let answer = ask_new_shim(&ours, &request, &fds);
        // This first process only hands over to the shim proper; it ends by itself.
        child.wait().map_err(spawn)?;
        match answer {
            Ok(Reply::Created { .. }) => Self::open(&dir),
            Ok(Reply::Failed { message }) => Err(ContainerError::Create { id, reason: message }),
            Ok(other) => {
                Err(ContainerError::Create { id, reason: format!("unexpected answer {other:?}") })
            }
            Err(source) => Err(ContainerError::Talk { id, source }),
        }
    }

    /// Finds the container of a folder again, whether it is alive, ended or lost.
    pub fn open(dir: &Path) -> Result<Self, ContainerError> {
        let path = dir.join(record::CONTAINER_FILE);
        match record::read::<ContainerRecord>(&path) {
            Ok(Some(record)) => Ok(Self { dir: dir.to_owned(), record }),
            // A power cut may tear this record, which is not synced: nothing of the container is left.
            Ok(None) | Err(RecordError::Parse { .. }) => {
                Err(ContainerError::NotFound(dir.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The name given at creation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The container's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// The process id of the shim, for accounting.
    #[must_use]
    pub fn shim_pid(&self) -> i32 {
        self.record.shim_pid
    }

    /// The container's log, its newest part.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(record::LOG_FILE)
    }

    /// The container's control groups, for accounting and for stopping it where it is.
    #[must_use]
    pub fn cgroup(&self) -> Cgroup {
        Cgroup::from_hierarchies(self.record.cgroups.clone())
    }

    /// Runs the program. Returns when it runs, or with the reason why it cannot. Fine to repeat.
    pub fn start(&self) -> Result<(), ContainerError> {
        match self.ask(&Request::Start)? {
            Some((Reply::Failed { message }, _)) => {
                Err(ContainerError::Start { id: self.record.id.clone(), reason: message })
            }
            Some((Reply::Done, _)) => Ok(()),
            Some((reply, _)) => Err(self.unexpected(&reply)),
            None => match self.end()?.message {
                Some(reason) => Err(ContainerError::Start { id: self.record.id.clone(), reason }),
                None => Ok(()),
            },
        }
    }

    /// Sends a signal to the container's first process, or to all. Fine when it has ended.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), ContainerError> {
        match self.ask(&Request::Kill { signal, all })? {
            Some((Reply::Done, _)) | None => Ok(()),
            Some((reply, _)) => Err(self.unexpected(&reply)),
        }
    }

    /// Where the container is in its life. A container whose shim was killed is made sure to be dead,
    /// and counts as exited with signal 9 and a message.
    pub fn status(&self) -> Result<ContainerStatus, ContainerError> {
        match self.ask(&Request::Status)? {
            Some((Reply::Status(status), _)) => Ok(status),
            Some((Reply::Exited(record), _)) => Ok(ContainerStatus::Exited(record)),
            Some((reply, _)) => Err(self.unexpected(&reply)),
            None => self.end().map(ContainerStatus::Exited),
        }
    }

    /// A connection that becomes readable when the container has ended (a frame with
    /// [`Reply::Exited`], or just the end of the stream when the shim was killed). Then ask
    /// [`Container::status`], which is the truth. `None` when the container has ended already.
    pub fn exit_channel(&self) -> Result<Option<UnixStream>, ContainerError> {
        let Some(socket) = self.connect()? else { return Ok(None) };
        match message::send(&socket, &Request::Wait, &[]) {
            Ok(()) => Ok(Some(socket)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(self.talk(source)),
        }
    }

    /// Waits until the container has ended, blocking.
    pub fn wait(&self) -> Result<ExitRecord, ContainerError> {
        if let Some(socket) = self.exit_channel()? {
            match message::receive::<Reply>(&socket) {
                Ok((Reply::Exited(record), _)) => return Ok(record),
                Ok((reply, _)) => return Err(self.unexpected(&reply)),
                Err(error) if is_gone(&error) => {}
                Err(source) => return Err(self.talk(source)),
            }
        }
        self.end()
    }

    /// Duplicates of the descriptors given at creation, by name; none when the container has ended.
    pub fn take_fds(&self) -> Result<Vec<(String, OwnedFd)>, ContainerError> {
        match self.ask(&Request::Fds)? {
            Some((Reply::Fds { names }, fds)) => Ok(names.into_iter().zip(fds).collect()),
            Some((reply, _)) => Err(self.unexpected(&reply)),
            None => Ok(Vec::new()),
        }
    }

    /// Kills the container if it lives and removes everything the runtime made for it on the host
    /// (control groups, control socket, mount point). The folder with `config.json`, the log and the
    /// records stays for the caller to remove. Fine to repeat.
    pub fn delete(&self) -> Result<(), ContainerError> {
        if let Some(socket) = self.exit_channel()? {
            // What is stopped where it is could not die; without a freezer nothing is stopped.
            let _ = self.cgroup().freeze(false);
            self.kill(libc::SIGKILL, true)?;
            socket.set_read_timeout(Some(END_LIMIT)).map_err(|source| self.talk(source))?;
            match message::receive::<Reply>(&socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ContainerError::Stuck(self.record.id.clone()));
                }
                // The exit record, or the end of the stream: either way the container is over.
                _ => {}
            }
        }
        self.end()?;
        self.cgroup().delete(DELETE_LIMIT)?;
        remove_if_there(&self.dir.join(record::SOCKET_FILE), |path| fs::remove_file(path))?;
        remove_if_there(&self.dir.join(record::ROOTFS_DIR), |path| fs::remove_dir(path))
    }

    /// The record of the end. Without a shim and without a record the container was lost: what is
    /// left of it is killed, and the record written.
    fn end(&self) -> Result<ExitRecord, ContainerError> {
        let path = self.dir.join(record::EXIT_FILE);
        if let Some(record) = record::read(&path)? {
            return Ok(record);
        }
        let _ = self.cgroup().freeze(false);
        self.cgroup().signal(libc::SIGKILL)?;
        let lost = ExitRecord {
            code: 128 + libc::SIGKILL,
            signal: Some(libc::SIGKILL),
            oom_killed: false,
            started_at_ms: None,
            finished_at_ms: u64::try_from(sys::wall_clock().as_millis()).unwrap_or(u64::MAX),
            message: Some("its shim was killed, or the host went down".into()),
        };
        record::write(&path, &lost, true)?;
        Ok(lost)
    }

    /// Asks the shim; `None` when it is gone, which it is once the container has ended.
    fn ask(&self, request: &Request) -> Result<Option<(Reply, Vec<OwnedFd>)>, ContainerError> {
        let Some(socket) = self.connect()? else { return Ok(None) };
        let answer = message::send(&socket, request, &[]).and_then(|()| message::receive(&socket));
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(self.talk(source)),
        }
    }

    fn connect(&self) -> Result<Option<UnixStream>, ContainerError> {
        let dir = match File::open(&self.dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = self.dir.clone();
                return Err(ContainerError::File { action: "open", path, source });
            }
        };
        // A socket's address holds 108 bytes; the folder's own path may be longer.
        let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), record::SOCKET_FILE);
        match UnixStream::connect(path) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(self.talk(source)),
        }
    }

    fn talk(&self, source: io::Error) -> ContainerError {
        ContainerError::Talk { id: self.record.id.clone(), source }
    }

    fn unexpected(&self, reply: &Reply) -> ContainerError {
        let reason = match reply {
            Reply::Failed { message } => message.clone(),
            other => format!("unexpected answer {other:?}"),
        };
        ContainerError::Refused { id: self.record.id.clone(), reason }
    }
}

fn ask_new_shim(
    socket: &UnixStream,
    request: &CreateRequest,
    fds: &[OwnedFd],
) -> io::Result<Reply> {
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    message::send(socket, request, &borrowed)?;
    message::receive(socket).map(|(reply, _)| reply)
}

/// Whether an error means that nobody is at the other end any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(
        error.kind(),
        NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof
    )
}

fn remove_if_there(
    path: &Path,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), ContainerError> {
    match remove(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ContainerError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
