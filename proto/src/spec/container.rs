use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ContentId, Device, DeviceRule, FileMount, HealthCheck, Hook, Logging, ResourceRequest,
    Security, Sharing, is_default,
};
use crate::id::Digest;
use crate::object::HostShare;
use crate::version::ClusterVersion;

/// When an agent asks the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the content is not already on the host.
    #[default]
    Missing,
    /// Never: the content must already be on the host.
    Never,
}

/// An image by name, and by content once a deploy has resolved the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The full name: `docker.io/library/redis:alpine`.
    pub reference: String,
    /// The manifest (or index) that the name stood for when the stack was deployed. Every node runs this one.
    pub digest: Option<Digest>,
    /// When to ask the registry.
    pub pull_policy: PullPolicy,
}

impl ImageSpec {
    /// An image by its name alone.
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), digest: None, pull_policy: PullPolicy::default() }
    }
}

/// Where a mount's content lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A folder or file of the host, which must exist.
    Bind {
        /// Absolute path on the host.
        path: String,
    },
    /// A named volume of the stack, by its key in the file.
    Volume {
        /// The key under `volumes:`.
        volume: String,
        /// Do not fill an empty volume from the image.
        no_copy: bool,
        /// The full name of the volume where it is external, as the controllers fill it in.
        #[serde(default, skip_serializing_if = "is_default")]
        external: Option<String>,
    },
    /// A volume without a name, which lives and dies with the task.
    Anonymous,
    /// Memory.
    Tmpfs(Tmpfs),
}

/// A file system in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tmpfs {
    /// Size in bytes; `None` is half of the host's memory.
    pub size: Option<u64>,
    /// Permissions of its root, such as 0o1777; `None` is that.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Option<u32>,
    /// Owner of its root; `None` is root.
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Option<u32>,
    /// Group of its root; `None` is root's.
    #[serde(skip_serializing_if = "is_default")]
    pub gid: Option<u32>,
    /// Programs in it may be run; `None` is yes.
    #[serde(skip_serializing_if = "is_default")]
    pub executable: Option<bool>,
    /// Set-user-id bits in it count.
    #[serde(skip_serializing_if = "is_default")]
    pub set_user_id: bool,
    /// Device nodes in it work.
    #[serde(skip_serializing_if = "is_default")]
    pub devices: bool,
}

impl Tmpfs {
    /// Whether it says more than its size.
    fn is_later(self) -> bool {
        self != Self { size: self.size, ..Self::default() }
    }
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Writes are refused.
    pub read_only: bool,
}

/// A process limit (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower-case name without `RLIMIT_`: `nofile`.
    pub name: String,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// Limits and reservations of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// At most this many thousandths of a CPU.
    pub limit_millicpus: Option<u64>,
    /// At most this many bytes of memory.
    pub limit_memory: Option<u64>,
    /// At most this many processes and threads.
    pub limit_pids: Option<u64>,
    /// Thousandths of a CPU that the scheduler sets aside.
    pub reserve_millicpus: u64,
    /// Bytes of memory that the scheduler sets aside.
    pub reserve_memory: u64,
    /// At most this many bytes of swap besides the memory; counts only with `limit_memory`. `None` is no swap,
    /// `u64::MAX` as much as there is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit_swap: Option<u64>,
    /// Bytes of memory that are taken from the container last when the host is short of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub soft_memory: Option<u64>,
    /// Weight against others when CPUs are busy; 1024 is usual, 2 to 262 144.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU in each period, in place of `limit_millicpus`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_quota: Option<u64>,
    /// The period's microseconds; `None` is 100 000.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_period: Option<u64>,
    /// The CPUs that may be used: `0-2,4`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpuset: Option<String>,
    /// How readily memory is swapped out, 0 to 100. Only control groups v1 have it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub swappiness: Option<u8>,
    /// The kernel stops the container's processes rather than kill one when its memory is used up. Only control groups
    /// v1 have it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub oom_kill_disable: bool,
    /// Processes and threads that the scheduler sets aside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reserve_pids: u64,
    /// What else it sets aside, each kind once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requests: Vec<ResourceRequest>,
}

