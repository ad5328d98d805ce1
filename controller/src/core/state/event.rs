//! What watchers are told of.

use std::sync::Arc;

use swarm_proto::entry::ObjectId;
use swarm_proto::object::{NamedContent, Network, Node, Service, Stack, Task, Volume};

/// A change of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stack was added or changed.
    Stack(Arc<Stack>),
    /// A service was added or changed.
    Service(Arc<Service>),
    /// A task was added or changed.
    Task(Arc<Task>),
    /// A node was added or changed.
    Node(Arc<Node>),
    /// A network was added or changed.
    Network(Arc<Network>),
    /// A volume was added or changed.
    Volume(Arc<Volume>),
    /// A named secret or config was added.
    NamedContent(Arc<NamedContent>),
    /// Something is gone.
    Removed {
        /// What.
        object: ObjectId,
        /// Its name for a person.
        name: String,
        /// The stack it belonged to; empty for what belongs to none.
        stack: String,
    },
    /// The whole state was replaced by a leader's snapshot: watchers start afresh.
    Replaced,
}
