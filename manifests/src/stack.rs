//! What reading stack files comes to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use swarm_proto::spec::{ContentBytes, ContentId, ContentKind, ContentSpec, StackSpec};

use crate::build::{Build, BuildGrant};

/// A stack as files say it, with what lies beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stack {
    /// What is asked for.
    pub spec: StackSpec,
    /// The bytes of its secrets and configs, except for external ones.
    pub contents: BTreeMap<ContentId, ContentBytes>,
    /// Where the bytes of each secret and config, by its key, came from.
    pub sources: BTreeMap<(ContentKind, String), ContentSource>,
    /// How images are made, by the keys of their services.
    pub builds: BTreeMap<String, Build>,
}

/// Where the bytes of a secret or config came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentSource {
    /// A file of the workstation, by its absolute path.
    File(PathBuf),
    /// A variable.
    Environment(String),
    /// The stack file itself.
    Inline(String),
}

/// What is found beside the files while they are decoded.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) bytes: BTreeMap<ContentId, ContentBytes>,
    pub(crate) sources: BTreeMap<(ContentKind, String), ContentSource>,
    /// Configs of files beside the stack file, which no key declares.
    pub(crate) configs: BTreeMap<String, ContentSpec>,
    pub(crate) builds: BTreeMap<String, Build>,
    /// Secrets of builds, as long as the file's `secrets` were not read.
    pub(crate) build_grants: Vec<BuildGrant>,
}