impl Resources {
    /// What the scheduler sets aside of what every host has.
    pub fn reserved(&self) -> HostShare {
        HostShare {
            millicpus: self.reserve_millicpus,
            memory: self.reserve_memory,
            pids: self.reserve_pids,
        }
    }

    /// What a task's use of CPUs is measured by, in thousandths of one: its reservation, or else its limit.
    pub fn cpu_share(&self) -> Option<u64> {
        let reserved = Some(self.reserve_millicpus).filter(|reserved| *reserved > 0);
        reserved.or(self.limit_millicpus).filter(|share| *share > 0)
    }

    /// The same of memory, in bytes.
    pub fn memory_share(&self) -> Option<u64> {
        let reserved = Some(self.reserve_memory).filter(|reserved| *reserved > 0);
        reserved.or(self.limit_memory).filter(|share| *share > 0)
    }

    /// Whether the scheduler sets nothing aside.
    pub fn reserves_nothing(&self) -> bool {
        self.reserved() == HostShare::default() && self.requests.is_empty()
    }

    /// The cluster version that brought what it makes use of.
    fn needs(&self) -> ClusterVersion {
        if self.reserve_pids > 0 || !self.requests.is_empty() {
            ClusterVersion(4)
        } else if self.is_later() {
            ClusterVersion(3)
        } else {
            ClusterVersion::FIRST
        }
    }

    /// Whether anything is said that cluster version 3 brought.
    fn is_later(&self) -> bool {
        let first = Self {
            limit_millicpus: self.limit_millicpus,
            limit_memory: self.limit_memory,
            limit_pids: self.limit_pids,
            reserve_millicpus: self.reserve_millicpus,
            reserve_memory: self.reserve_memory,
            ..Self::default()
        };
        *self != first
    }
}

/// Where a container looks up names of the outside (`/etc/resolv.conf`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Resolvers, in order; none are the host's.
    pub servers: Vec<IpAddr>,
    /// Domains in which names are looked up; none are the host's, `.` alone is without any.
    pub search: Vec<String>,
    /// Options of the C library's resolver, such as `timeout:3`.
    pub options: Vec<String>,
}

/// How to run one container of a service.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own in the stack file")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// What to run.
    pub image: ImageSpec,
    /// Replaces the image's entry point (compose `entrypoint`).
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command (compose `command`).
    pub command: Option<Vec<String>>,
    /// Environment on top of the image's; `None` removes a variable.
    pub environment: BTreeMap<String, Option<String>>,
    /// `user`, `uid`, `user:group` or `uid:gid`; `None` is the image's.
    pub user: Option<String>,
    /// Working directory; `None` is the image's.
    pub working_dir: Option<String>,
    /// Host name; `None` is a short form of the task id.
    pub hostname: Option<String>,
    /// The container's labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted, in the order of the file.
    pub mounts: Vec<Mount>,
    /// Further `/etc/hosts` lines, name to address.
    pub extra_hosts: BTreeMap<String, Ipv4Addr>,
    /// Capabilities beyond the default set, upper case without `CAP_`; `ALL` is every one.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set; `ALL` is every one.
    pub cap_drop: Vec<String>,
    /// All privileges: every capability, no seccomp filter, devices of the host.
    pub privileged: bool,
    /// Root file system without writes.
    pub read_only: bool,
    /// A small init as process 1, which reaps and forwards signals.
    pub init: bool,
    /// A terminal as standard streams.
    pub tty: bool,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Process limits.
    pub ulimits: Vec<Ulimit>,
    /// Sent first to stop (`SIGTERM`, `15`); `None` is the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// How long after the stop signal the kill comes.
    pub stop_grace_period: Duration,
    /// Limits and reservations.
    pub resources: Resources,
    /// NIS domain, and the domain of its own name in `/etc/hosts`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub domainname: Option<String>,
    /// Standard input stays open although nobody writes to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin_open: bool,
    /// Bytes of `/dev/shm`; `None` is 64 MiB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shm_size: Option<u64>,
    /// Further groups of the user, by name in the image or by number (compose `group_add`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub groups: Vec<String>,
    /// How soon the kernel takes its processes when memory is short, -1000 (never) to 1000.
    #[serde(default, skip_serializing_if = "is_default")]
    pub oom_score_adj: Option<i32>,
    /// Resolvers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: Dns,
    /// As `extra_hosts`, with addresses of IPv6.
    #[serde(default, skip_serializing_if = "is_default")]
    pub extra_hosts_v6: BTreeMap<String, Ipv6Addr>,
    /// The namespaces that it shares with its host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sharing: Sharing,
    /// What its programs may not do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Devices of the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Vec<Device>,
    /// Devices that it may use besides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub device_rules: Vec<DeviceRule>,
    /// Annotations of the OCI configuration.
    #[serde(default, skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Where its output goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub logging: Logging,
    /// Secrets and configs that it is given as files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub files: Vec<FileMount>,
    /// How its health is looked at; `None` is as the image says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Option<HealthCheck>,
    /// What is run in it before the stop signal, within the grace period.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pre_stop: Vec<Hook>,
}

