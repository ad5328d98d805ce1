//! A light stream of writes, begun at a fixed pace whether or not those before were answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swarm_proto::wire;
use swarm_tests::bench::Outcome;
use swarm_tests::bench::host::Host;
use tokio::task::{JoinHandle, JoinSet};

/// Writes that begin in a second.
const PACE: u32 = 250;
/// Numbers the writes of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// One write: when it should have begun, and when it was accepted.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    begun: Instant,
    at: Instant,
}

/// Writes until it is ended.
pub(crate) struct Stream {
    writing: JoinHandle<Result<Vec<Accepted>, String>>,
    ended: Arc<AtomicBool>,
}

impl Stream {
    /// Begins to write at a controller.
    pub(crate) async fn start(host: &Host) -> Outcome<Self> {
        let client = host.client().await?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let writing = tokio::spawn(async move {
            let begun = Instant::now();
            let mut writes = JoinSet::new();
            for turn in 0.. {
                let begun = begun + Duration::from_secs(1) * turn / PACE;
                tokio::time::sleep_until(begun.into()).await;
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let mut client = client.clone();
                writes.spawn(async move {
                    let write = label(NUMBER.fetch_add(1, Ordering::Relaxed));
                    client.update_node(write).await.map_err(|status| status.to_string())?;
                    Ok::<_, String>(Accepted { begun, at: Instant::now() })
                });
            }
            let mut accepted = Vec::new();
            while let Some(write) = writes.join_next().await {
                accepted.push(write.map_err(|error| error.to_string())??);
            }
            Ok(accepted)
        });
        Ok(Self { writing, ended })
    }

    /// Ends it; fails when a write was refused.
    pub(crate) async fn end(self) -> Outcome<Writes> {
        self.ended.store(true, Ordering::Relaxed);
        Ok(Writes(self.writing.await??))
    }
}

/// Writes that were all accepted.
pub(crate) struct Writes(Vec<Accepted>);

/// How long they took, and the longest time in which none was accepted: milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) slowest: f64,
    pub(crate) gap: f64,
}

impl Writes {
    /// Of the writes that were under way at any time from the one instant to the other.
    pub(crate) fn within(&self, from: Instant, to: Instant) -> Outcome<Measured> {
        let within = self.0.iter().filter(|write| write.at >= from && write.begun <= to);
        let within: Vec<Accepted> = within.copied().collect();
        let mut took: Vec<Duration> = within.iter().map(|write| write.at - write.begun).collect();
        let mut at: Vec<Instant> = within.iter().map(|write| write.at).collect();
        took.sort_unstable();
        at.sort_unstable();
        let gap = at.windows(2).map(|pair| pair[1] - pair[0]).max();
        let millis = |time: Option<Duration>| {
            Ok::<_, &str>(time.ok_or("no writes")?.as_secs_f64() * 1_000.0)
        };
        let percentile = |percent| took.get(took.len() * percent / 100).copied();
        Ok(Measured {
            p50: millis(percentile(50))?,
            p99: millis(percentile(99))?,
            slowest: millis(took.last().copied())?,
            gap: millis(gap)?,
        })
    }
}

/// A write of a label.
fn label(number: u64) -> wire::UpdateNodeRequest {
    wire::UpdateNodeRequest {
        request_id: format!("write-{number}"),
        node: String::from("host101"),
        set_labels: [(String::from("number"), number.to_string())].into(),
        ..wire::UpdateNodeRequest::default()
    }
}
