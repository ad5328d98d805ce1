//! This host as a member of a cluster: what it must have, its programs and its units.

pub(crate) mod configuration;
pub(crate) mod places;
pub mod preflight;
pub(crate) mod program;
pub(crate) mod unit;
