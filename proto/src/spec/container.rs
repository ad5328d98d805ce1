use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

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
    },
    /// A volume without a name, which lives and dies with the task.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// Size in bytes; `None` is half of the host's memory.
        size: Option<u64>,
    },
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
}

impl ContainerSpec {
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
        }
    }
}
