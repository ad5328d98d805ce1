//! Runs the checks of one task, for as long as it is kept.

use std::sync::Arc;
use std::time::Duration;

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{TaskId, Timestamp};
use swarm_proto::object::TaskHealth;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{Check, monitor};
use crate::clock;
use crate::executor::Executor;

/// Checks that run at the same time on one host: others wait, which is not held against them.
pub(crate) const AT_ONCE: usize = 16;

/// The checks of one running task. They end when this is dropped, also one that is under way.
#[derive(Debug)]
pub(crate) struct Watch {
    health: watch::Receiver<TaskHealth>,
    checks: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.checks.abort();
    }
}

impl Watch {
    /// Begins to look at a task that started at `started`, from what is known of its health.
    pub(crate) fn start(
        executor: &Arc<dyn Executor>,
        places: &Arc<Semaphore>,
        task: &Arc<TaskAssignment>,
        check: Check,
        (known, started): (TaskHealth, Timestamp),
    ) -> Self {
        let (sender, health) = watch::channel(known);
        let run = Run {
            executor: Arc::clone(executor),
            places: Arc::clone(places),
            task: Arc::clone(task),
            check,
            // The clock may be set while the task runs; what passes from here on does not follow it.
            age: clock::now().since(started),
            begun: Instant::now(),
        };
        let checks = tokio::spawn(run.checks(sender)).abort_handle();
        Self { health, checks }
    }

    /// The health as it is now.
    pub(crate) fn health(&mut self) -> TaskHealth {
        self.health.borrow_and_update().clone()
    }

    /// Returns when the health has changed.
    pub(crate) async fn changed(&mut self) {
        if self.health.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Run {
    executor: Arc<dyn Executor>,
    places: Arc<Semaphore>,
    task: Arc<TaskAssignment>,
    check: Check,
    age: Duration,
    begun: Instant,
}

impl Run {
    fn age(&self) -> Duration {
        self.age.saturating_add(self.begun.elapsed())
    }

    async fn checks(self, health: watch::Sender<TaskHealth>) {
        let mut round = 0;
        loop {
            let known = health.borrow().clone();
            sleep(monitor::pause(&self.check, &known, self.age(), spread(self.task.id, round)))
                .await;
            round += 1;
            let Ok(place) = self.places.acquire().await else { return };
            let outcome = self.executor.check(&self.task, &self.check).await;
            drop(place);
            let next = monitor::next(&self.check, &known, &outcome, self.age(), clock::now());
            if next.state != known.state {
                let (task, state, output) = (&self.task.name, next.state, &next.output);
                tracing::info!(%task, %state, failures = next.failures, %output, "health");
            }
            // A check that changed nothing is no news.
            health.send_if_modified(|told| {
                let news = told.state != next.state;
                *told = next;
                news
            });
        }
    }
}

/// A number of a task's own, another one for each of its checks.
fn spread(task: TaskId, round: u64) -> u8 {
    let slot = match task.slot {
        swarm_proto::id::Slot::Replica(number) => u64::from(number),
        swarm_proto::id::Slot::OneOff(run) => u64::from(run),
        swarm_proto::id::Slot::Node(node) => node.0,
    };
    let mixed = (task.service.0 ^ slot << 20 ^ u64::from(task.generation) << 40 ^ round << 52)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_a_service_have_places_of_their_own() {
        let places: std::collections::BTreeSet<u8> =
            (1..=100).map(|slot| spread(format!("3.{slot}.1").parse().unwrap(), 0)).collect();
        assert!(places.len() > 60, "{} places for a hundred tasks", places.len());
    }
}
