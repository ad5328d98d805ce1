//! The host's clock in cluster terms.

use std::time::{SystemTime, UNIX_EPOCH};

use swarm_proto::id::Timestamp;

/// Milliseconds since the epoch.
pub(crate) fn now() -> Timestamp {
    of(SystemTime::now())
}

/// A file's time, in the same way.
pub(crate) fn of(time: SystemTime) -> Timestamp {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
