//! Health of tasks on agents that pretend, and what agents wait for before they stop a task.

use swarm_proto::assignment::{TaskAssignment, Withdrawal};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{HealthState, TaskHealth, TaskState, TaskStatus};
use swarm_tests::random::Random;

use crate::violation::demand;
use crate::world::World;

/// How long an agent waits, in milliseconds, for the word that no client is led to a task.
const PATIENCE: u64 = 3_000;
/// A word that came sooner was no controller's impatience, which takes two seconds.
const SOON: u64 = 1_500;
/// Who has been in a session, or on a network, for so long is waited for.
pub(crate) const SETTLED: u64 = 4_000;
/// As long as it was heard within this time.
pub(crate) const TOUCH: u64 = 1_500;

/// The health of a task that comes to a state.
pub(crate) fn at_start(task: &TaskAssignment, state: TaskState, now: u64) -> Option<TaskHealth> {
    let state = match state {
        TaskState::Starting => HealthState::Starting,
        TaskState::Running => HealthState::Healthy,
        _ => return None,
    };
    let checked = task.container.health.is_some();
    checked.then(|| TaskHealth { state, ..TaskHealth::starting(Timestamp(now)) })
}

/// Whether a running task that shall end may be stopped.
pub(crate) fn may_stop(
    task: &TaskAssignment,
    told: u64,
    now: u64,
    withdrawn: &mut Vec<TaskAssignment>,
) -> bool {
    match task.withdrawal {
        Some(Withdrawal::UnderWay) => now >= told + PATIENCE,
        Some(Withdrawal::Done) if now <= told + SOON => {
            withdrawn.push(task.clone());
            true
        }
        Some(Withdrawal::Done) | None => true,
    }
}

/// What becomes of a running task's health: some fall ill, some of these recover, and the others are stopped.
pub(crate) fn step(
    task: &TaskAssignment,
    status: &mut TaskStatus,
    (now, faulty): (u64, bool),
    random: &mut Random,
    withdrawn: &mut Vec<TaskAssignment>,
) {
    let Some(health) = &mut status.health else { return };
    match health.state {
        HealthState::Unhealthy => {
            let since = health.since.0;
            let by_word = task.withdrawal == Some(Withdrawal::Done);
            if by_word || now >= since + PATIENCE {
                if by_word && now <= since + SOON {
                    withdrawn.push(task.clone());
                }
                status.state = TaskState::Failed;
                status.since = Timestamp(now);
                "unhealthy".clone_into(&mut status.message);
            } else if random.chance(5) {
                health.state = HealthState::Healthy;
                health.since = Timestamp(now);
            }
        }
        HealthState::Starting | HealthState::Healthy => {
            if faulty && random.chance(1) && random.chance(30) {
                health.state = HealthState::Unhealthy;
                health.since = Timestamp(now);
            }
        }
    }
}

impl World {
    /// A task was stopped because no client is led to it any more, by the word of its session: nobody does who is in touch
    /// with the same controller. An agent may hang on to one that was the leader and is paused.
    pub(crate) fn look_at_withdrawn(&self, task: &TaskAssignment, session: u64) {
        let speaker = |session: u64| {
            let session = self.sessions.get(&session)?;
            Some((session.controller, session.run))
        };
        let others = self.machines.values().filter(|machine| machine.on && machine.wanted);
        let others = others
            .map(|machine| &machine.agent)
            .filter(|agent| agent.session.is_some_and(|other| speaker(other) == speaker(session)));
        for agent in others {
            for place in &task.attachments {
                let leads = agent.leads_to(place.network, place.address, self.now);
                demand(!leads, "a task stops once nobody leads clients to it", || {
                    format!("node {} leads to {} on network {}", agent.node, task.id, place.network)
                });
            }
        }
    }
}
