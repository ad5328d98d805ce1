use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, NodeId, Timestamp, VolumeId};
use crate::spec::VolumeSpec;

/// The image content that first filled a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledFrom {
    /// The image's name.
    pub reference: String,
    /// The image's content.
    pub digest: Digest,
}

/// A node's copy of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeHolding {
    /// When the node made it.
    pub created_at: Timestamp,
    /// What filled it; `None` when it started empty.
    pub filled_from: Option<FilledFrom>,
    /// A removal that the node has not confirmed yet.
    pub removing: bool,
}

/// A named volume and the nodes that hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its identity.
    pub id: VolumeId,
    /// The stack that declared it.
    pub stack: String,
    /// Its key in the stack file.
    pub key: String,
    /// Its full name.
    pub name: String,
    /// What was asked for.
    pub spec: VolumeSpec,
    /// The nodes that hold a copy.
    pub holdings: BTreeMap<NodeId, VolumeHolding>,
    /// Asked to be removed: gone once every holder confirmed.
    pub removing: bool,
}
