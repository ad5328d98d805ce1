//! Control groups of a container: made before it, joined before its program runs, removed after it.
//!
//! Two layouts are served by the same calls: the unified hierarchy (v2), and one hierarchy for each
//! controller (v1), with or without a controller-less unified hierarchy beside them ("hybrid"). Each
//! controller's file turns limits into [`Write`]s, which are data; only this module writes them.

pub(crate) mod bpf;
mod cpu;
mod cpuset;
mod devices;
mod freezer;
mod layout;
mod memory;
mod pids;
mod usage;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::sys;

pub use devices::DeviceRule;
pub use layout::{Controller, Hierarchy, Layout};
pub use usage::Usage;

/// Where a container's control group lies and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSpec {
    /// The parent in every hierarchy, relative to its root, made as needed: `swarm`, `swarm-lab/lab/n1`.
    pub parent: String,
    /// The name below the parent; one path component.
    pub name: String,
    /// What the container may use.
    pub limits: Limits,
}

/// What a container may use; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time in billionths of one processor: 500 000 000 is half of one.
    pub nano_cpus: Option<u64>,
    /// Weight against other groups when processors are busy; 1024 is usual, 2 to 262 144.
    pub cpu_shares: Option<u64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap besides the memory, in bytes; counts only with `memory_bytes`, and then none is 0.
    pub swap_bytes: Option<u64>,
    /// Memory that is taken from this group last, in bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// Processor time in each period, in microseconds; in place of `nano_cpus`.
    #[serde(default)]
    pub cpu_quota_us: Option<u64>,
    /// The period's length in microseconds; none is 100 000.
    #[serde(default)]
    pub cpu_period_us: Option<u64>,
    /// The processors that may be used: `0-2,4`.
    #[serde(default)]
    pub cpuset: Option<String>,
    /// How readily memory is swapped out, 0 to 100; the unified hierarchy has no such thing.
    #[serde(default)]
    pub swappiness: Option<u8>,
    /// Stop rather than kill when memory is used up; the unified hierarchy has no such thing.
    #[serde(default)]
    pub oom_kill_disable: bool,
}

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The file's name in the group's folder.
    pub file: &'static str,
    /// What to write.
    pub value: String,
    /// Whether a kernel without the file is fine.
    pub optional: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and words are passed as they come")]
impl Write {
    fn new(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), optional: false }
    }

    fn optional(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), optional: true }
    }
}

/// A control group could not be made, joined, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no control group file system.
    #[error("no control group file system is mounted (looked in /proc/self/mountinfo)")]
    NotMounted,
    /// The parent or the name is not a plain relative path.
    #[error("`{0}` cannot be part of a control group's path")]
    Name(String),
    /// A group of this name still has processes.
    #[error("control group `{}` still has processes", .0.display())]
    InUse(PathBuf),
    /// A control file or folder could not be used.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused a limit.
    #[error("could not set `{}` to `{value}`", path.display())]
    Limit {
        /// The control file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why not.
        source: io::Error,
    },
}

