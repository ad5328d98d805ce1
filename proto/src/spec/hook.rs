use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;

/// A command that is run in a container at a moment of its life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// As whom; `None` is the container's own user.
    #[serde(skip_serializing_if = "is_default")]
    pub user: Option<String>,
    /// Where; `None` is the container's own working directory.
    #[serde(skip_serializing_if = "is_default")]
    pub working_dir: Option<String>,
    /// Environment besides the container's own.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: BTreeMap<String, String>,
}
