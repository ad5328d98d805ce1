//! The cluster version: what all controllers of a cluster can be relied on to understand.
//!
//! Every controller knows all versions up to one. The leader raises the version in force, in the state, once each
//! controller knows the next; it never falls. Whatever a controller of an older version would not understand, or would
//! apply otherwise, waits for the version that brought it. So controllers of two releases work together, and no
//! controller ever applies an entry by halves.
//!
//! | version | brought |
//! | --- | --- |
//! | 1 | everything of release 0.1.0 |
//! | 2 | the cluster version itself, the certificate authority's replacement, locked clusters |

use std::fmt;

/// A cluster version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterVersion(pub u32);

impl ClusterVersion {
    /// That of release 0.1.0, which did not speak of it.
    pub const FIRST: Self = Self(1);
    /// The highest that this program knows.
    pub const NEWEST: Self = Self(2);

    /// Reads a message's field, which is 0 where nobody wrote it.
    pub fn from_wire(field: u32) -> Self {
        Self(field.max(Self::FIRST.0))
    }

    /// A message's field; the first version is not written, as release 0.1.0 did not.
    pub fn to_wire(self) -> u32 {
        if self == Self::FIRST { 0 } else { self.0 }
    }
}

impl Default for ClusterVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
