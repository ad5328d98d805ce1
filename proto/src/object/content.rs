use std::collections::BTreeMap;

use crate::id::{Digest, Timestamp};
use crate::spec::{ContentId, ContentKind};

/// A secret or config that belongs to no stack: stacks call it `external`. Its bytes are kept by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContent {
    /// Which of the two.
    pub kind: ContentKind,
    /// Its name, one among those of its kind.
    pub name: String,
    /// What is in it.
    pub digest: Digest,
    /// How many bytes that are.
    pub size: u64,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl NamedContent {
    /// The identity of what is in it.
    pub fn content(&self) -> ContentId {
        ContentId { kind: self.kind, digest: self.digest.clone() }
    }
}
