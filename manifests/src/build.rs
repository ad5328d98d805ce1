//! How the images of services are made.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use swarm_proto::spec::{ContentBytes, NetworkMode, Ulimit};

use crate::stack::ContentSource;

/// How a service's image is made, before the service is deployed: `build` of a stack file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The folder that instructions copy from, by its absolute path.
    pub context: PathBuf,
    /// What is carried out.
    pub recipe: Recipe,
    /// Values of the Dockerfile's `ARG`s.
    pub args: BTreeMap<String, String>,
    /// The stage that becomes the image; the last one where there is none.
    pub target: Option<String>,
    /// What `RUN --mount=type=secret` may read.
    pub secrets: Vec<BuildSecret>,
    /// Whether each deploy builds, also what a host has: `pull_policy: build`.
    pub always: bool,
    /// More names of the image.
    pub tags: Vec<String>,
    /// Whether every instruction is carried out anew.
    pub no_cache: bool,
    /// Whether the registry is asked what the names of base images stand for, also where a host has such images.
    pub pull: bool,
    /// Labels of the image, in place of those of the Dockerfile with the same name.
    pub labels: BTreeMap<String, String>,
    /// What every `RUN` has.
    pub steps: BuildSteps,
}

/// What every `RUN` of a build has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSteps {
    /// Lines of `/etc/hosts`, by name.
    pub extra_hosts: BTreeMap<String, Ipv4Addr>,
    /// As `extra_hosts`, with addresses of IPv6.
    pub extra_hosts_v6: BTreeMap<String, Ipv6Addr>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// The network of an instruction that does not say it.
    pub network: NetworkMode,
}

/// Where the instructions of a build stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// A Dockerfile, by its absolute path.
    File(PathBuf),
    /// The stack file itself.
    Inline(String),
}

/// A secret that instructions of a build may read. It is no part of the stack, and its bytes stay in no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSecret {
    /// The name by which instructions ask for it.
    pub id: String,
    /// Its key below the file's `secrets`.
    pub key: String,
    /// Where its bytes came from.
    pub source: ContentSource,
    /// What is in it.
    pub bytes: ContentBytes,
}

/// A secret of a build whose declaration was not read yet.
#[derive(Debug)]
pub(crate) struct BuildGrant {
    pub(crate) service: String,
    pub(crate) id: String,
    pub(crate) key: String,
}
