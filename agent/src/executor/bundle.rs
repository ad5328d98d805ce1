//! Writes a container's `config.json` and the files that are mounted over the image's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::{
    ContainerSpec, ContentKind, Device, FileMount, IpcMode, MountSource, NetworkMode, Seccomp,
    Tmpfs,
};

use super::{TaskError, device, merge, resource, seccomp};
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

/// `/dev/shm` where nothing else is said, as Docker has it.
const SHM_SIZE: u64 = 64 << 20;

/// What a container of this task is made of, beside its spec and image.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The network namespace; `None` is the host's.
    pub(super) namespace: Option<PathBuf>,
    /// `/etc/resolv.conf`.
    pub(super) resolv_conf: String,
    /// Lines of `/etc/hosts`, except that of its own name.
    pub(super) hosts: Vec<(IpAddr, String)>,
    /// Its addresses, by network.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// Where the content of each mount lies on the host, by the path in the container.
    pub(super) sources: BTreeMap<String, PathBuf>,
    /// Where its secrets and configs lie, by the path in the container.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// Devices that come with its resources.
    pub(super) devices: Vec<Device>,
}

/// The container's host name: the host's where it shares that or its network, else its own wish, or the task's identity in letters
/// that host names may have.
pub(super) fn hostname(task: &TaskAssignment) -> String {
    let spec = &task.container;
    let of_host = spec.sharing.network == NetworkMode::Host && spec.hostname.is_none();
    if spec.sharing.uts || of_host {
        return name_of_host();
    }
    spec.hostname.clone().unwrap_or_else(|| task.id.to_string().replace('.', "-"))
}

/// This host's own name.
pub(super) fn name_of_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
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
        ("hosts", hosts(&hostname, task.container.domainname.as_deref(), around)),
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

fn hosts(hostname: &str, domain: Option<&str>, around: &Surroundings) -> String {
    let full = domain.map_or_else(String::new, |domain| format!("{hostname}.{domain} "));
    let mut text = String::new();
    for (address, names) in &around.hosts {
        writeln!(text, "{address}\t{names}").expect("a string takes everything");
    }
    if let Some(own) = around.addresses.first() {
        writeln!(text, "{own}\t{full}{hostname}").expect("a string takes everything");
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
    let mut environment = merge::environment(spec, image, &hostname);
    resource::put(&mut environment, resource::variables(task));
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": spec.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": environment,
            "cwd": working_dir(spec, image),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": limits(spec)?,
            // Set-user-id programs gain nothing; stricter than Docker's own default.
            "noNewPrivileges": spec.security.no_new_privileges.unwrap_or(!spec.privileged),
        },
        "root": { "path": "rootfs", "readonly": spec.read_only },
        "mounts": mounts(folder, spec, around),
        "linux": linux(spec, around, &capabilities)?,
        "annotations": spec.annotations,
    });
    // The host's own names are not the container's to set.
    if !spec.sharing.uts {
        config["hostname"] = json!(hostname);
        config["domainname"] = json!(spec.domainname);
    }
    if let Some(adjustment) = spec.oom_score_adj {
        config["process"]["oomScoreAdj"] = json!(adjustment);
    }
    Ok(config)
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
    ];
    mounts.extend(shared_memory(spec));
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(json!({
            "destination": format!("/etc/{name}"), "type": "bind",
            "source": folder.join(name), "options": ["bind", "rprivate"],
        }));
    }
    // Outer folders first, so that an inner mount is not hidden by a later outer one.
    let mut own: Vec<&str> = around.sources.keys().map(String::as_str).collect();
    own.extend(around.files.keys().map(String::as_str));
    own.extend(spec.mounts.iter().map(|mount| mount.target.as_str()));
    own.sort_by_key(|target| (target.matches('/').count(), *target));
    own.dedup();
    mounts.extend(own.into_iter().filter_map(|target| one_mount(target, spec, around)));
    mounts
}

