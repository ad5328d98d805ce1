//! What this agent may give to a container.

use rustix::thread::capabilities;

/// The bit of the privilege to raise limits.
pub(super) const SYS_RESOURCE: u64 = 1 << 24;

/// The agent's own permitted capabilities, a bit for each.
pub(super) fn available() -> u64 {
    capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or_default()
}
