//! A part of the processors for each host of the lab: its hosts share this machine, and what five of them do at once would
//! take as long as one takes for all of it. With a part each, they are as quick as hosts of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use swarm_tests::bench::Outcome;

use crate::lab::HOSTS;

const ROOT: &str = "/sys/fs/cgroup";
const GROUP: &str = "swarm-bench-images";
/// Microseconds; the kernel's own choice.
const PERIOD: usize = 100_000;

/// The hosts' processes in cgroups of their own. These go once the lab is gone, so this must be dropped after it.
pub(crate) struct Parts {
    group: PathBuf,
    hosts: Vec<PathBuf>,
    is_unified: bool,
}

impl Parts {
    /// Moves each host's processes. Nothing is limited yet.
    pub(crate) fn new<'a>(of: impl Iterator<Item = (&'a str, &'a [u32])>) -> Outcome<Self> {
        let root = Path::new(ROOT);
        let is_unified = root.join("cgroup.controllers").exists();
        let hierarchy = if is_unified { root.to_owned() } else { root.join("cpu") };
        let group = hierarchy.join(GROUP);
        fs::create_dir_all(&group)?;
        if is_unified {
            for above in [&hierarchy, &group] {
                fs::write(above.join("cgroup.subtree_control"), "+cpu")?;
            }
        }
        let mut parts = Self { group, hosts: Vec::new(), is_unified };
        for (name, processes) in of {
            let host = parts.group.join(name);
            fs::create_dir_all(&host)?;
            for process in processes {
                fs::write(host.join("cgroup.procs"), process.to_string())?;
            }
            parts.hosts.push(host);
        }
        Ok(parts)
    }

    /// See [`crate::lab::Lab::limit`].
    pub(crate) fn limit(&self, is_limited: bool) -> Outcome<()> {
        let part = PERIOD * available_parallelism()?.get() / HOSTS;
        for host in &self.hosts {
            match (self.is_unified, is_limited) {
                (true, true) => fs::write(host.join("cpu.max"), format!("{part} {PERIOD}"))?,
                (true, false) => fs::write(host.join("cpu.max"), "max")?,
                (false, true) => fs::write(host.join("cpu.cfs_quota_us"), part.to_string())?,
                (false, false) => fs::write(host.join("cpu.cfs_quota_us"), "-1")?,
            }
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for group in self.hosts.iter().chain([&self.group]) {
            if let Err(error) = fs::remove_dir(group) {
                eprintln!("{} stays: {error}", group.display());
            }
        }
    }
}
