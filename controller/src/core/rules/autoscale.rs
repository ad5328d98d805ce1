//! Scales services by what agents measure of their tasks, as Kubernetes' `HorizontalPodAutoscaler` does: for each target as
//! many tasks as would each have it, the most of them counts, and a tenth more or less is as it should be. There are
//! more at once, and fewer only once fewer were wanted for long enough; what was not measured makes none fewer. None is
//! left only where no connection came or was open, and the first one that waits makes the first task.
//!
//! When a service was scaled last is in the state. What was measured, and what that called for lately, only the leader
//! knows: a new one measures anew before it takes any away.

mod decide;
mod load;
mod usage;

use std::time::Duration;

use swarm_proto::entry::{Counter, ObjectId};
use swarm_proto::id::{ServiceId, Timestamp};
use swarm_proto::object::{ScalingReport, Service};
use swarm_proto::spec::Autoscale;

use super::command::Decision;
use super::{Observed, Plan, service};
use crate::core::command::CommandDone;
use crate::core::state::{State, Stored};
pub use decide::{Held, Sight, Verdict, decide};
use load::Load;
pub use load::{Target, wanted};
pub use usage::{Recent, Usage};

/// Between two looks, as agents measure about so often.
const LOOK: Duration = Duration::from_secs(5);
/// Why a service has a task again.
const DEMAND: &str = "a connection waits";

/// See the module.
pub fn plan(state: &State, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for (service, autoscale) in scaled(state) {
        let load = Load::of(state, service, autoscale, &observed.usage, now);
        let verdict = judge(service, autoscale, &load, &observed.usage, now);
        plan.wake(now.after(LOOK));
        if let Some(until) = verdict.held.and_then(Held::until) {
            plan.wake(until);
        }
        let Some(replicas) = verdict.replicas else { continue };
        let id = ObjectId::Service(service.id);
        let read = [(id.clone(), Counter::Spec), (id, Counter::Desired)];
        let reason =
            if service.spec.replicas() == Some(0) { DEMAND.to_owned() } else { load.words() };
        plan.add(state, &read, vec![service::scaled(service, replicas, &reason, now)]);
    }
    plan
}

/// The services that are scaled, each with how.
fn scaled(state: &State) -> impl Iterator<Item = (&Stored<Service>, &Autoscale)> {
    let services = state.index.autoscaled.iter().filter_map(|id| state.services.get(id));
    let stay = services.filter(|service| !service.removing);
    stay.filter_map(|service| Some((service, service.spec.autoscale.as_ref()?)))
}

fn judge(
    service: &Service,
    autoscale: &Autoscale,
    load: &Load,
    usage: &Usage,
    now: Timestamp,
) -> Verdict {
    let replicas = service.spec.replicas().unwrap_or(autoscale.min);
    decide(
        autoscale,
        &Sight {
            now,
            replicas,
            wanted: load.wanted(replicas, autoscale),
            unmeasured: load.unmeasured(),
            recent: usage.recent(service.id),
            scaled_at: service.scaling.as_ref().map(|scaling| scaling.at),
            is_updating: service.update.as_ref().is_some_and(|one| one.state.is_under_way()),
            is_demanded: usage.is_demanded(service.id, now),
        },
    )
}

/// Remembers how many tasks each service should have by what is measured now, for as long as its stabilisation asks.
pub(in crate::core) fn remember(state: &State, usage: &mut Usage, now: Timestamp) {
    if !usage.is_due(now) {
        return;
    }
    let wanted: Vec<(ServiceId, Duration, u32)> = scaled(state)
        .map(|(service, autoscale)| {
            let replicas = service.spec.replicas().unwrap_or(autoscale.min);
            let load = Load::of(state, service, autoscale, usage, now);
            let wanted = load.wanted(replicas, autoscale).unwrap_or(replicas);
            (service.id, autoscale.stabilisation, wanted)
        })
        .collect();
    usage.note(&wanted, now);
}

/// How all services are that are scaled.
pub(super) fn list(state: &State, observed: &Observed, now: Timestamp) -> Decision {
    let report = |(service, autoscale): (&Stored<Service>, &Autoscale)| {
        let load = Load::of(state, service, autoscale, &observed.usage, now);
        let verdict = judge(service, autoscale, &load, &observed.usage, now);
        let replicas = service.spec.replicas().unwrap_or_default();
        ScalingReport {
            service: service.name(),
            replicas,
            min: autoscale.min,
            max: autoscale.max,
            targets: load.reports(),
            counted: load.counted(),
            wanted: load.wanted(replicas, autoscale),
            held: verdict.held.map(|held| held.words(now)),
        }
    };
    let mut decision = Decision::new(Vec::new(), Vec::new());
    decision.done = CommandDone::Scaling(scaled(state).map(report).collect());
    decision
}
