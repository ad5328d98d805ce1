//! Writes a container's `config.json` and the files that are mounted over the image's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::{ContainerSpec, MountSource};

use super::{TaskError, merge};
use crate::image::ImageConfig;

/// Hides what a container must not read, unless it is privileged.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container of this task is made of, beside its spec and image.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The network namespace.
    pub(super) namespace: PathBuf,
    /// `/etc/resolv.conf`.
    pub(super) resolv_conf: String,
    /// Lines of `/etc/hosts`, except that of its own name.
    pub(super) hosts: Vec<(IpAddr, String)>,
    /// Its addresses, by network.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// Where the content of each mount lies on the host, by the path in the container.
    pub(super) sources: BTreeMap<String, PathBuf>,
}

/// The container's host name: its own wish, or the task's identity in letters that host names may have.
pub(super) fn hostname(task: &TaskAssignment) -> String {
    task.container.hostname.clone().unwrap_or_else(|| task.id.to_string().replace('.', "-"))
}

/// Writes `config.json`, `hosts`, `hostname` and `resolv.conf` into the container's folder. Nothing is synced: after a
/// power cut there is no container that would need them.
pub(super) fn write(
    folder: &Path,
    task: &TaskAssignment,
    image: &ImageConfig,
    around: &Surroundings,
    available: u64,
) -> Result<(), TaskError> {
    let config = config(folder, task, image, around, available)?;
    let hostname = hostname(task);
    let files = [
        ("config.json", config.to_string()),
        ("hosts", hosts(&hostname, around)),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", around.resolv_conf.clone()),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        let written = fs::write(&path, content);
        written.map_err(|source| TaskError::Disk { action: "write", path, source })?;
    }
    Ok(())
}

fn hosts(hostname: &str, around: &Surroundings) -> String {
    let mut text = String::new();
    for (address, names) in &around.hosts {
        writeln!(text, "{address}\t{names}").expect("a string takes everything");
    }
    if let Some(own) = around.addresses.first() {
        writeln!(text, "{own}\t{hostname}").expect("a string takes everything");
    }
    text
}

fn config(
    folder: &Path,
    task: &TaskAssignment,
    image: &ImageConfig,
    around: &Surroundings,
    available: u64,
) -> Result<Value, TaskError> {
    let spec = &task.container;
    let arguments = merge::command_line(spec, image);
    if arguments.first().is_none_or(String::is_empty) {
        let reason = "the image has no command, and the service gives none (`command:`)";
        return Err(TaskError::Unfit(reason.to_owned()));
    }
    let capabilities = merge::capabilities(spec, available).map_err(TaskError::Unfit)?;
    let hostname = hostname(task);
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": spec.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": merge::environment(spec, image, &hostname),
            "cwd": working_dir(spec, image),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": limits(spec)?,
            // Set-user-id programs gain nothing; stricter than Docker's own default.
            "noNewPrivileges": !spec.privileged,
        },
        "root": { "path": "rootfs", "readonly": spec.read_only },
        "hostname": hostname,
        "mounts": mounts(folder, spec, around),
        "linux": linux(spec, around),
    }))
}

fn working_dir(spec: &ContainerSpec, image: &ImageConfig) -> String {
    let wish = spec.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    // Relative ones start at the root, as Docker has it.
    if wish.starts_with('/') { wish } else { format!("/{wish}") }
}

fn limits(spec: &ContainerSpec) -> Result<Vec<Value>, TaskError> {
    let mut limits = Vec::new();
    for limit in &spec.ulimits {
        let kind = super::limit::kind(&limit.name)
            .ok_or_else(|| TaskError::Unfit(format!("`{}` is not a ulimit", limit.name)))?;
        super::limit::check(limit, kind).map_err(TaskError::Unfit)?;
        limits.push(json!({ "type": kind.name, "soft": limit.soft, "hard": limit.hard }));
    }
    Ok(limits)
}

fn mounts(folder: &Path, spec: &ContainerSpec, around: &Surroundings) -> Vec<Value> {
    let fixed = ["nosuid", "noexec", "nodev"];
    let kernel = if spec.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": fixed }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        }),
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", kernel],
        }),
        json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", kernel],
        }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": fixed }),
        json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        }),
    ];
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(json!({
            "destination": format!("/etc/{name}"), "type": "bind",
            "source": folder.join(name), "options": ["bind", "rprivate"],
        }));
    }
    // Outer folders first, so that an inner mount is not hidden by a later outer one.
    let mut own: Vec<&str> = around.sources.keys().map(String::as_str).collect();
    own.extend(spec.mounts.iter().map(|mount| mount.target.as_str()));
    own.sort_by_key(|target| (target.matches('/').count(), *target));
    own.dedup();
    mounts.extend(own.into_iter().filter_map(|target| one_mount(target, spec, around)));
    mounts
}