impl ContainerSpec {
    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        if self.health.is_some() || !self.pre_stop.is_empty() {
            return ClusterVersion(4);
        }
        let tmpfs =
            |mount: &Mount| matches!(mount.source, MountSource::Tmpfs(one) if one.is_later());
        let first = Self {
            domainname: None,
            stdin_open: false,
            shm_size: None,
            groups: Vec::new(),
            oom_score_adj: None,
            dns: Dns::default(),
            extra_hosts_v6: BTreeMap::new(),
            sharing: Sharing::default(),
            security: Security::default(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            annotations: BTreeMap::new(),
            logging: Logging::default(),
            files: Vec::new(),
            ..self.clone()
        };
        let external =
            |mount: &Mount| matches!(&mount.source, MountSource::Volume { external: Some(_), .. });
        if self.mounts.iter().any(external) {
            return ClusterVersion(4);
        }
        let later = *self != first || self.mounts.iter().any(tmpfs);
        let own = if later { ClusterVersion(3) } else { ClusterVersion::FIRST };
        own.max(self.resources.needs())
    }

    /// What its files are made of, as far as that is known.
    pub fn contents(&self) -> impl Iterator<Item = ContentId> + '_ {
        self.files.iter().filter_map(FileMount::content)
    }

    /// How long a container may take to stop when nothing else is said, as Docker Swarm has it.
    pub const STOP_GRACE_PERIOD: Duration = Duration::from_secs(10);

    /// A container of this image, with nothing else said.
    pub fn new(image: ImageSpec) -> Self {
        Self {
            image,
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            user: None,
            working_dir: None,
            hostname: None,
            labels: BTreeMap::new(),
            mounts: Vec::new(),
            extra_hosts: BTreeMap::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            read_only: false,
            init: false,
            tty: false,
            sysctls: BTreeMap::new(),
            ulimits: Vec::new(),
            stop_signal: None,
            stop_grace_period: Self::STOP_GRACE_PERIOD,
            resources: Resources::default(),
            domainname: None,
            stdin_open: false,
            shm_size: None,
            groups: Vec::new(),
            oom_score_adj: None,
            dns: Dns::default(),
            extra_hosts_v6: BTreeMap::new(),
            sharing: Sharing::default(),
            security: Security::default(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            annotations: BTreeMap::new(),
            logging: Logging::default(),
            files: Vec::new(),
            health: None,
            pre_stop: Vec::new(),
        }
    }
}
