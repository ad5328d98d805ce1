//! Reads `config.json` and sorts it into what the first process needs. What would ask for something
//! that is not served is refused by name.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount,
    Process, Spec,
};

use crate::cgroup::DeviceRule;
use crate::init::{Identity, Limit, Program};
use crate::record::{self, RecordError};
use crate::rootfs::device::DeviceSpec;
use crate::rootfs::mount::MountSpec;
use crate::rootfs::{MountError, Options};

/// `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file is not there.
    #[error("there is no `config.json` in `{}`", .0.display())]
    Missing(PathBuf),
    /// Something needed is not said.
    #[error("config.json: `{0}` is missing")]
    Needed(&'static str),
    /// Something asked for is not served.
    #[error("config.json: `{0}` is not supported")]
    Unsupported(&'static str),
    /// A value makes no sense.
    #[error("config.json: `{field}`: {reason}")]
    Invalid {
        /// Where.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A mount cannot be used.
    #[error("config.json: {0}")]
    Mount(MountError),
}

/// The kinds of namespaces a container has of its own or joins.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW…` of those made with the first process.
    pub(crate) new: libc::c_int,
    /// Whether it has a control group namespace; made once it is in its control group.
    pub(crate) cgroup: bool,
    /// Namespaces to join: `CLONE_NEW…` and where.
    pub(crate) join: Vec<(libc::c_int, PathBuf)>,
}

impl Namespaces {
    /// Whether the container is not in the host's namespace of this kind.
    fn has(&self, kind: libc::c_int) -> bool {
        self.new & kind != 0 || self.join.iter().any(|(joined, _)| *joined == kind)
    }
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) program: Program,
    pub(crate) namespaces: Namespaces,
    pub(crate) read_only_root: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Vec<MountSpec>,
    pub(crate) devices: Vec<DeviceSpec>,
    pub(crate) device_rules: Vec<DeviceRule>,
    pub(crate) sysctl: Vec<(String, String)>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) root_propagation: u64,
    pub(crate) seccomp: Option<LinuxSeccomp>,
}

impl Config {
    /// Reads the configuration of a container's folder.
    pub(crate) fn read(dir: &Path) -> Result<Self, SpecError> {
        let spec: Option<Spec> = record::read(&dir.join(record::CONFIG_FILE))?;
        Self::check(&spec.ok_or_else(|| SpecError::Missing(dir.to_owned()))?, dir)
    }

    /// Checks and sorts a configuration; relative mount sources start from `dir`.
    pub(crate) fn check(spec: &Spec, dir: &Path) -> Result<Self, SpecError> {
        refuse(&[
            ("hooks", spec.hooks().is_some()),
            ("solaris", spec.solaris().is_some()),
            ("windows", spec.windows().is_some()),
            ("vm", spec.vm().is_some()),
        ])?;
        let linux = spec.linux().as_ref().ok_or(SpecError::Needed("linux"))?;
        refuse_linux(linux)?;
        let process = spec.process().as_ref().ok_or(SpecError::Needed("process"))?;
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let devices = linux.devices().as_deref().unwrap_or_default();
        let devices: Vec<_> = devices.iter().map(device).collect::<Result<_, _>>()?;
        let paths = |paths: &Option<Vec<String>>| -> Vec<PathBuf> {
            paths.iter().flatten().map(PathBuf::from).collect()
        };
        let sysctl = linux.sysctl().iter().flatten();
        let namespaces = namespaces(linux)?;
        if !namespaces.has(libc::CLONE_NEWUTS)
            && (spec.hostname().is_some() || spec.domainname().is_some())
        {
            let reason = "a container with the host's name cannot set one".to_owned();
            return Err(SpecError::Invalid { field: "hostname", reason });
        }
        Ok(Self {
            program: program(process)?,
            read_only_root: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly)
                == Some(true),
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            mounts: mounts.iter().map(|each| mount(each, dir)).collect::<Result<_, _>>()?,
            device_rules: device_rules(linux.resources().as_ref())?,
            devices,
            sysctl: sysctl
                .map(|(key, value)| {
                    check_sysctl(key, &namespaces).map(|()| (key.clone(), value.clone()))
                })
                .collect::<Result<_, _>>()?,
            namespaces,
            masked: paths(linux.masked_paths()),
            read_only: paths(linux.readonly_paths()),
            root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
            seccomp: linux.seccomp().clone(),
        })
    }
}

