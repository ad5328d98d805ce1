use crate::id::{Digest, NodeId, Timestamp};

/// An image that is whole on a node, as its agent tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    /// Its content: of the manifest or of the index.
    pub digest: Digest,
    /// What it is called there.
    pub names: Vec<HeldName>,
}

/// A name of an image on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldName {
    /// The whole name: `docker.io/library/web:1`.
    pub name: String,
    /// When the node's image got it.
    pub at: Timestamp,
    /// It was given on a host (loaded, built, tagged), not by a registry.
    pub local: bool,
}

/// A node that holds an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHolder {
    /// Which.
    pub node: NodeId,
    /// Its name for people.
    pub hostname: String,
    /// `host:port` of its agent.
    pub address: String,
}
