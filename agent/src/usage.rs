//! Measures the running tasks of services that are scaled by that, about every five seconds. What was measured is the
//! session's to tell; nothing of it is kept.

pub(crate) mod scrape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use swarm_proto::assignment::{Measure, TaskAssignment};
use swarm_proto::id::{Attempt, TaskId};
use swarm_proto::object::TaskUsage;
use swarm_proto::spec::Decimal;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::executor::{Executor, TaskError};
use crate::worker::Worker;

/// Between two measurements.
const EVERY: Duration = Duration::from_secs(5);
/// Tasks that are measured at the same time.
const AT_ONCE: usize = 16;

/// What all tasks used that were measured last.
pub type Usages = Vec<(TaskId, TaskUsage)>;

/// What only rises of a container, and when it was read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    /// Processor time.
    cpu: Option<Duration>,
    /// Connections that came.
    arrivals: Option<u64>,
}

type Counted = BTreeMap<(TaskId, Attempt), Reading>;

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
            before = Arc::new(measured.iter().map(|one| one.counted).collect());
            if !measured.is_empty() {
                sender.send_replace(measured.into_iter().map(|one| one.usage).collect());
            }
        }
    });
    usages
}

struct Measured {
    usage: (TaskId, TaskUsage),
    counted: ((TaskId, Attempt), Reading),
}

async fn measure(
    executor: Arc<dyn Executor>,
    task: Arc<TaskAssignment>,
    attempt: Attempt,
    before: Arc<Counted>,
) -> Measured {
    let key = (task.id, attempt);
    let mut usage = TaskUsage::default();
    let mut reading = Reading { at: Instant::now(), cpu: None, arrivals: None };
    let last = before.get(&key).copied();
    match executor.usage(task.id, attempt).await {
        Ok(read) => {
            usage.memory = read.memory;
            (reading.at, reading.cpu) = (Instant::now(), read.cpu_time);
            usage.millicpus = last.and_then(|last| {
                millicpus(reading.cpu?.checked_sub(last.cpu?)?, reading.at - last.at)
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
    if let Some(wanted) = task.measure.as_ref().filter(|measure| measure.requests)
        && let Err(error) = count(&*executor, &task, wanted, last, &mut reading, &mut usage).await
    {
        let error = error.sentence();
        tracing::warn!(task = %task.name, %error, "cannot count its connections");
    }
    Measured { usage: (task.id, usage), counted: (key, reading) }
}

/// Counts what came to a task since it was looked at `last`, and what is open where nothing came.
async fn count(
    executor: &dyn Executor,
    task: &TaskAssignment,
    wanted: &Measure,
    last: Option<Reading>,
    reading: &mut Reading,
    usage: &mut TaskUsage,
) -> Result<(), TaskError> {
    reading.arrivals = executor.arrivals(task.id).await?;
    usage.requests = last.and_then(|last| {
        let came = reading.arrivals?.checked_sub(last.arrivals?)?;
        per_second(came, last.at.elapsed())
    });
    if wanted.connections && usage.requests == Some(Decimal(0)) {
        usage.connections = executor.open_connections(task.id).await?;
    }
    Ok(())
}

/// A number a second on average: some are never none.
fn per_second(number: u64, elapsed: Duration) -> Option<Decimal> {
    let millions = u128::from(number).saturating_mul(1_000_000);
    let thousandths = millions.checked_div(elapsed.as_millis())?;
    let thousandths = u64::try_from(thousandths).unwrap_or(u64::MAX);
    Some(Decimal(thousandths.max(number.min(1))))
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
    fn some_connections_are_never_none() {
        let seconds = Duration::from_secs;
        assert_eq!(per_second(10, seconds(5)), Some(Decimal(2_000)));
        assert_eq!(per_second(0, seconds(5)), Some(Decimal(0)));
        assert_eq!(per_second(1, seconds(5_000)), Some(Decimal(1)));
        assert_eq!(per_second(1, Duration::ZERO), None);
    }

    #[test]
    fn a_cpu_in_use_all_the_time_is_a_thousand() {
        let seconds = Duration::from_secs;
        assert_eq!(millicpus(seconds(5), seconds(5)), Some(1_000));
        assert_eq!(millicpus(Duration::from_millis(1), seconds(5)), Some(0));
        assert_eq!(millicpus(seconds(10), seconds(4)), Some(2_500));
        assert_eq!(millicpus(seconds(1), Duration::ZERO), None);
    }
}
