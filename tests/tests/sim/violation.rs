//! How a run ends that found something wrong.

use std::any::Any;
use std::fmt::Display;

/// An invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// What should have held.
    pub(crate) invariant: &'static str,
    /// What was found instead.
    pub(crate) detail: String,
}

impl Violation {
    /// What a panic carried: a violation, or something that panicked by itself.
    pub(crate) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        if let Some(violation) = payload.downcast_ref::<Self>() {
            return violation.clone();
        }
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Self { invariant: "nothing panics", detail: text.unwrap_or_default() }
    }
}

/// Ends the run: the invariant does not hold.
pub(crate) fn violated(invariant: &'static str, detail: impl Display) -> ! {
    std::panic::panic_any(Violation { invariant, detail: detail.to_string() })
}

/// Ends the run unless the invariant holds.
pub(crate) fn demand<D: Display>(holds: bool, invariant: &'static str, detail: impl FnOnce() -> D) {
    if !holds {
        violated(invariant, detail());
    }
}
