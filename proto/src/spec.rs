//! What a user asks for. A spec is whole and resolved: no defaults are left to fill in, no names to look up elsewhere.

mod container;
mod network;
mod port;
mod service;
mod stack;
mod volume;

pub use container::{ContainerSpec, ImageSpec, Mount, MountSource, PullPolicy, Resources, Ulimit};
pub use network::{NetworkAttachmentSpec, NetworkSpec};
pub use port::{PortMode, PortSpec, Protocol};
pub use service::{
    Constraint, ConstraintKey, EndpointMode, Placement, RestartCondition, RestartPolicy,
    ServiceMode, ServiceSpec, UpdateOrder, UpdatePolicy, VolumeNodeLost,
};
pub use stack::StackSpec;
pub use volume::VolumeSpec;
