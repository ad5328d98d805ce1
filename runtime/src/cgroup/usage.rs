//! What the processes of a group use.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, CgroupError, Controller, Hierarchy};

/// What a group used so far, and has now; `None` of what no hierarchy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time since the group was made.
    pub cpu_time: Option<Duration>,
    /// Bytes of memory, without pages of files that the kernel could give back at once.
    pub memory: Option<u64>,
}

impl Cgroup {
    /// Reads what the group uses.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        let having = |controller| self.hierarchies.iter().find(|one| one.has(controller));
        let unified = self.hierarchies.iter().find(|one| one.unified);
        let counted = having(Controller::Cpuacct).or(unified);
        Ok(Usage {
            cpu_time: counted.map(cpu_time).transpose()?.flatten(),
            memory: having(Controller::Memory).map(memory).transpose()?.flatten(),
        })
    }
}

fn cpu_time(hierarchy: &Hierarchy) -> Result<Option<Duration>, CgroupError> {
    Ok(if hierarchy.unified {
        let stat = read(&hierarchy.path, "cpu.stat")?;
        field(&stat, "usage_usec").map(Duration::from_micros)
    } else {
        let usage = read(&hierarchy.path, "cpuacct.usage")?;
        usage.trim().parse().ok().map(Duration::from_nanos)
    })
}

fn memory(hierarchy: &Hierarchy) -> Result<Option<u64>, CgroupError> {
    let (current, inactive) = if hierarchy.unified {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    };
    let current: Option<u64> = read(&hierarchy.path, current)?.trim().parse().ok();
    let inactive = field(&read(&hierarchy.path, "memory.stat")?, inactive).unwrap_or(0);
    Ok(current.map(|current| current.saturating_sub(inactive)))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read(folder: &Path, name: &str) -> Result<String, CgroupError> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        // The container has ended, or a kernel counts less.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(String::new()),
        Err(source) => Err(CgroupError::Io { action: "read", path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(path: &Path, controllers: &[Controller], unified: bool) -> Hierarchy {
        let (path, controllers) = (path.to_owned(), controllers.to_vec());
        Hierarchy { path, controllers, unified, guards_devices: false }
    }

    #[test]
    fn both_layouts_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file 1000\ntotal_inactive_file 4000\n");
        write("cpuacct.usage", "2000000\n");
        write("memory.usage_in_bytes", "6000\n");
        let usage = |controllers: &[Controller], unified| {
            let all = vec![hierarchy(dir.path(), controllers, unified)];
            Cgroup::from_hierarchies(all).usage().unwrap()
        };
        let unified = usage(&[Controller::Cpu, Controller::Memory], true);
        assert_eq!(unified.cpu_time, Some(Duration::from_micros(1_500)));
        assert_eq!(unified.memory, Some(4_000));
        let v1 = usage(&[Controller::Cpuacct, Controller::Memory], false);
        assert_eq!(v1, Usage { cpu_time: Some(Duration::from_millis(2)), memory: Some(2_000) });
        assert_eq!(usage(&[Controller::Pids], false), Usage::default());
    }

    #[test]
    fn a_group_that_is_gone_uses_nothing_that_is_known() {
        let gone = hierarchy(Path::new("/nonexistent"), &[Controller::Cpuacct], false);
        assert_eq!(Cgroup::from_hierarchies(vec![gone]).usage().unwrap(), Usage::default());
    }
}
