//! Services whose number of tasks follows what is measured: at random, and what must hold of them.
//!
//! What is drawn here follows from names and times alone, so that it changes no other draw.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_controller::core::State;
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{ServiceId, TaskId, Timestamp};
use swarm_proto::object::{Service, TaskUsage};
use swarm_proto::spec::{Autoscale, Decimal};
use swarm_tests::random::Random;

use crate::violation::demand;

/// Between two measurements.
const EVERY: u64 = 5_000;
/// What a task uses that has just what it should, in thousandths of a CPU: a part of its reservation.
const TARGET: u64 = 30;
const TARGET_PERCENT: u32 = 60;
/// The same of new connections, in thousandths a second.
const REQUESTS: u64 = 5_000;

fn draws(name: &str, number: u64) -> Random {
    let mixed = name.bytes().fold(number, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    Random::new(mixed ^ 0xa5ca)
}

/// How the n-th form of a stack scales its service, which begins with so many tasks; half do not.
pub(crate) fn of(stack: &str, number: u64, replicas: u32) -> Option<Autoscale> {
    let mut random = draws(stack, number);
    let less = u32::try_from(random.between(0, 6)).unwrap_or(0);
    let more = u32::try_from(random.between(0, 6)).unwrap_or(0);
    let mut autoscale = Autoscale {
        min: replicas.saturating_sub(less).max(1),
        max: replicas + more,
        cpu: Some(TARGET_PERCENT),
        memory: None,
        scrape: None,
        requests: None,
        stabilisation: Duration::from_secs(random.between(0, 15)),
        cool_down: Duration::from_secs(random.between(0, 15)),
    };
    let is_scaled = random.chance(50);
    if random.chance(40) {
        (autoscale.min, autoscale.requests) = (0, Some(Decimal(REQUESTS)));
    }
    is_scaled.then_some(autoscale)
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
        let mut usage =
            TaskUsage { millicpus: is_known.then_some(millicpus), ..TaskUsage::default() };
        if task.measure.as_ref().is_some_and(|measure| measure.requests) {
            // Of one service all tasks are idle at the same times, or none would ever go.
            let mut of_service = draws(&task.service, now / (4 * EVERY));
            let is_idle = faulty && of_service.chance(60);
            let requests = if is_idle { 0 } else { REQUESTS };
            usage.requests = is_known.then_some(Decimal(requests));
            usage.connections = (is_idle && is_known).then_some(0);
        }
        (task.id, usage)
    };
    running.filter(|task| task.measure.is_some()).map(usage).collect()
}

/// The services for which connections wait now, of those that have no task that serves: all of them, once nothing goes
/// wrong any more.
pub(crate) fn demanded<'a>(
    at_zero: impl Iterator<Item = &'a ServiceId>,
    machine: u64,
    now: u64,
    faulty: bool,
) -> Vec<ServiceId> {
    let waits = |service: &&ServiceId| {
        let mut random = draws(&service.to_string(), machine ^ (now / 1_000));
        !faulty || random.chance(5)
    };
    at_zero.filter(waits).copied().collect()
}

/// Services at zero for which somebody waits, once nothing goes wrong any more.
pub(crate) fn asleep(state: &State) -> Vec<String> {
    let all = state.index.autoscaled.iter().filter_map(|id| state.services.get(id));
    let at_zero = all.filter(|service| {
        let may = service.spec.autoscale.as_ref().is_some_and(|scaled| scaled.min == 0);
        may && !service.removing && service.spec.replicas() == Some(0)
    });
    at_zero.map(|service| service.name()).collect()
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
