//! How tasks' health is looked at, as Docker does: a check every so often, and so many failures in a row make a task
//! unhealthy. Until its first success a task is starting.
//!
//! [`Check`] is what a service's spec and its image say together, [`monitor`] decides purely what a check's outcome
//! means, `Watch` runs the checks of one task, and `probe` carries one out. What came of them is known to this
//! process alone: a later agent that takes a running container over begins from the state that was reported last.

mod check;
pub mod monitor;
pub(crate) mod probe;
mod watch;

pub use check::{Check, Probe};
pub(crate) use watch::{AT_ONCE, Watch};

/// Bytes of a check's output that are kept: its end.
pub const OUTPUT: usize = 4096;

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it succeeded.
    pub passed: bool,
    /// The end of what it wrote, or why it failed.
    pub output: String,
}

impl Outcome {
    pub(crate) fn passed(output: String) -> Self {
        Self { passed: true, output }
    }

    pub(crate) fn failed(output: impl Into<String>) -> Self {
        Self { passed: false, output: output.into() }
    }
}
