//! How fast bytes may come or go: a bucket that fills steadily and holds what a quarter of a second brings.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use prost::bytes::Bytes;
use tokio::time::Instant;

/// What was not used for so long may be made up for.
const BURST: Duration = Duration::from_millis(250);
/// Nothing is slower: hosts that copy wait half a minute for a part of a blob, and registries not for ever.
pub(crate) const SLOWEST: u64 = 128 << 10;

/// The pure part. Times count from any one moment.
#[derive(Debug)]
struct Bucket {
    /// Bytes per second.
    rate: u64,
    /// Until when what has passed takes at this rate.
    until: Duration,
}

impl Bucket {
    /// Lets so many bytes pass; answers with how long nothing else may.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let begun = self.until.max(now.saturating_sub(BURST));
        self.until = begun.saturating_add(takes);
        self.until.saturating_sub(now)
    }
}

/// What all that pass bytes have in common. Without a rate, nobody waits.
#[derive(Debug)]
pub(crate) struct Rate {
    bucket: Option<Mutex<Bucket>>,
    begun: Instant,
}

impl Rate {
    /// So many bytes per second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let bucket = rate.map(|rate| Mutex::new(Bucket { rate, until: Duration::ZERO }));
        Self { bucket, begun: Instant::now() }
    }

    /// How long nothing else may pass after so many bytes.
    pub(crate) fn take(&self, bytes: usize) -> Duration {
        let Some(bucket) = &self.bucket else { return Duration::ZERO };
        let now = self.begun.elapsed() + BURST;
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes as u64, now)
    }
}

/// A stream that is no faster.
pub(super) fn slowed(
    stream: BoxStream<'static, std::io::Result<Bytes>>,
    rate: std::sync::Arc<Rate>,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    if rate.bucket.is_none() {
        return stream;
    }
    let passed = move |chunk: std::io::Result<Bytes>| {
        let wait = rate.take(chunk.as_ref().map_or(0, Bytes::len));
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            chunk
        }
    };
    stream.then(passed).boxed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_not_used_is_made_up_for_only_in_part() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket { rate: 1000, until: Duration::ZERO };
        assert_eq!(bucket.take(250, second), Duration::ZERO, "a quarter of a second at once");
        assert_eq!(bucket.take(500, second), Duration::from_millis(500));
        assert_eq!(bucket.take(500, second), second, "one after the other");
        assert_eq!(bucket.take(0, 2 * second), Duration::ZERO);
        assert_eq!(bucket.take(1000, 100 * second), Duration::from_millis(750), "no more for ages");
    }

    proptest! {
        /// Whoever waits as he is told passes no more than the rate and what it may make up for.
        #[test]
        fn no_more_passes_than_may(
            rate in 1_u64..1_000_000,
            parts in prop::collection::vec((1_u64..100_000, 0_u64..2_000), 1..100),
        ) {
            let mut bucket = Bucket { rate, until: Duration::ZERO };
            let begun = Duration::from_secs(10);
            let (mut now, mut passed) = (begun, 0_u64);
            for (bytes, pause) in parts {
                now += bucket.take(bytes, now);
                passed += bytes;
                let may = (now.saturating_sub(begun) + BURST).as_nanos() * u128::from(rate) / 1_000_000_000;
                // Each part is rounded down by less than a nanosecond of the rate.
                prop_assert!(u128::from(passed) <= may + 100 + u128::from(rate) / 1_000_000);
                now += Duration::from_millis(pause);
            }
        }
    }
}