fn refuse(fields: &[(&'static str, bool)]) -> Result<(), SpecError> {
    match fields.iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(SpecError::Unsupported(field)),
        None => Ok(()),
    }
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn refuse_linux(linux: &Linux) -> Result<(), SpecError> {
    refuse(&[
        ("linux.uidMappings", some(linux.uid_mappings().as_ref())),
        ("linux.gidMappings", some(linux.gid_mappings().as_ref())),
        ("linux.cgroupsPath", linux.cgroups_path().is_some()),
        ("linux.mountLabel", linux.mount_label().is_some()),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.timeOffsets", linux.time_offsets().is_some()),
        ("linux.netDevices", linux.net_devices().is_some()),
    ])
}

fn program(process: &Process) -> Result<Program, SpecError> {
    refuse(&[
        ("process.commandLine", process.command_line().is_some()),
        ("process.consoleSize", process.console_size().is_some()),
        ("process.apparmorProfile", process.apparmor_profile().is_some()),
        ("process.selinuxLabel", process.selinux_label().is_some()),
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
        ("process.user.username", process.user().username().is_some()),
    ])?;
    let arguments = process.args().clone().unwrap_or_default();
    if arguments.is_empty() || arguments[0].is_empty() {
        return Err(SpecError::Needed("process.args"));
    }
    if !process.cwd().is_absolute() {
        let reason = format!("`{}` is not an absolute path", process.cwd().display());
        return Err(SpecError::Invalid { field: "process.cwd", reason });
    }
    let user = process.user();
    Ok(Program {
        arguments,
        environment: process.env().clone().unwrap_or_default(),
        directory: process.cwd().clone(),
        identity: Identity {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
        },
        umask: user.umask().unwrap_or(0o022),
        capabilities: process.capabilities().as_ref().map(Into::into),
        limits: process.rlimits().iter().flatten().map(Limit::from).collect(),
        no_new_privileges: process.no_new_privileges() == Some(true),
        oom_score_adjustment: process.oom_score_adj(),
        terminal: process.terminal() == Some(true),
    })
}

fn namespaces(linux: &Linux) -> Result<Namespaces, SpecError> {
    let mut sorted = Namespaces::default();
    let mut seen = Vec::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        if seen.contains(&kind) {
            let reason = format!("`{kind}` is listed twice");
            return Err(SpecError::Invalid { field: "linux.namespaces", reason });
        }
        seen.push(kind);
        let flag = match kind {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
            LinuxNamespaceType::User => return Err(SpecError::Unsupported("a user namespace")),
            LinuxNamespaceType::Time => return Err(SpecError::Unsupported("a time namespace")),
        };
        match (kind, namespace.path()) {
            (LinuxNamespaceType::Cgroup, None) => sorted.cgroup = true,
            (_, None) => sorted.new |= flag,
            (
                LinuxNamespaceType::Network | LinuxNamespaceType::Ipc | LinuxNamespaceType::Uts,
                Some(path),
            ) => sorted.join.push((flag, path.clone())),
            (_, Some(_)) => {
                return Err(SpecError::Unsupported("a path for a mount, pid or cgroup namespace"));
            }
        }
    }
    // Without its own its mounts would be the host's.
    if sorted.new & libc::CLONE_NEWNS == 0 {
        return Err(SpecError::Needed("linux.namespaces: mount"));
    }
    Ok(sorted)
}

fn mount(mount: &Mount, dir: &Path) -> Result<MountSpec, SpecError> {
    refuse(&[
        ("mounts.uidMappings", some(mount.uid_mappings().as_ref())),
        ("mounts.gidMappings", some(mount.gid_mappings().as_ref())),
    ])?;
    let destination = mount.destination().clone();
    if !destination.is_absolute() {
        let reason = format!("`{}` is not an absolute path", destination.display());
        return Err(SpecError::Invalid { field: "mounts.destination", reason });
    }
    let mut options =
        Options::parse(mount.options().as_deref().unwrap_or_default()).map_err(|option| {
            SpecError::Mount(MountError::Option { destination: destination.clone(), option })
        })?;
    let kind = mount.typ().clone().unwrap_or_default();
    options.bind |= kind == "bind";
    let source = match mount.source() {
        Some(source) if options.bind => dir.join(source),
        Some(source) => source.clone(),
        None if options.bind => return Err(SpecError::Needed("mounts.source of a bind mount")),
        None => PathBuf::from(&kind),
    };
    if !options.bind && kind.is_empty() {
        return Err(SpecError::Needed("mounts.type"));
    }
    if let (true, Some((key, value))) = (options.bind, options.data.first()) {
        let option = value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"));
        return Err(SpecError::Mount(MountError::Option { destination, option }));
    }
    Ok(MountSpec { destination, kind, source, options })
}

fn device(device: &LinuxDevice) -> Result<DeviceSpec, SpecError> {
    let number = |number: i64| {
        u32::try_from(number).map_err(|_| SpecError::Invalid {
            field: "linux.devices",
            reason: format!("{number} is not a device number"),
        })
    };
    let block = match device.typ() {
        LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => false,
        LinuxDeviceType::A | LinuxDeviceType::P => {
            return Err(SpecError::Unsupported("linux.devices of type a or p"));
        }
    };
    if !device.path().is_absolute() {
        let reason = format!("`{}` is not an absolute path", device.path().display());
        return Err(SpecError::Invalid { field: "linux.devices", reason });
    }
    Ok(DeviceSpec {
        path: device.path().clone(),
        block,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}

/// What may be opened: the defaults, and what `resources.devices` allows. A node in `linux.devices` alone opens nothing.
fn device_rules(resources: Option<&LinuxResources>) -> Result<Vec<DeviceRule>, SpecError> {
    let mut rules = DeviceRule::defaults().to_vec();
    let Some(resources) = resources else { return Ok(rules) };
    refuse(&[
        ("linux.resources.memory", resources.memory().is_some()),
        ("linux.resources.cpu", resources.cpu().is_some()),
        ("linux.resources.pids", resources.pids().is_some()),
        ("linux.resources.blockIO", resources.block_io().is_some()),
        ("linux.resources.hugepageLimits", some(resources.hugepage_limits().as_ref())),
        ("linux.resources.network", resources.network().is_some()),
        ("linux.resources.rdma", resources.rdma().is_some()),
        ("linux.resources.unified", resources.unified().is_some()),
    ])?;
    for rule in resources.devices().iter().flatten() {
        if !rule.allow() {
            // Nothing is allowed to begin with; forbidding single devices again is not served.
            if rule.major().is_some() || rule.minor().is_some() {
                return Err(SpecError::Unsupported("a device that is denied by number"));
            }
            continue;
        }
        let kinds: &[bool] = match rule.typ() {
            Some(LinuxDeviceType::B) => &[true],
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[false],
            _ => &[false, true],
        };
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let access = rule.access().as_deref().unwrap_or("rwm");
        rules.extend(kinds.iter().map(|block| DeviceRule {
            block: *block,
            major: number(rule.major()),
            minor: number(rule.minor()),
            read: access.contains('r'),
            write: access.contains('w'),
            make: access.contains('m'),
        }));
    }
    Ok(rules)
}

/// Only settings that belong to a namespace of the container may be set.
fn check_sysctl(key: &str, namespaces: &Namespaces) -> Result<(), SpecError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let has = |kind| namespaces.has(kind);
    let plain = key.split(['.', '/']).all(|part| !part.is_empty());
    let allowed = if key.starts_with("net.") {
        has(libc::CLONE_NEWNET)
    } else if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        has(libc::CLONE_NEWIPC)
    } else {
        key == "kernel.domainname" && has(libc::CLONE_NEWUTS)
    };
    if plain && allowed {
        return Ok(());
    }
    let reason = format!("`{key}` does not belong to a namespace of the container");
    Err(SpecError::Invalid { field: "linux.sysctl", reason })
}

fn root_propagation(propagation: Option<&str>) -> Result<u64, SpecError> {
    match propagation {
        None | Some("" | "private" | "rprivate") => Ok(libc::MS_PRIVATE),
        Some("slave" | "rslave") => Ok(libc::MS_SLAVE),
        Some("unbindable" | "runbindable") => Ok(libc::MS_UNBINDABLE),
        Some(_) => Err(SpecError::Unsupported("linux.rootfsPropagation: shared")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, String> {
        let mut json = serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 1, "gid": 2}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"},
                {"type": "network", "path": "/run/netns/x"}]},
        });
        change(&mut json);
        let spec: Spec = serde_json::from_value(json).map_err(|error| error.to_string())?;
        Config::check(&spec, Path::new("/bundle")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plain_configuration_is_sorted() {
        let config = check(|_| {}).unwrap();
        assert!(config.read_only_root);
        assert_eq!(config.namespaces.new, libc::CLONE_NEWNS | libc::CLONE_NEWPID);
        assert!(config.namespaces.cgroup);
        let join = vec![(libc::CLONE_NEWNET, PathBuf::from("/run/netns/x"))];
        assert_eq!(config.namespaces.join, join);
        assert_eq!(config.mounts[0].source, Path::new("/bundle/data"));
        assert_eq!(config.program.identity, Identity { uid: 1, gid: 2, groups: vec![] });
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        let refused = |pointer: &str, value: serde_json::Value| {
            check(|json| {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                json.pointer_mut(parent).unwrap()[key] = value;
            })
            .unwrap_err()
        };
        let cases = [
            ("/linux/resources", serde_json::json!({"memory": {"limit": 1}}), "memory"),
            (
                "/linux/uidMappings",
                serde_json::json!([{"containerID": 0, "hostID": 1, "size": 1}]),
                "uidMappings",
            ),
            ("/process/apparmorProfile", "x".into(), "apparmorProfile"),
            ("/process/cwd", "tmp".into(), "not an absolute path"),
            ("/process/args", serde_json::json!([]), "process.args"),
            ("/hooks", serde_json::json!({"prestart": []}), "hooks"),
            ("/linux/namespaces", serde_json::json!([{"type": "pid"}]), "mount"),
            ("/hostname", "x".into(), "hostname"),
            ("/linux/namespaces", serde_json::json!([{"type": "pid"}, {"type": "pid"}]), "twice"),
            ("/linux/sysctl", serde_json::json!({"kernel.core_pattern": "|x"}), "core_pattern"),
            ("/linux/sysctl", serde_json::json!({"net..x": "1"}), "net..x"),
            ("/linux/rootfsPropagation", "rshared".into(), "shared"),
            ("/mounts/0/options", serde_json::json!(["rbind", "size=1"]), "size=1"),
            ("/mounts/0/destination", "data".into(), "not an absolute path"),
        ];
        for (pointer, value, wanted) in cases {
            let error = refused(pointer, value);
            assert!(error.contains(wanted), "{pointer}: {error}");
        }
    }

    #[test]
    fn devices_are_opened_as_the_rules_say() {
        let config = check(|json| {
            json["linux"]["devices"] =
                serde_json::json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
            json["linux"]["resources"] =
                serde_json::json!({"devices": [{"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                    {"allow": true, "type": "b", "major": 7, "access": "r"}]});
        })
        .unwrap();
        assert_eq!(config.devices[0].mode, 0o666);
        let rules = &config.device_rules[DeviceRule::defaults().len()..];
        assert_eq!((rules[0].major, rules[0].minor, rules[0].write), (Some(10), Some(229), true));
        assert!(!rules[0].make);
        assert_eq!((rules[1].block, rules[1].minor, rules[1].write), (true, None, false));
    }
}