fn one_mount(target: &str, spec: &ContainerSpec, around: &Surroundings) -> Option<Value> {
    let asked = spec.mounts.iter().find(|mount| mount.target == target);
    let access = if asked.is_some_and(|mount| mount.read_only) { "ro" } else { "rw" };
    if let Some(MountSource::Tmpfs { size }) = asked.map(|mount| &mount.source) {
        let mut options =
            vec!["nosuid".to_owned(), "nodev".into(), "mode=1777".into(), access.into()];
        options.extend(size.map(|bytes| format!("size={bytes}")));
        return Some(json!({
            "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options,
        }));
    }
    let source = around.sources.get(target)?;
    Some(json!({
        "destination": target, "type": "bind", "source": source,
        "options": ["rbind", "rprivate", access],
    }))
}

fn linux(spec: &ContainerSpec, around: &Surroundings) -> Value {
    let mut linux = json!({
        "namespaces": [
            { "type": "mount" },
            { "type": "pid" },
            { "type": "ipc" },
            { "type": "uts" },
            { "type": "cgroup" },
            { "type": "network", "path": around.namespace },
        ],
        "sysctl": spec.sysctls,
    });
    if spec.privileged {
        linux["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
        linux["devices"] = Value::Array(super::device::of_host());
    } else {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    linux
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use swarm_proto::spec::{Mount, Ulimit};
    use swarm_runtime::oci::Spec;

    fn around() -> Surroundings {
        Surroundings {
            namespace: "/run/swarm/netns/task-1.1.1".into(),
            resolv_conf: "nameserver 127.0.0.11\n".into(),
            hosts: vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost".into())],
            addresses: vec![Ipv4Addr::new(10, 0, 0, 5)],
            sources: [("/data/inner".to_owned(), PathBuf::from("/v/a/_data"))].into(),
        }
    }

    fn image() -> ImageConfig {
        ImageConfig { cmd: vec!["sh".into()], ..ImageConfig::default() }
    }

    fn make(task: &TaskAssignment) -> Result<(Value, Spec), TaskError> {
        let value = config(Path::new("/c"), task, &image(), &around(), u64::MAX)?;
        let spec = serde_json::from_value(value.clone()).unwrap();
        Ok((value, spec))
    }

    #[test]
    fn a_plain_task_is_confined() {
        let (value, spec) = make(&testing::task("1.1.1")).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.masked_paths().as_ref().unwrap().len(), 11);
        assert_eq!(linux.readonly_paths().as_ref().unwrap().len(), 5);
        assert!(linux.resources().is_none() && linux.devices().is_none());
        assert_eq!(spec.hostname().as_deref(), Some("1-1-1"));
        assert_eq!(value["process"]["args"], json!(["sh"]));
        assert_eq!(value["process"]["cwd"], "/");
        assert_eq!(value["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert!(value["process"]["capabilities"].get("inheritable").is_none());
        assert_eq!(value["process"]["noNewPrivileges"], true);
    }

    #[test]
    fn a_privileged_task_is_not() {
        let mut task = testing::task("1.1.1");
        task.container.privileged = true;
        let (value, spec) = make(&task).unwrap();
        assert!(spec.linux().as_ref().unwrap().masked_paths().is_none());
        assert!(spec.linux().as_ref().unwrap().devices().as_ref().unwrap().len() > 5);
        assert_eq!(value["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
        assert_eq!(value["process"]["noNewPrivileges"], false);
    }

    #[test]
    fn mounts_stand_outer_before_inner() {
        let mut task = testing::task("1.1.1");
        let mount = |target: &str, source, read_only| Mount {
            target: target.to_owned(),
            source,
            read_only,
        };
        task.container.mounts = vec![
            mount("/data/inner", MountSource::Anonymous, true),
            mount("/data", MountSource::Tmpfs { size: Some(4096) }, false),
        ];
        let (value, _) = make(&task).unwrap();
        let mounts = value["mounts"].as_array().unwrap();
        let own = &mounts[mounts.len() - 2..];
        assert_eq!(own[0]["destination"], "/data");
        assert_eq!(own[0]["options"], json!(["nosuid", "nodev", "mode=1777", "rw", "size=4096"]));
        assert_eq!(own[1]["source"], "/v/a/_data");
        assert_eq!(own[1]["options"], json!(["rbind", "rprivate", "ro"]));
    }

    #[test]
    fn what_cannot_run_is_unfit() {
        let mut limited = testing::task("1.1.1");
        let above = Ulimit { name: "nofile".into(), soft: 1, hard: u64::MAX };
        limited.container.ulimits = vec![above];
        let error = make(&limited).unwrap_err();
        assert!(error.is_permanent() && error.sentence().contains("nofile"), "{error}");
        limited.container.ulimits[0].name = "nofiles".into();
        assert!(make(&limited).unwrap_err().is_permanent());
        let mut empty = testing::task("1.1.1");
        empty.container.entrypoint = Some(vec![String::new()]);
        assert!(make(&empty).unwrap_err().sentence().contains("no command"));
    }

    #[test]
    fn files_name_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let task = testing::task("1.1.1");
        write(folder.path(), &task, &image(), &around(), u64::MAX).unwrap();
        let hosts = fs::read_to_string(folder.path().join("hosts")).unwrap();
        assert_eq!(hosts, "127.0.0.1\tlocalhost\n10.0.0.5\t1-1-1\n");
        assert_eq!(fs::read_to_string(folder.path().join("hostname")).unwrap(), "1-1-1\n");
    }
}
