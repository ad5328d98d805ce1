//! Services whose number of tasks follows what is measured: at random, and what must hold of them.
//!
//! What is drawn here follows from names and times alone, so that it changes no other draw.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_controller::core::State;
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{ServiceId, TaskId, Timestamp};
use swarm_proto::object::{Service, TaskUsage};
use swarm_proto::spec::Autoscale;
use swarm_tests::random::Random;

use crate::violation::demand;

/// Between two measurements.
const EVERY: u64 = 5_000;
/// What a task uses that has just what it should, in thousandths of a CPU: a part of its reservation.
const TARGET: u64 = 30;
const TARGET_PERCENT: u32 = 60;

fn draws(name: &str, number: u64) -> Random {
    let mixed = name.bytes().fold(number, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    Random::new(mixed ^ 0xa5ca)
}

/// How the n-th form of a stack scales its service, which begins with so many tasks; half do not.
pub(crate) fn of(stack: &str, number: u64, replicas: u32) -> Option<Autoscale> {
    let mut random = draws(stack, number);
    let less = u32::try_from(random.between(0, 6)).unwrap_or(0);
    let more = u32::try_from(random.between(0, 6)).unwrap_or(0);
    let autoscale = Autoscale {
        min: replicas.saturating_sub(less).max(1),
        max: replicas + more,
        cpu: Some(TARGET_PERCENT),
        memory: None,
        scrape: None,
        stabilisation: Duration::from_secs(random.between(0, 15)),
        cool_down: Duration::from_secs(random.between(0, 15)),
    };
    random.chance(50).then_some(autoscale)
}

/// What an agent measures at this time of tasks that run; nothing at most times. Once nothing goes wrong any more, each
/// has what it should.
pub(crate) fn measured<'a>(
    running: impl Iterator<Item = &'a TaskAssignment>,
    now: u64,
    faulty: bool,
) -> Vec<(TaskId, TaskUsage)> {
    if now % EVERY >= 100 {
        return Vec::new();
    }
    let usage = |task: &TaskAssignment| {
        let mut random = draws(&task.id.to_string(), now / EVERY);
        let millicpus = if faulty { random.between(0, 3 * TARGET) } else { TARGET };
        let is_known = !faulty || random.chance(90);
        (task.id, TaskUsage { millicpus: is_known.then_some(millicpus), ..TaskUsage::default() })
    };
    running.filter(|task| task.measure.is_some()).map(usage).collect()
}

/// When each service was scaled last.
#[derive(Default)]
pub(crate) struct Scalings(BTreeMap<ServiceId, Timestamp>);

impl Scalings {
    /// A service changed. What was measured changes its number of tasks no sooner than its cool-down allows.
    pub(crate) fn see(&mut self, service: &Service) {
        let Some((scaling, autoscale)) =
            service.scaling.as_ref().zip(service.spec.autoscale.as_ref())
        else {
            // It is not scaled any more: what it was before does not count when it is again.
            self.0.remove(&service.id);
            return;
        };
        let before = self.0.get(&service.id).copied().unwrap_or_default();
        if scaling.at <= before {
            return;
        }
        self.0.insert(service.id, scaling.at);
        let is_measured = scaling.reason.starts_with("cpu");
        demand(
            !is_measured || before.after(autoscale.cool_down) <= scaling.at,
            "no service is scaled again before it has cooled down",
            || format!("{} at {before:?}, then {scaling:?}", service.name()),
        );
    }
}

/// Every service that is scaled has a number of tasks within its bounds.
pub(crate) fn within_bounds(state: &State) {
    for service in state.index.autoscaled.iter().filter_map(|id| state.services.get(id)) {
        let bound = service.spec.autoscale.as_ref().zip(service.spec.replicas());
        let fits = bound.is_some_and(|(autoscale, has)| autoscale.bound(has) == has);
        demand(fits, "a scaled service stays within its bounds", || {
            format!("{}: {:?} {:?}", service.name(), service.spec.mode, service.spec.autoscale)
        });
    }
}
