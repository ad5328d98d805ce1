use serde::{Deserialize, Serialize};

use super::is_default;

/// How much of a kind of resource a task asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many of those that are free; at least one.
    Count(u64),
    /// Everything that the node has of the kind, which must be something.
    All,
    /// These, by name.
    Ids(Vec<String>),
}

/// What a task asks for of a kind of resource that nodes count or name: Swarm's generic resources, and compose's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRequest {
    /// The kind, in lower case: `gpu`.
    pub kind: String,
    /// How much.
    pub amount: Amount,
    /// What the devices must be able to do; none where no devices are meant (compose `generic_resources`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub capabilities: Vec<String>,
}

impl ResourceRequest {
    /// The kind of the devices that compose knows.
    pub const GPU: &'static str = "gpu";

    /// Whether it stands below `devices`.
    pub fn is_device(&self) -> bool {
        !self.capabilities.is_empty()
    }
}
