//! One container's folder: making, finding, looking at and unmaking what lies in it. All of it blocks.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use swarm_proto::assignment::TaskAssignment;
use swarm_runtime::{
    Container, ContainerError, ContainerStatus, CreateOptions, ExitRecord, ShimProgram,
};
use tokio::net::UnixStream;

use super::{Built, DNS_NAMES, EndWatch, Found, TaskError, bundle, capability, files};
use crate::image::Image;
use crate::tree;

/// How long a companion that a killed agent left may take to finish what it began.
const CREATION_LIMIT: Duration = Duration::from_secs(10);
const CREATION_POLL: Duration = Duration::from_millis(5);

/// What a look at a container gave, before its end is watched on the reactor.
pub(super) enum Look {
    Absent,
    Created,
    Running { pid: u32, started_at: u64, end: Option<std::os::unix::net::UnixStream> },
    Exited(ExitRecord),
}

impl Look {
    pub(super) fn into_found(self) -> Result<Found, TaskError> {
        Ok(match self {
            Self::Absent => Found::Absent,
            Self::Created => Found::Created,
            Self::Exited(record) => Found::Exited(record),
            Self::Running { pid, started_at, end } => {
                let watch = |stream: std::os::unix::net::UnixStream| {
                    stream.set_nonblocking(true)?;
                    UnixStream::from_std(stream)
                };
                let end = end.map(watch).transpose();
                let end = end.map_err(|error| TaskError::Stopped(error.to_string()))?;
                Found::Running { pid, started_at, end: EndWatch::companion(end) }
            }
        })
    }
}

/// Writes the bundle and sets the container up.
pub(super) fn create(
    program: &ShimProgram,
    options: CreateOptions,
    task: &TaskAssignment,
    image: &Image,
    built: Built,
) -> Result<Container, TaskError> {
    let Some(parts) = built.0 else {
        return Err(TaskError::Stopped("a simulated task has no container".to_owned()));
    };
    let folder = options.dir.clone();
    fs::create_dir_all(&folder).map_err(TaskError::disk("make", &folder))?;
    bundle::write(&folder, task, &image.config, &parts.around, capability::available())?;
    let names = DNS_NAMES.into_iter().map(str::to_owned);
    let passed_fds = names.zip(parts.dns_sockets).collect();
    match Container::create(program, CreateOptions { passed_fds, ..options }) {
        Ok(container) => Ok(container),
        // A killed agent's own try may have come first by a moment.
        Err(error) => container_in(&folder)?.ok_or_else(|| error.into()),
    }
}

/// The container of a folder. While a companion that a killed agent left is still at work on it, this waits: the
/// container is either complete then, or gone.
pub(super) fn container_in(folder: &Path) -> Result<Option<Container>, TaskError> {
    let begun = Instant::now();
    let mut free = false;
    loop {
        match Container::open(folder) {
            Ok(container) => return Ok(Some(container)),
            Err(ContainerError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if free || begun.elapsed() > CREATION_LIMIT {
            return Ok(None);
        }
        // A companion may have finished between the two looks: free now, the folder is looked at once more.
        free = !is_locked(folder)?;
        if free {
            continue;
        }
        std::thread::sleep(CREATION_POLL);
    }
}

/// Whether a companion holds the folder, as each does from its beginning to its end.
fn is_locked(folder: &Path) -> Result<bool, TaskError> {
    let opened = match fs::File::open(folder) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(TaskError::disk("open", folder)(error)),
    };
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(TaskError::disk("lock", folder)(error.into())),
    }
}

pub(super) fn look(container: &Container) -> Result<Look, TaskError> {
    Ok(match container.status()? {
        ContainerStatus::Created { .. } => Look::Created,
        ContainerStatus::Running { pid, started_at_ms } => Look::Running {
            pid: pid.unsigned_abs(),
            started_at: started_at_ms,
            end: container.exit_channel()?,
        },
        ContainerStatus::Exited(record) => Look::Exited(record),
    })
}

/// Ends and unmakes one container; its log and records stay.
pub(super) fn take_down(folder: &Path) -> Result<(), TaskError> {
    if let Some(container) = container_in(folder)? {
        container.delete()?;
    }
    for name in ["upper", "work"] {
        remove(&folder.join(name))?;
    }
    Ok(())
}

/// Ends and removes all containers of a task, with its files and anonymous volumes.
pub(super) fn remove_containers(folder: &Path) -> Result<(), TaskError> {
    files::unmake(&folder.join(files::NAME))?;
    for name in names(folder)? {
        take_down(&folder.join(name))?;
    }
    remove(folder)
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, TaskError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TaskError::disk("list", folder)(source)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(TaskError::disk("list", folder))
}

/// Removes a folder or file. Nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), TaskError> {
    tree::remove_path(path).map_err(TaskError::disk("remove", path))
}
