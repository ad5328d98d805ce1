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
//! | 2 | the cluster version itself, the certificate authority's replacement, locked clusters, the choice of pools and VNIs, incarnations |
//! | 3 | stack files in full |
//! | 4 | services that look after themselves: updates and rollbacks, health, jobs, placement, rebalancing; objects outside of stacks |
//!
//! `versions.txt` beside the .proto files says the same of each field.

use std::fmt;

/// A cluster version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterVersion(pub u32);

impl ClusterVersion {
    /// That of release 0.1.0, which did not speak of it.
    pub const FIRST: Self = Self(1);
    /// The highest that this program knows.
    pub const NEWEST: Self = Self(4);

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

/// Every field that is replicated, with the version that brought it, as `versions.txt` says.
#[cfg(test)]
pub(crate) fn replicated_fields() -> std::collections::BTreeMap<&'static str, ClusterVersion> {
    let lines = include_str!("../versions.txt").lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let (version, field) = line.split_once(' ').unwrap();
        (field, ClusterVersion(version.parse().unwrap()))
    };
    lines.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[&str] = include!(concat!(env!("OUT_DIR"), "/replicated_fields.rs"));

    #[test]
    fn each_replicated_field_names_the_version_that_brought_it() {
        let known = replicated_fields();
        let unnamed: Vec<_> = FIELDS.iter().filter(|field| !known.contains_key(*field)).collect();
        assert!(unnamed.is_empty(), "not in versions.txt: {unnamed:?}");
        let gone: Vec<_> = known.keys().filter(|field| !FIELDS.contains(field)).collect();
        assert!(gone.is_empty(), "in versions.txt, but in no .proto file: {gone:?}");
        let versions = ClusterVersion::FIRST..=ClusterVersion::NEWEST;
        let unknown: Vec<_> = known.iter().filter(|(_, one)| !versions.contains(one)).collect();
        assert!(unknown.is_empty(), "versions that nobody knows: {unknown:?}");
    }
}
