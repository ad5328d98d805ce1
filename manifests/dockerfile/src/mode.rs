//! Permissions for `--chmod`: octal, or symbolic as those of `chmod(1)`.

use serde::Serialize;

/// Permissions, or changes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mode {
    text: String,
}
