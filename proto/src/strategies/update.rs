//! Services and their updates.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::jobs::job_runs;
use super::{allocated_port, autoscale, duration, service_spec, task_id, text, time, vip};
use crate::id::{ServiceId, Timestamp};
use crate::object::{Service, Switch, UpdateState, UpdateStatus};
use crate::spec::{Ratio, UpdateFailureAction, UpdateOrder, UpdatePolicy};

fn ratio() -> BoxedStrategy<Ratio> {
    (0..=1_000_000_u32).prop_map(|millionths| Ratio::from_millionths(millionths).unwrap()).boxed()
}

fn latest_version(service: Service) -> Service {
    let latest_version = service.latest_version.max(service.spec_version);
    Service { latest_version, ..service }
}

/// A service, whose latest version is none below the one in force.
pub(crate) fn service() -> BoxedStrategy<Service> {
    any_service().prop_map(latest_version).boxed()
}

strategy! {
    fn update_policy -> UpdatePolicy {
        parallelism: any::<u32>(),
        delay: duration(),
        order: select(vec![
            UpdateOrder::StopFirst,
            UpdateOrder::StartFirst,
            UpdateOrder::BlueGreen,
        ]),
        failure_action: select(vec![
            UpdateFailureAction::Pause,
            UpdateFailureAction::Continue,
            UpdateFailureAction::Rollback,
        ]),
        monitor: duration(),
        max_failure_ratio: ratio(),
        progress_deadline: duration(),
        hold: duration(),
    }
    fn update_status -> UpdateStatus {
        number: any::<u64>(),
        state: select(vec![
            UpdateState::Updating,
            UpdateState::Held,
            UpdateState::Paused,
            UpdateState::Completed,
            UpdateState::RollbackStarted,
            UpdateState::RollbackPaused,
            UpdateState::RollbackCompleted,
        ]),
        started_at: time(),
        finished_at: option::of(time()),
        message: text(),
        slots: any::<u32>(),
        failures: any::<u32>(),
        ran_at: option::of((1..=u64::MAX).prop_map(Timestamp)),
        failed: option::of(task_id()),
        promoted: any::<bool>(),
        switch: prop_oneof![
            Just(Switch::None),
            Just(Switch::Due),
            (1..=u64::MAX).prop_map(|at| Switch::Done(Timestamp(at))),
        ],
    }
    fn any_service -> Service {
        id: any::<u64>().prop_map(ServiceId),
        stack: text(),
        key: text(),
        spec: service_spec(),
        spec_version: any::<u64>(),
        vips: vec(vip(), 0..3),
        ports: vec(allocated_port(), 0..3),
        created_at: time(),
        updated_at: time(),
        removing: any::<bool>(),
        update: option::of(update_status()),
        previous: option::of(service_spec().prop_map(Box::new)),
        previous_version: any::<u64>(),
        latest_version: any::<u64>(),
        scaling: option::of(autoscale::scaling()),
        runs: job_runs(),
    }
}
