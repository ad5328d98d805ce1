//! What a lab could leave on the machine: compared before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the machine's own namespaces hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    links: BTreeSet<String>,
    addresses: String,
    routes: String,
    rules: String,
    resolver: Option<Vec<u8>>,
    folders: BTreeMap<PathBuf, bool>,
}

impl Machine {
    /// Looks at the machine.
    pub(crate) fn look() -> Self {
        let links = fs::read_dir("/sys/class/net").unwrap().flatten();
        let folders =
            ["/var/lib/swarm", "/etc/swarm", "/run/swarm", "/var/log/swarm", "/var/lib/registry"];
        Self {
            links: links.map(|link| link.file_name().into_string().unwrap()).collect(),
            addresses: fs::read_to_string("/proc/net/fib_trie").unwrap_or_default(),
            routes: fs::read_to_string("/proc/net/route").unwrap(),
            rules: rules(),
            resolver: fs::read("/etc/resolv.conf").ok(),
            folders: folders.map(|path| (PathBuf::from(path), Path::new(path).exists())).into(),
        }
    }
}

fn rules() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// Its number, as the machine counts.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the machine's boot.
    pub(crate) start: u64,
    /// Its name.
    pub(crate) name: String,
}

impl Process {
    /// The process of this number, unless it has ended.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = tail.split(' ').collect();
        if matches!(fields[0], "Z" | "X") {
            return None;
        }
        let name = head.split_once('(')?.1.to_owned();
        Some(Self { pid, start: fields[19].parse().ok()?, name })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.start == self.start)
    }
}

/// All processes whose PID namespace, or an enclosing one, is that of `first`.
pub(crate) fn processes_of(first: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, tail)) = stat.rsplit_once(") ") else { continue };
        let parent = tail.split(' ').nth(1).and_then(|parent| parent.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let mut found = vec![first];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.get(&found[next]).into_iter().flatten());
        next += 1;
    }
    found.into_iter().filter_map(Process::of).collect()
}

/// Every cgroup folder below this one, in every hierarchy, itself included.
pub(crate) fn cgroups(parent: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![root.to_owned()];
    if !root.join("cgroup.procs").exists() {
        hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).collect();
        hierarchies.retain(|path| !path.is_symlink());
    }
    let mut found: Vec<PathBuf> = hierarchies.into_iter().map(|path| path.join(parent)).collect();
    found.retain(|path| path.exists());
    let mut next = 0;
    while next < found.len() {
        let folders = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        let folders: Vec<PathBuf> =
            folders.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        found.extend(folders);
        next += 1;
    }
    found
}

/// The processes in all cgroups below this one: those of a host's containers.
pub(crate) fn contained(parent: &str) -> BTreeSet<Process> {
    let mut found = BTreeSet::new();
    for folder in cgroups(parent) {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse().ok());
        found.extend(pids.filter_map(Process::of));
    }
    found
}

/// Lines of any process's mounts that name this text.
pub(crate) fn mounts_naming(text: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(mounts) = fs::read_to_string(entry.path().join("mountinfo")) else { continue };
        let lines = mounts.lines().filter(|line| line.contains(text));
        found.extend(lines.map(|line| format!("{}: {line}", entry.path().display())));
    }
    found.into_iter().collect()
}
