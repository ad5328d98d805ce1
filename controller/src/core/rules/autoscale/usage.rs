//! What agents measured of tasks, and how many tasks that called for lately.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::TaskUsage;

use crate::core::state::State;

/// For so long a measurement counts.
const FRESH: Duration = Duration::from_secs(20);
/// For so long a demand counts, which agents repeat each second.
const WAITS: Duration = Duration::from_secs(5);
/// Between two notes of what is wanted.
const NOTE: Duration = Duration::from_secs(1);
/// Notes of one service: of more, two become one.
const NOTES: usize = 64;

/// What was measured of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    first: Timestamp,
    at: Timestamp,
    usage: TaskUsage,
}

/// See the module. It is the leader's own, and begins empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    tasks: BTreeMap<TaskId, Measured>,
    services: BTreeMap<ServiceId, Recent>,
    /// When connections waited last for services.
    demands: BTreeMap<ServiceId, Timestamp>,
    noted: Timestamp,
}

/// How many tasks a service should have had lately.
#[derive(Debug, Clone, PartialEq)]
pub struct Recent {
    /// Since when it was looked at.
    since: Timestamp,
    /// Numbers with the last time that each was wanted, and each higher than all that follow.
    notes: VecDeque<(Timestamp, u32)>,
}

impl Recent {
    /// Begins to look.
    pub fn begin(now: Timestamp) -> Self {
        Self { since: now, notes: VecDeque::new() }
    }

    /// So many tasks were wanted now; what is older than `window` does not count any more.
    pub fn note(&mut self, wanted: u32, window: Duration, now: Timestamp) {
        while self.notes.back().is_some_and(|(_, lower)| *lower <= wanted) {
            self.notes.pop_back();
        }
        self.notes.push_back((now, wanted));
        while self.notes.len() > 1
            && self.notes.front().is_some_and(|(at, _)| at.after(window) <= now)
        {
            self.notes.pop_front();
        }
        if self.notes.len() > NOTES
            && let Some((_, higher)) = self.notes.pop_front()
            && let Some((_, lower)) = self.notes.front_mut()
        {
            *lower = higher;
        }
    }

    /// The most that was wanted within `window`, at least `replicas` where not all of it was seen; and when, at the
    /// earliest, that can be below `replicas`.
    pub(super) fn look(&self, replicas: u32, window: Duration, now: Timestamp) -> (u32, Timestamp) {
        let recent = self.notes.iter().filter(|(at, _)| at.after(window) > now);
        let highest = recent.clone().map(|(_, wanted)| *wanted).max().unwrap_or(0);
        let as_many = recent.filter(|(_, wanted)| *wanted >= replicas).map(|(at, _)| *at).max();
        let until = as_many.unwrap_or_default().max(self.since).after(window);
        let highest = if self.since.after(window) > now { highest.max(replicas) } else { highest };
        (highest, until)
    }
}

impl Usage {
    /// An agent measured its tasks.
    pub(in crate::core) fn take(
        &mut self,
        state: &State,
        node: NodeId,
        usages: Vec<(TaskId, TaskUsage)>,
        now: Timestamp,
    ) {
        let own = |task: &TaskId| state.tasks.get(task).is_some_and(|t| t.node == Some(node));
        for (task, usage) in usages.into_iter().filter(|(task, _)| own(task)) {
            let first = self.tasks.get(&task).map_or(now, |known| known.first);
            self.tasks.insert(task, Measured { first, at: now, usage });
        }
    }

    /// Connections wait for services on an agent's host.
    pub(in crate::core) fn demand(
        &mut self,
        state: &State,
        services: &[ServiceId],
        now: Timestamp,
    ) {
        let known = services.iter().filter(|service| state.services.contains_key(*service));
        self.demands.extend(known.map(|service| (*service, now)));
    }

    /// Whether connections wait for a service.
    pub(super) fn is_demanded(&self, service: ServiceId, now: Timestamp) -> bool {
        self.demands.get(&service).is_some_and(|at| at.after(WAITS) > now)
    }

    /// Forgets tasks and services that the state no longer knows.
    pub(in crate::core) fn forget(&mut self, state: &State) {
        self.demands.retain(|service, _| state.services.contains_key(service));
        self.tasks.retain(|task, _| state.tasks.contains_key(task));
    }

    /// What was measured of a task, as long as it counts.
    pub(super) fn of(&self, task: TaskId, now: Timestamp) -> TaskUsage {
        let measured = self.tasks.get(&task).filter(|one| one.at.after(FRESH) > now);
        measured.map(|one| one.usage).unwrap_or_default()
    }

    /// When a task was measured first.
    pub(super) fn since(&self, task: TaskId) -> Option<Timestamp> {
        self.tasks.get(&task).map(|measured| measured.first)
    }

    /// How many tasks a service should have had lately.
    pub(super) fn recent(&self, service: ServiceId) -> Option<&Recent> {
        self.services.get(&service)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.noted.after(NOTE) <= now
    }

    /// Notes how many tasks each service should have now, with its window. Others are forgotten.
    pub(super) fn note(&mut self, wanted: &[(ServiceId, Duration, u32)], now: Timestamp) {
        self.noted = now;
        let mut before = std::mem::take(&mut self.services);
        for (service, window, wanted) in wanted {
            let mut recent = before.remove(service).unwrap_or_else(|| Recent::begin(now));
            recent.note(*wanted, *window, now);
            self.services.insert(*service, recent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000)
    }

    #[test]
    fn the_most_of_the_window_counts_once_all_of_it_was_seen() {
        let mut recent = Recent::begin(at(100));
        recent.note(3, WINDOW, at(100));
        assert_eq!(recent.look(5, WINDOW, at(159)), (5, at(160)), "not long enough");
        recent.note(4, WINDOW, at(130));
        recent.note(2, WINDOW, at(150));
        assert_eq!(recent.look(5, WINDOW, at(160)), (4, at(160)));
        assert_eq!(recent.look(4, WINDOW, at(160)), (4, at(190)), "as many were wanted");
        recent.note(2, WINDOW, at(190));
        assert_eq!(recent.look(4, WINDOW, at(190)), (2, at(160)));
        assert_eq!(recent.notes.len(), 1);
    }

    #[test]
    fn notes_are_bounded_and_none_is_made_lower() {
        let mut recent = Recent::begin(at(0));
        for second in 0..1_000 {
            let wanted = 2_000 - u32::try_from(second).unwrap();
            recent.note(wanted, Duration::from_hours(1), at(second));
        }
        assert!(recent.notes.len() <= NOTES);
        assert_eq!(recent.look(9_999, Duration::from_hours(1), at(3_601)).0, 2_000);
    }
}