/// Message queues and `/dev/shm`: the container's own, or the host's.
fn shared_memory(spec: &ContainerSpec) -> Vec<Value> {
    let fixed = ["nosuid", "noexec", "nodev"];
    if spec.sharing.ipc == IpcMode::Host {
        // A host that has one of them not has nothing to share there.
        let of_host =
            ["/dev/mqueue", "/dev/shm"].into_iter().filter(|path| Path::new(path).is_dir());
        let bind = |path| {
            let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
            json!({ "destination": path, "type": "bind", "source": path, "options": options })
        };
        return of_host.map(bind).collect();
    }
    let mut mounts = vec![
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": fixed }),
    ];
    if spec.sharing.ipc == IpcMode::Own {
        let size = format!("size={}", spec.shm_size.unwrap_or(SHM_SIZE));
        mounts.push(json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", size],
        }));
    }
    mounts
}

fn tmpfs_options(tmpfs: Tmpfs) -> Vec<String> {
    let flags = [
        ("nosuid", !tmpfs.set_user_id),
        ("nodev", !tmpfs.devices),
        ("noexec", tmpfs.executable == Some(false)),
    ];
    let set = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
    let mut options: Vec<String> = set.collect();
    options.push(format!("mode={:o}", tmpfs.mode.unwrap_or(0o1777)));
    options.extend(tmpfs.uid.map(|uid| format!("uid={uid}")));
    options.extend(tmpfs.gid.map(|gid| format!("gid={gid}")));
    options.extend(tmpfs.size.map(|bytes| format!("size={bytes}")));
    options
}

