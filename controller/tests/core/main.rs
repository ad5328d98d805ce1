//! Tests of the controller's core: scripts that drive one core and show what it does, and properties of the rules.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod autoscale;
mod bounds;
mod contents;
mod contract;
mod elections;
mod external;
mod history;
mod laws;
mod networks;
mod preemption;
mod rebalance;
mod registry;
mod released;
mod reservations;
mod script;
mod spec;
mod updates;
mod versions;

/// What a write takes where it does not matter, in microseconds.
const SYNC: u64 = 400;
