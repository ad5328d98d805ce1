use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::spec::StackSpec;
use crate::version::ClusterVersion;

/// A deployed stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// What was deployed last, with resolved images.
    pub spec: StackSpec,
    /// Counts the deploys that changed something, from 1.
    pub revision: u64,
    /// When the revision was deployed.
    pub deployed_at: Timestamp,
    /// Asked to be removed: its services go first, then its networks, then itself. Volumes stay.
    pub removing: bool,
    /// What a deploy with `--prune` left out, and that goes once the services of the spec run.
    #[serde(default, skip_serializing_if = "Leaving::is_empty")]
    pub leaving: Leaving,
}

impl Stack {
    /// A first revision.
    pub fn new(spec: StackSpec, deployed_at: Timestamp) -> Self {
        Self { spec, revision: 1, deployed_at, removing: false, leaving: Leaving::default() }
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let own = if self.leaving.is_empty() { ClusterVersion::FIRST } else { ClusterVersion(4) };
        own.max(self.spec.needs())
    }
}

/// What goes of a stack, though not yet, by keys of earlier files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leaving {
    /// Services.
    pub services: BTreeSet<String>,
    /// Networks; they go after the services.
    pub networks: BTreeSet<String>,
}

impl Leaving {
    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.networks.is_empty()
    }
}
