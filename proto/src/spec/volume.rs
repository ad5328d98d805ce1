use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{full_name, is_default};

/// A named local volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The full name where the file gives one (`name:`); else `<stack>_<key>`.
    pub name: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// It is not the stack's own: it was made before, under its full name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub external: bool,
}

impl VolumeSpec {
    /// The full name of the volume with this key of a stack. An external one's name is not the stack's.
    pub fn full_name(&self, stack: &str, key: &str) -> String {
        full_name(self.name.as_deref(), self.external, stack, key)
    }
}
