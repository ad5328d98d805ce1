//! Runs that a schedule asks for. A run is fenced by its time: the state takes each time once, and none before one about
//! which it was decided, so no leader can repeat what another one began.

use std::time::Duration;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::Service;
use swarm_proto::schedule::Schedule;
use swarm_proto::spec::{Concurrency, JobSchedule, MissedRuns};

use super::super::Plan;
use super::{start, stop_active};
use crate::core::state::{ACTIVE_RUNS, State};

/// A time that is further back was missed: what is later than that was only delayed, as by an election.
const TARDY: Duration = Duration::from_mins(1);
/// The most times that are made up for.
const MADE_UP: usize = 100;

/// Decides about the earliest time that is due, or wakes at the next one.
pub(super) fn plan(state: &State, service: &Service, now: Timestamp, plan: &mut Plan) {
    let Some(schedule) = &service.spec.schedule else { return };
    let Ok(times) = schedule.times() else { return };
    let decided = service.runs.decided_until;
    let Some(next) = times.next(decided) else { return };
    if next > now {
        return plan.wake(next);
    }
    let read = [(ObjectId::Service(service.id), Counter::Spec)];
    let skip = |until| vec![Action::SkipRuns { service: service.id, until }];
    let Some(first) = due(schedule, &times, decided, now).first().copied() else {
        return plan.add(state, &read, skip(late_until(now)));
    };
    if next < first {
        return plan.add(state, &read, skip(Timestamp(first.0 - 1)));
    }
    let active = service.runs.active().count();
    match schedule.concurrency {
        Concurrency::Forbid if active > 0 && schedule.missed == MissedRuns::RunAll => {}
        Concurrency::Forbid if active > 0 => plan.add(state, &read, skip(first)),
        Concurrency::Allow if active >= ACTIVE_RUNS => plan.add(state, &read, skip(first)),
        _ => {
            let mut actions = match schedule.concurrency {
                Concurrency::Replace => stop_active(state, service, "a later run took its place"),
                _ => Vec::new(),
            };
            actions.push(start(service, Some(first)));
            plan.add(state, &read, actions);
        }
    }
}

/// Up to when times count as missed.
fn late_until(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(TARDY.as_millis()).unwrap_or(u64::MAX)))
}

/// The times that shall be run now, earliest first.
fn due(
    schedule: &JobSchedule,
    times: &Schedule,
    decided: Timestamp,
    now: Timestamp,
) -> Vec<Timestamp> {
    let late = late_until(now);
    let missed = times.next(decided).is_some_and(|next| next <= late);
    match schedule.missed {
        MissedRuns::RunOnce if missed => times.latest(decided, now, 1),
        MissedRuns::RunAll if missed => times.latest(decided, now, MADE_UP),
        _ => times.latest(decided.max(late), now, MADE_UP),
    }
}
