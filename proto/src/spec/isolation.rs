//! How far a container is apart from its host, and which of the host's devices it has.

use serde::{Deserialize, Serialize};

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A namespace of its own, on the service's networks.
    #[default]
    Own,
    /// That of the host (compose `network_mode: host`).
    Host,
    /// A namespace of its own with nothing but the loopback (compose `network_mode: none`).
    None,
}

/// Which shared memory, semaphores and message queues a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpcMode {
    /// Its own.
    #[default]
    Own,
    /// Those of the host (compose `ipc: host`), with the host's `/dev/shm`.
    Host,
    /// Its own, without `/dev/shm` (compose `ipc: none`).
    None,
}

/// The namespaces that a container shares with its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// Its network.
    pub network: NetworkMode,
    /// Its shared memory.
    pub ipc: IpcMode,
    /// It sees the host's processes (compose `pid: host`).
    pub pid: bool,
    /// It has the host's name (compose `uts: host`).
    pub uts: bool,
    /// It sees the host's control groups (compose `cgroup: host`).
    pub cgroup: bool,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// What the runtime's own profile allows; everything for a privileged container.
    #[default]
    Default,
    /// Everything.
    Unconfined,
    /// What a profile allows: the text of Docker's JSON form or of OCI's.
    Profile(String),
}

/// What `security_opt` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Whether set-user-id programs gain nothing; `None` is yes, except for a privileged container.
    pub no_new_privileges: Option<bool>,
    /// The system calls.
    pub seccomp: Seccomp,
    /// Nothing of `/proc` and `/sys` is hidden or read-only (`systempaths=unconfined`).
    pub unmasked: bool,
}

/// What a program may do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a node for it.
    pub make: bool,
}

impl DeviceAccess {
    /// `rwm`
    pub const ALL: Self = Self { read: true, write: true, make: true };
}

/// A device of the host that a container has too, or a folder of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path on the host, which must exist.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// What it may be used for.
    pub access: DeviceAccess,
}

/// The kind of device that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Any.
    #[default]
    Any,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// Devices that a container may use although it has no node for them (compose `device_cgroup_rules`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// The kind.
    pub kind: DeviceKind,
    /// The major number; `None` is any.
    pub major: Option<u32>,
    /// The minor number; `None` is any.
    pub minor: Option<u32>,
    /// What they may be used for.
    pub access: DeviceAccess,
}
