//! What a user asks for. A spec is whole and resolved: no defaults are left to fill in, no names to look up elsewhere.

mod autoscale;
mod canary;
mod change;
mod constraint;
mod container;
mod content;
mod dependency;
mod health;
mod hook;
mod isolation;
mod job;
mod logging;
mod network;
mod node_loss;
mod placement;
mod port;
mod reservation;
mod service;
mod stack;
mod update;
mod volume;

pub use autoscale::{Autoscale, AutoscaleError, Decimal, ParseDecimalError, Scrape, ScrapeTarget};
pub use canary::{Canary, CanarySize, ParseCanarySizeError};
pub use change::{
    AutoscaleField, ChangeError, ChangedField, ParseFieldError, PolicyField, ServiceChange,
};
pub use constraint::{Comparison, Constraint, ConstraintError, ConstraintKey};
pub use container::{
    ContainerSpec, Dns, ImageSpec, Mount, MountSource, PullPolicy, Resources, Tmpfs, Ulimit,
};
pub use content::{ContentBytes, ContentId, ContentKind, ContentSpec, FileMount};
pub use dependency::{Dependency, DependencyCondition};
pub use health::{HealthCheck, HealthTest, HttpCheck};
pub use hook::Hook;
pub use isolation::{
    Device, DeviceAccess, DeviceKind, DeviceRule, IpcMode, NetworkMode, Seccomp, Security, Sharing,
};
pub use job::{Concurrency, JobSchedule, MissedRuns};
pub use logging::{LogDriver, Logging, Syslog, SyslogFormat};
pub use network::{NetworkAttachmentSpec, NetworkSpec};
pub use node_loss::{CutOffAction, NodeLossPolicy};
pub use placement::{Affinity, Domain, Placement};
pub use port::{PortMode, PortSpec, Protocol};
pub use reservation::{Amount, ResourceRequest};
pub use service::{
    EndpointMode, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec, VolumeNodeLost,
};
pub use stack::StackSpec;
pub use update::{ParseRatioError, Ratio, UpdateFailureAction, UpdateOrder, UpdatePolicy};
pub use volume::VolumeSpec;

/// An object's full name: its own where the file gives one; else its key, behind the stack's name where it is the
/// stack's.
fn full_name(name: Option<&str>, external: bool, stack: &str, key: &str) -> String {
    match name {
        Some(name) => name.to_owned(),
        None if external => key.to_owned(),
        None => format!("{stack}_{key}"),
    }
}

/// Whether a value is what it would be if nobody had said anything. Such fields are left out of texts.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
