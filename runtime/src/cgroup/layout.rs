//! Which control group hierarchies this host has, and where.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CgroupError;

/// A controller that containers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Processor time.
    Cpu,
    /// Counts processor time (v1 only; part of `cpu` in v2).
    Cpuacct,
    /// Which processors; only joined where a container asks for some.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Number of processes.
    Pids,
    /// Access to devices (v1 only; a program in v2).
    Devices,
    /// Stopping all processes (v1 only; part of every group in v2).
    Freezer,
}

impl Controller {
    const ALL: [Self; 7] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
    ];

    /// The kernel's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
        }
    }
}

/// One hierarchy: a mount point, or a group's folder in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The folder.
    pub path: PathBuf,
    /// The controllers in this hierarchy that containers use.
    pub controllers: Vec<Controller>,
    /// Whether this is the unified hierarchy (v2).
    pub unified: bool,
    /// Whether access to devices is guarded here, by a program.
    pub guards_devices: bool,
}

impl Hierarchy {
    /// Whether the controller is in this hierarchy.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

/// The hierarchies of this host, by their mount points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    roots: Vec<Hierarchy>,
}

impl Layout {
    /// Reads the layout from this process's mounts.
    pub fn detect() -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let text = fs::read_to_string(&path).map_err(|source| CgroupError::Io {
            action: "read",
            path,
            source,
        })?;
        let layout = Self::parse(&text, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        });
        if layout.roots.is_empty() { Err(CgroupError::NotMounted) } else { Ok(layout) }
    }

    /// A layout with these mount points.
    #[must_use]
    pub fn from_roots(roots: Vec<Hierarchy>) -> Self {
        Self { roots }
    }

    /// The mount point of every hierarchy.
    #[must_use]
    pub fn roots(&self) -> &[Hierarchy] {
        &self.roots
    }

    /// Finds the hierarchies in the text of mountinfo. `available` tells which controllers the unified
    /// hierarchy at a mount point has.
    fn parse(text: &str, available: impl Fn(&std::path::Path) -> String) -> Self {
        let mut roots: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            let Some(point) = left.split(' ').nth(4) else { continue };
            let path = PathBuf::from(unescape(point));
            match kind {
                Some("cgroup") => {
                    let known = |each: &Controller| options.split(',').any(|o| o == each.name());
                    let controllers: Vec<_> = Controller::ALL.into_iter().filter(known).collect();
                    let seen = roots.iter().any(|root| root.controllers == controllers);
                    if !controllers.is_empty() && !seen {
                        let guards_devices = false;
                        roots.push(Hierarchy { path, controllers, unified: false, guards_devices });
                    }
                }
                Some("cgroup2") => unified = unified.or(Some(path)),
                _ => {}
            }
        }
        if let Some(path) = unified {
            let names = available(&path);
            let taken = |each: &Controller| roots.iter().any(|root| root.has(*each));
            let here = |each: &Controller| names.split_whitespace().any(|n| n == each.name());
            let controllers =
                Controller::ALL.into_iter().filter(|each| here(each) && !taken(each)).collect();
            let guards_devices = !taken(&Controller::Devices);
            // Last, so that what is done "first" concerns the hierarchy with the processes' limits.
            roots.push(Hierarchy { path, controllers, unified: true, guards_devices });
        }
        Self { roots }
    }
}

/// Undoes mountinfo's octal escapes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|three| std::str::from_utf8(three).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layout: &Layout) -> Vec<(String, Vec<&'static str>, bool, bool)> {
        let of = |root: &Hierarchy| {
            let names = root.controllers.iter().map(|each| each.name()).collect();
            (root.path.display().to_string(), names, root.unified, root.guards_devices)
        };
        layout.roots().iter().map(of).collect()
    }

    #[test]
    fn hybrid_takes_controllers_from_v1_and_the_rest_from_v2() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw shared:4 - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
42 31 0:32 / /mnt/memory\\040again rw - cgroup cgroup rw,memory
";
        let layout = Layout::parse(text, |_| "hugetlb pids memory".into());
        assert_eq!(
            names(&layout),
            vec![
                ("/sys/fs/cgroup/cpu,cpuacct".into(), vec!["cpu", "cpuacct"], false, false),
                ("/sys/fs/cgroup/memory".into(), vec!["memory"], false, false),
                ("/sys/fs/cgroup/devices".into(), vec!["devices"], false, false),
                ("/sys/fs/cgroup/unified".into(), vec!["pids"], true, false),
            ]
        );
    }

    #[test]
    fn unified_has_everything_and_guards_devices_by_program() {
        let text = "29 23 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let layout = Layout::parse(text, |_| "cpuset cpu io memory hugetlb pids".into());
        let wanted = ("/sys/fs/cgroup".into(), vec!["cpu", "cpuset", "memory", "pids"], true, true);
        assert_eq!(names(&layout), vec![wanted]);
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c\\x"), "/a b\\c\\x");
    }
}