/// A container's control group in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// Makes the group with its limits in every hierarchy of `layout`; makes nothing on failure.
    pub fn create(
        layout: &Layout,
        spec: &CgroupSpec,
        devices: &[DeviceRule],
    ) -> Result<Self, CgroupError> {
        let relative = relative_path(&spec.parent, &spec.name)?;
        let mut cgroup = Self { hierarchies: Vec::new() };
        for root in cpuset::served(layout, &spec.limits) {
            let made = make(&root, &relative, &mut cgroup.hierarchies)
                .and_then(|hierarchy| apply(hierarchy, &spec.limits, devices));
            if let Err(error) = made {
                // What was made is empty; the first error is the one to tell.
                let _ = cgroup.delete(Duration::from_secs(1));
                return Err(error);
            }
        }
        Ok(cgroup)
    }

    /// The group with these paths, which a record names.
    #[must_use]
    pub fn from_hierarchies(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }

    /// The group's folder in every hierarchy.
    #[must_use]
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Opens the group's folder in the unified hierarchy, for a process to be born in it.
    pub fn open_unified(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(unified) = self.hierarchies.iter().find(|each| each.unified) else {
            return Ok(None);
        };
        let path = unified.path.clone();
        let opened = File::open(&path);
        opened.map(|folder| Some(folder.into())).map_err(|source| CgroupError::Io {
            action: "open",
            path,
            source,
        })
    }

    /// Opens what a process writes `0` to in order to join the other hierarchies.
    pub fn open_procs(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let open = |hierarchy: &Hierarchy| {
            let path = hierarchy.path.join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&path)
                .map(OwnedFd::from)
                .map_err(|source| CgroupError::Io { action: "open", path, source })
        };
        self.hierarchies.iter().filter(|each| !each.unified).map(open).collect()
    }

    /// The processes in the group, as this process's namespace numbers them.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(hierarchy) = self.hierarchies.first() else { return Ok(Vec::new()) };
        read_processes(&hierarchy.path)
    }

    /// Sends a signal to every process of the group.
    pub fn signal(&self, signal: i32) -> Result<(), CgroupError> {
        if signal == libc::SIGKILL
            && let Some(unified) = self.hierarchies.iter().find(|each| each.unified)
            && fs::write(unified.path.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        for pid in self.processes()?.into_iter().filter(|pid| *pid > 0) {
            sys::kill(pid, signal).or_else(|source| {
                let gone = source.raw_os_error() == Some(libc::ESRCH);
                let path = PathBuf::from(format!("/proc/{pid}"));
                if gone { Ok(()) } else { Err(CgroupError::Io { action: "signal", path, source }) }
            })?;
        }
        Ok(())
    }

    /// Stops every process of the group where it is, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        let unified = self.hierarchies.iter().find(|each| each.unified);
        let v1 = self.hierarchies.iter().find(|each| each.has(Controller::Freezer));
        match (v1, unified) {
            (Some(hierarchy), _) => write(&hierarchy.path, &freezer::v1(frozen)),
            (None, Some(hierarchy)) => write(&hierarchy.path, &freezer::v2(frozen)),
            (None, None) => Err(CgroupError::NotMounted),
        }
    }

    /// How many processes of the group the kernel killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let memory = self.hierarchies.iter().find(|each| each.has(Controller::Memory));
        let counted = memory.and_then(|hierarchy| {
            let text = fs::read_to_string(hierarchy.path.join(memory::events(hierarchy.unified)));
            memory::oom_kills(&text.ok()?)
        });
        counted.unwrap_or(0)
    }

    /// Kills what is left and removes the group; fine when it is gone already. The parent stays.
    pub fn delete(&self, limit: Duration) -> Result<(), CgroupError> {
        let mut first = Ok(());
        for hierarchy in &self.hierarchies {
            let removed = remove(&hierarchy.path, limit);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

/// Removes a parent given to [`CgroupSpec`] and its ancestors from every hierarchy, as far up as they
/// are empty; fine when they are gone already.
pub fn remove_parent(parent: &str) -> Result<(), CgroupError> {
    let layout = Layout::detect()?;
    check_path(parent)?;
    for root in layout.roots() {
        let mut path = root.path.join(parent);
        while path != root.path && path.starts_with(&root.path) {
            match fs::remove_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => break,
                Err(source) => return Err(CgroupError::Io { action: "remove", path, source }),
            }
            path.pop();
        }
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), CgroupError> {
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if path.split('/').all(plain) { Ok(()) } else { Err(CgroupError::Name(path.to_owned())) }
}

fn relative_path(parent: &str, name: &str) -> Result<PathBuf, CgroupError> {
    check_path(parent)?;
    check_path(name)?;
    if name.contains('/') {
        return Err(CgroupError::Name(name.to_owned()));
    }
    Ok(Path::new(parent).join(name))
}

/// Makes the group's folder below one root, its parents too, and records it in `made`.
fn make<'a>(
    root: &Hierarchy,
    relative: &Path,
    made: &'a mut Vec<Hierarchy>,
) -> Result<&'a Hierarchy, CgroupError> {
    let mut path = root.path.clone();
    let parts: Vec<_> = relative.iter().collect();
    for (index, part) in parts.iter().enumerate() {
        if root.unified {
            enable(&path, &root.controllers)?;
        }
        path.push(part);
        let made = fs::create_dir(&path);
        if !root.unified && root.has(Controller::Cpuset) {
            cpuset::inherit(&path)?;
        }
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let last = index + 1 == parts.len();
                if last && !read_processes(&path)?.is_empty() {
                    return Err(CgroupError::InUse(path));
                }
            }
            Err(source) => return Err(CgroupError::Io { action: "make", path, source }),
        }
    }
    made.push(Hierarchy { path, ..root.clone() });
    Ok(&made[made.len() - 1])
}

