use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A named local volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The full name where the file gives one (`name:`); else `<stack>_<key>`.
    pub name: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}
