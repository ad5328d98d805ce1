//! Runs containers on one Linux host: namespaces, control groups, root file systems, seccomp, and the
//! shim that stays beside each container.
//!
//! A caller (the agent) seals the `swarm-runtime` program once ([`ShimProgram`]), writes an OCI
//! `config.json` into a folder, and calls [`Container::create`]. Everything that must outlive the
//! caller lives in the shim process: standard streams, the log, the exit record and descriptors passed
//! along. The caller may come back at any time with [`Container::open`].
//!
//! The module knows containers, not swarms. [`kernel`] holds the network side: netlink, network
//! namespaces and nftables.

pub mod cgroup;
pub mod container;
pub mod exec;
mod init;
pub mod kernel;
pub mod message;
pub mod program;
pub mod record;
pub mod rootfs;
pub mod seccomp;
pub mod shim;
pub mod spec;
mod sys;

pub use cgroup::{CgroupSpec, Limits};
pub use container::{Container, ContainerError, CreateOptions};
pub use exec::{Exec, ExecEnd, ExecError, ExecOptions, ExecStreams, TerminalSize};
pub use message::{Fence, LogLimits, LogOptions, LogSink, RootfsSpec, SeccompChoice, SyslogFormat};
/// The types of `config.json`.
pub use oci_spec::runtime as oci;
pub use program::{ProgramError, ShimProgram};
pub use record::{ContainerStatus, ExitRecord};