/// Hands the controllers on to the children of a group of the unified hierarchy.
fn enable(path: &Path, controllers: &[Controller]) -> Result<(), CgroupError> {
    let control = path.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    let missing: Vec<_> = controllers
        .iter()
        .filter(|controller| !enabled.split_whitespace().any(|name| name == controller.name()))
        .map(|controller| format!("+{}", controller.name()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    write(path, &Write::new("cgroup.subtree_control", missing.join(" ")))
}

fn apply(
    hierarchy: &Hierarchy,
    limits: &Limits,
    devices: &[DeviceRule],
) -> Result<(), CgroupError> {
    let writes =
        hierarchy.controllers.iter().flat_map(|controller| match (controller, hierarchy.unified) {
            (Controller::Cpu, false) => cpu::v1(limits),
            (Controller::Cpu, true) => cpu::v2(limits),
            (Controller::Memory, false) => memory::v1(limits),
            (Controller::Memory, true) => memory::v2(limits),
            (Controller::Pids, _) => pids::writes(limits),
            (Controller::Cpuset, _) => cpuset::writes(limits),
            (Controller::Devices, _) => devices::v1(devices),
            (Controller::Cpuacct | Controller::Freezer, _) => Vec::new(),
        });
    for each in writes {
        write(&hierarchy.path, &each)?;
    }
    if hierarchy.unified && hierarchy.guards_devices {
        let path = hierarchy.path.clone();
        bpf::attach(&path, &devices::v2(devices)).map_err(|source| CgroupError::Io {
            action: "guard devices of",
            path,
            source,
        })?;
    }
    Ok(())
}

fn write(folder: &Path, write: &Write) -> Result<(), CgroupError> {
    let path = folder.join(write.file);
    let written = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(write.value.as_bytes()));
    match written {
        Err(error) if write.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CgroupError::Limit { path, value: write.value.clone(), source }),
        Ok(()) => Ok(()),
    }
}

fn read_processes(folder: &Path) -> Result<Vec<i32>, CgroupError> {
    let path = folder.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        Err(source) => Err(CgroupError::Io { action: "read", path, source }),
    }
}

/// Removes one group and the groups below it, killing and waiting for what still lives in them.
fn remove(path: &Path, limit: Duration) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Io { action: "remove", path: path.to_owned(), source };
    let deadline = sys::monotonic() + limit;
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if sys::monotonic() >= deadline {
                    return Err(CgroupError::InUse(path.to_owned()));
                }
            }
            Err(source) => return Err(failed(source)),
        }
        let children = fs::read_dir(path).into_iter().flatten().flatten();
        for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&child.path(), limit)?;
        }
        for pid in read_processes(path)?.into_iter().filter(|pid| *pid > 0) {
            // A process that is gone is what we want.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        wait_for_change(path, pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Waits until a group's population changes, where the kernel tells, and at most `pause`.
fn wait_for_change(path: &Path, pause: Duration) {
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
    // Opening first and reading arms the event; without the file this is only the pause.
    let events = File::open(path.join("cgroup.events")).ok();
    let mut fds: Vec<_> =
        events.iter().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)).collect();
    let _ = poll(&mut fds, Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(parent: &str, name: &str) -> CgroupSpec {
        CgroupSpec { parent: parent.into(), name: name.into(), limits: Limits::default() }
    }

    #[test]
    fn names_that_leave_the_parent_are_refused() {
        for (parent, name) in [("../x", "a"), ("/x", "a"), ("x", ".."), ("x", "a/b"), ("", "a")] {
            let error = Cgroup::create(&Layout::default(), &spec(parent, name), &[]).unwrap_err();
            assert!(matches!(error, CgroupError::Name(_)), "{error}");
        }
    }

    #[test]
    fn parents_are_made_and_limits_written_for_each_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pids");
        let group = root.join("swarm/n1/web");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("pids.max"), "").unwrap();
        let layout = Layout::from_roots(vec![Hierarchy {
            path: root,
            controllers: vec![Controller::Pids],
            unified: false,
            guards_devices: false,
        }]);
        let mut wanted = spec("swarm/n1", "web");
        wanted.limits.pids = Some(7);
        let cgroup = Cgroup::create(&layout, &wanted, &[]).unwrap();
        assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "7");
        assert_eq!(cgroup.hierarchies()[0].path, group);
        assert!(cgroup.processes().unwrap().is_empty());
    }

    #[test]
    fn a_limit_that_cannot_be_written_undoes_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::from_roots(vec![Hierarchy {
            path: dir.path().to_owned(),
            controllers: vec![Controller::Pids],
            unified: false,
            guards_devices: false,
        }]);
        let mut wanted = spec("swarm", "web");
        wanted.limits.pids = Some(7);
        let error = Cgroup::create(&layout, &wanted, &[]).unwrap_err();
        assert!(error.to_string().contains("pids.max` to `7`"), "{error}");
        assert!(!dir.path().join("swarm/web").exists());
    }

    #[test]
    fn a_unified_parent_hands_on_only_missing_controllers() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("cgroup.subtree_control");
        fs::write(&control, "cpu memory\n").unwrap();
        enable(dir.path(), &[Controller::Cpu, Controller::Memory, Controller::Pids]).unwrap();
        assert!(fs::read_to_string(&control).unwrap().starts_with("+pids"));
    }
}