/// A secret or config. A config may be a program, a secret is none.
fn file_mount(target: &str, spec: &ContainerSpec, source: &Path) -> Value {
    let mut options = vec!["bind", "rprivate", "ro", "nosuid", "nodev"];
    let of_target = |file: &&FileMount| file.target == target;
    if spec.files.iter().find(of_target).is_none_or(|file| file.kind == ContentKind::Secret) {
        options.push("noexec");
    }
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

fn one_mount(target: &str, spec: &ContainerSpec, around: &Surroundings) -> Option<Value> {
    if let Some(source) = around.files.get(target) {
        return Some(file_mount(target, spec, source));
    }
    let asked = spec.mounts.iter().find(|mount| mount.target == target);
    let access = if asked.is_some_and(|mount| mount.read_only) { "ro" } else { "rw" };
    if let Some(MountSource::Tmpfs(tmpfs)) = asked.map(|mount| &mount.source) {
        let mut options = tmpfs_options(*tmpfs);
        options.push(access.to_owned());
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

fn namespaces(spec: &ContainerSpec, around: &Surroundings) -> Vec<Value> {
    let sharing = spec.sharing;
    let own = [
        ("mount", true),
        ("pid", !sharing.pid),
        ("ipc", sharing.ipc != IpcMode::Host),
        ("uts", !sharing.uts),
        ("cgroup", !sharing.cgroup),
    ];
    let own = own.into_iter().filter(|(_, own)| *own).map(|(kind, _)| json!({ "type": kind }));
    let network = around.namespace.as_ref().filter(|_| sharing.network != NetworkMode::Host);
    let network = network.map(|path| json!({ "type": "network", "path": path }));
    own.chain(network).collect()
}

fn linux(
    spec: &ContainerSpec,
    around: &Surroundings,
    capabilities: &[String],
) -> Result<Value, TaskError> {
    let mut linux = json!({ "namespaces": namespaces(spec, around), "sysctl": spec.sysctls });
    let wanted: Vec<Device> = spec.devices.iter().chain(&around.devices).cloned().collect();
    let devices = device::chosen(&wanted).map_err(TaskError::Unfit)?;
    let mut rules = devices.rules;
    rules.extend(spec.device_rules.iter().map(device::rule));
    let mut nodes = devices.nodes;
    if spec.privileged {
        rules.push(json!({ "allow": true, "access": "rwm" }));
        let chosen = |node: &Value| nodes.iter().any(|other| other["path"] == node["path"]);
        let of_host: Vec<Value> = device::of_host().into_iter().filter(|n| !chosen(n)).collect();
        nodes.extend(of_host);
    } else if !spec.security.unmasked {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if !rules.is_empty() {
        linux["resources"] = json!({ "devices": rules });
        linux["devices"] = json!(nodes);
    }
    if let Seccomp::Profile(text) = &spec.security.seccomp {
        let profile = seccomp::profile(text, capabilities, &seccomp::Host::of_process());
        linux["seccomp"] = profile.map_err(TaskError::Unfit)?;
    }
    Ok(linux)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use swarm_proto::object::GenericResource;
    use swarm_proto::spec::{DeviceAccess, DeviceKind, DeviceRule, Mount, Sharing, Ulimit};
    use swarm_runtime::oci::Spec;

    fn around() -> Surroundings {
        Surroundings {
            namespace: Some("/run/swarm/netns/task-1.1.1".into()),
            resolv_conf: "nameserver 127.0.0.11\n".into(),
            hosts: vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost".into())],
            addresses: vec![Ipv4Addr::new(10, 0, 0, 5)],
            sources: [("/data/inner".to_owned(), PathBuf::from("/v/a/_data"))].into(),
            files: BTreeMap::new(),
            devices: Vec::new(),
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
    fn a_task_has_the_devices_of_its_resources() {
        let mut task = testing::task("1.1.1");
        let names = ["a".to_owned()].into();
        task.resources = [("gpu".to_owned(), GenericResource::Named(names))].into();
        let access = DeviceAccess { read: true, write: true, make: false };
        let (source, target) = ("/dev/null".to_owned(), "/dev/null".to_owned());
        let around = Surroundings { devices: vec![Device { source, target, access }], ..around() };
        let value = config(Path::new("/c"), &task, &image(), &around, u64::MAX).unwrap();
        let environment = value["process"]["env"].as_array().unwrap();
        assert!(environment.contains(&json!("DOCKER_RESOURCE_GPU=a")));
        assert_eq!(value["linux"]["devices"][0]["path"], "/dev/null");
        assert_eq!(value["linux"]["resources"]["devices"][0]["access"], "rw");
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
            mount(
                "/data",
                MountSource::Tmpfs(Tmpfs { size: Some(4096), ..Tmpfs::default() }),
                false,
            ),
        ];
        let (value, _) = make(&task).unwrap();
        let mounts = value["mounts"].as_array().unwrap();
        let own = &mounts[mounts.len() - 2..];
        assert_eq!(own[0]["destination"], "/data");
        assert_eq!(own[0]["options"], json!(["nosuid", "nodev", "mode=1777", "size=4096", "rw"]));
        assert_eq!(own[1]["source"], "/v/a/_data");
        assert_eq!(own[1]["options"], json!(["rbind", "rprivate", "ro"]));
    }

    #[test]
    fn secrets_and_configs_cannot_be_written() {
        let mut task = testing::task("1.1.1");
        let file = |kind, target: &str| FileMount {
            kind,
            source: "s".into(),
            digest: None,
            target: target.to_owned(),
            uid: 0,
            gid: 0,
            mode: FileMount::MODE,
        };
        let (secret, config) = ("/run/secrets/s", "/c");
        task.container.files =
            vec![file(ContentKind::Secret, secret), file(ContentKind::Config, config)];
        let at = |target: &str| (target.to_owned(), PathBuf::from("/t/files/0"));
        let around = Surroundings { files: [at(secret), at(config)].into(), ..around() };
        let value = self::config(Path::new("/c"), &task, &image(), &around, u64::MAX).unwrap();
        let mounts = value["mounts"].as_array().unwrap();
        let options = |target: &str| {
            let found = mounts.iter().find(|mount| mount["destination"] == target).unwrap();
            found["options"].clone()
        };
        assert_eq!(options(config), json!(["bind", "rprivate", "ro", "nosuid", "nodev"]));
        let of_secret = json!(["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
        assert_eq!(options(secret), of_secret);
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
    fn a_tmpfs_is_as_asked() {
        let all = Tmpfs {
            size: Some(1),
            mode: Some(0o750),
            uid: Some(5),
            gid: Some(6),
            executable: Some(false),
            set_user_id: true,
            devices: true,
        };
        assert_eq!(tmpfs_options(all), ["noexec", "mode=750", "uid=5", "gid=6", "size=1"]);
        assert_eq!(tmpfs_options(Tmpfs::default()), ["nosuid", "nodev", "mode=1777"]);
    }

    #[test]
    fn what_is_shared_with_the_host_is_no_namespace() {
        let kinds = |task: &TaskAssignment| {
            let (value, _) = make(task).unwrap();
            let listed = value["linux"]["namespaces"].as_array().unwrap().clone();
            let kind = |one: &Value| one["type"].as_str().unwrap().to_owned();
            (listed.iter().map(kind).collect::<Vec<_>>().join(" "), value)
        };
        let mut task = testing::task("1.1.1");
        assert_eq!(kinds(&task).0, "mount pid ipc uts cgroup network");
        task.container.sharing.ipc = IpcMode::None;
        let (all, value) = kinds(&task);
        assert_eq!(all, "mount pid ipc uts cgroup network");
        assert!(!value["mounts"].to_string().contains("/dev/shm"));
        task.container.sharing = Sharing {
            network: NetworkMode::Host,
            ipc: IpcMode::Host,
            pid: true,
            uts: true,
            cgroup: true,
        };
        let (none, value) = kinds(&task);
        assert_eq!(none, "mount");
        assert!(value.get("hostname").is_none(), "the host keeps its name");
    }

    #[test]
    fn small_wishes_reach_the_configuration() {
        let mut task = testing::task("1.1.1");
        let spec = &mut task.container;
        spec.domainname = Some("example.org".into());
        spec.shm_size = Some(1 << 20);
        spec.oom_score_adj = Some(-500);
        spec.security.no_new_privileges = Some(false);
        spec.security.unmasked = true;
        spec.annotations = [("a".to_owned(), "b".to_owned())].into();
        let (value, spec) = make(&task).unwrap();
        assert_eq!(spec.domainname().as_deref(), Some("example.org"));
        assert!(value["mounts"].to_string().contains("size=1048576"));
        assert_eq!(value["process"]["oomScoreAdj"], -500);
        assert_eq!(value["process"]["noNewPrivileges"], false);
        assert!(spec.linux().as_ref().unwrap().masked_paths().is_none());
        assert_eq!(value["annotations"]["a"], "b");
        let lines = hosts("h", task.container.domainname.as_deref(), &around());
        assert!(lines.ends_with("10.0.0.5\th.example.org h\n"), "{lines}");
    }

    #[test]
    fn devices_and_rules_are_listed() {
        let mut task = testing::task("1.1.1");
        let access = DeviceAccess { read: true, write: false, make: false };
        let device =
            |source: &str| Device { source: source.into(), target: "/dev/nothing".into(), access };
        task.container.devices = vec![device("/dev/null")];
        task.container.device_rules =
            vec![DeviceRule { kind: DeviceKind::Block, major: Some(7), minor: None, access }];
        let (value, spec) = make(&task).unwrap();
        let nodes = spec.linux().as_ref().unwrap().devices().as_ref().unwrap();
        assert_eq!((nodes[0].path().to_str(), nodes[0].minor()), (Some("/dev/nothing"), 3));
        let rules = &value["linux"]["resources"]["devices"];
        let wanted = json!([
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "r" },
            { "allow": true, "type": "b", "major": 7, "minor": null, "access": "r" },
        ]);
        assert_eq!(*rules, wanted);
        task.container.devices = vec![device("/dev/is-not-there")];
        let error = make(&task).unwrap_err();
        assert!(error.is_permanent() && error.sentence().contains("/dev/is-not-there"), "{error}");
        task.container.devices = vec![device("/etc/hostname")];
        assert!(make(&task).unwrap_err().sentence().contains("is not a device"));
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
