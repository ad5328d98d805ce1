//! What the replicated state holds. Spec is the user's, status is the agent's, desired is the controller's.

mod cluster;
mod content;
mod health;
mod image;
mod incarnation;
mod job;
mod network;
mod node;
mod rebalance;
mod registry;
mod resource;
mod scaling;
mod service;
mod stack;
mod task;
mod update;
mod volume;

pub use cluster::{Cluster, FormerAuthority, Secret};
pub use content::NamedContent;
pub use health::{HealthState, TaskHealth};
pub use image::{HeldImage, HeldName, ImageHolder};
pub use incarnation::{Incarnation, ParseIncarnationError};
pub use job::{JobRun, JobRuns, RunState};
pub use network::{Attachment, Network, NodeAttachment};
pub use node::{Availability, Listener, Node, NodeDescription, NodeStatus, Role};
pub use rebalance::{Move, PlannedMove, Rebalance, RebalanceMode};
pub use registry::{ParseRegistryError, RegistryLogin, RegistryName};
pub use resource::{GenericResource, GenericResources, HostShare};
pub use scaling::{ScaleMetric, Scaling, ScalingReport, TargetReport, TaskUsage};
pub use service::{AllocatedPort, Service, Vip};
pub use stack::{Leaving, Stack};
pub use task::{Task, TaskState, TaskStatus};
pub use update::{Switch, UpdateState, UpdateStatus};
pub use volume::{FilledFrom, Volume, VolumeHolding};
