//! What the rules read instead of scanning.

/// Derived from the objects alone.
#[derive(Debug, Clone, Default)]
pub struct Index {}
