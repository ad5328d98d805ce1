use serde::{Deserialize, Serialize};

use crate::id::Timestamp;
use crate::spec::StackSpec;

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
}
