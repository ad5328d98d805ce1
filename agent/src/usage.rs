//! Measures the running tasks of services that are scaled by that, about every five seconds. What was measured is the
//! session's to tell; nothing of it is kept.

pub(crate) mod scrape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{Attempt, TaskId};
use swarm_proto::object::TaskUsage;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::executor::Executor;
use crate::worker::Worker;

/// Between two measurements.
const EVERY: Duration = Duration::from_secs(5);
/// Tasks that are measured at the same time.
const AT_ONCE: usize = 16;

/// What all tasks used that were measured last.
pub type Usages = Vec<(TaskId, TaskUsage)>;

/// A container's processor time, and when it was read.
type Counted = BTreeMap<(TaskId, Attempt), (Instant, Duration)>;

/// Measures from now on, as long as somebody listens.
pub fn start(worker: Arc<Worker>, executor: Arc<dyn Executor>) -> watch::Receiver<Usages> {
    let (sender, usages) = watch::channel(Usages::new());
    tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Arc::new(Counted::new());
        while !sender.is_closed() {
            ticks.tick().await;
            let tasks = worker.measured();
            let measuring = tasks.into_iter().map(|(task, attempt)| {
                measure(Arc::clone(&executor), task, attempt, Arc::clone(&before))
            });
            let measured: Vec<Measured> =
                stream::iter(measuring).buffer_unordered(AT_ONCE).collect().await;
            before = Arc::new(measured.iter().filter_map(|one| one.counted).collect());
            if !measured.is_empty() {
                sender.send_replace(measured.into_iter().map(|one| one.usage).collect());
            }
        }
    });
    usages
}

struct Measured {
    usage: (TaskId, TaskUsage),
    counted: Option<((TaskId, Attempt), (Instant, Duration))>,
}

async fn measure(
    executor: Arc<dyn Executor>,
    task: Arc<TaskAssignment>,
    attempt: Attempt,
    before: Arc<Counted>,
) -> Measured {
    let key = (task.id, attempt);
    let mut usage = TaskUsage::default();
    let mut counted = None;
    match executor.usage(task.id, attempt).await {
        Ok(read) => {
            let now = Instant::now();
            usage.memory = read.memory;
            counted = read.cpu_time.map(|time| (key, (now, time)));
            usage.millicpus = before.get(&key).zip(read.cpu_time).and_then(|((at, old), new)| {
                millicpus(new.checked_sub(*old)?, now.duration_since(*at))
            });
        }
        Err(error) => {
            let error = error.sentence();
            tracing::warn!(task = %task.name, %error, "cannot tell what it uses");
        }
    }
    if let Some(scrape) = task.measure.as_ref().and_then(|measure| measure.scrape.as_ref()) {
        match executor.scrape(&task, scrape).await {
            Ok(number) => usage.scraped = Some(number),
            Err(reason) => tracing::warn!(task = %task.name, %reason, "cannot read its metric"),
        }
    }
    Measured { usage: (task.id, usage), counted }
}

/// Thousandths of a CPU that were used on average.
fn millicpus(used: Duration, elapsed: Duration) -> Option<u64> {
    let thousandths = used.as_micros().saturating_mul(1_000);
    u64::try_from(thousandths.checked_div(elapsed.as_micros())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_in_use_all_the_time_is_a_thousand() {
        let seconds = Duration::from_secs;
        assert_eq!(millicpus(seconds(5), seconds(5)), Some(1_000));
        assert_eq!(millicpus(Duration::from_millis(1), seconds(5)), Some(0));
        assert_eq!(millicpus(seconds(10), seconds(4)), Some(2_500));
        assert_eq!(millicpus(seconds(1), Duration::ZERO), None);
    }
}
