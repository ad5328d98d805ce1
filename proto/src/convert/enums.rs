//! Enumerations: by name, both ways.

use crate::{assignment, object, spec, wire};

macro_rules! same_names {
    ($domain:ty, $wire:ty: $($variant:ident)+) => {
        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value {
                    $(<$domain>::$variant => Self::$variant,)+
                }
            }
        }

        impl From<$wire> for Option<$domain> {
            fn from(value: $wire) -> Self {
                match value {
                    <$wire>::Unspecified => None,
                    $(<$wire>::$variant => Some(<$domain>::$variant),)+
                }
            }
        }

        impl From<$domain> for i32 {
            fn from(value: $domain) -> Self {
                <$wire>::from(value).into()
            }
        }
    };
}

same_names!(spec::ContentKind, wire::ContentKind: Secret Config);
same_names!(spec::PullPolicy, wire::PullPolicy: Missing Never);
same_names!(spec::Protocol, wire::Protocol: Tcp Udp);
same_names!(spec::PortMode, wire::PortMode: Ingress Host);
same_names!(spec::EndpointMode, wire::EndpointMode: Vip Dnsrr);
same_names!(spec::RestartCondition, wire::RestartCondition: None OnFailure Any);
same_names!(spec::UpdateOrder, wire::UpdateOrder: StopFirst StartFirst BlueGreen);
same_names!(spec::UpdateFailureAction, wire::UpdateFailureAction: Pause Continue Rollback);
same_names!(spec::VolumeNodeLost, wire::VolumeNodeLost: Wait StartEmpty);
same_names!(spec::CutOffAction, wire::CutOffAction: Keep Stop);
same_names!(spec::DependencyCondition, wire::DependencyCondition: Started Healthy Completed);
same_names!(spec::NetworkMode, wire::NetworkMode: Own Host None);
same_names!(spec::IpcMode, wire::IpcMode: Own Host None);
same_names!(spec::DeviceKind, wire::DeviceKind: Any Block Character);
same_names!(spec::LogDriver, wire::LogDriver: Local None Journald Syslog);
same_names!(spec::SyslogFormat, wire::SyslogFormat: Rfc3164 Rfc5424 Rfc5424Micro);
same_names!(object::HealthState, wire::HealthState: Starting Healthy Unhealthy);
same_names!(assignment::Withdrawal, wire::Withdrawal: UnderWay Done);
same_names!(spec::MissedRuns, wire::MissedRuns: Skip RunOnce RunAll);
same_names!(spec::Concurrency, wire::Concurrency: Allow Forbid Replace);
same_names!(object::RunState, wire::RunState: Running Complete Failed Stopped);
same_names!(object::ScaleMetric, wire::ScaleMetric: Cpu Memory Scraped Requests);
same_names!(object::Role, wire::Role: Controller Agent);
same_names!(object::Availability, wire::Availability: Active Pause Drain);
same_names!(object::RebalanceMode, wire::RebalanceMode: Off Auto);
same_names!(object::NodeStatus, wire::NodeStatus: Unknown Ready Down);
same_names!(
    object::UpdateState, wire::UpdateState:
    Updating Held Paused Completed RollbackStarted RollbackPaused RollbackCompleted
);
same_names!(
    object::TaskState, wire::TaskState:
    New Pending Assigned Accepted Preparing Ready Starting Running
    Complete Shutdown Failed Rejected Remove Orphaned
);
