//! Slows down guessing: after some failures from one address, that address must wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that an address may make in one window.
const ALLOWED: u32 = 10;
/// The window.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered at most; beyond, the oldest windows are forgotten.
const REMEMBERED: usize = 4096;

struct Failures {
    since: Instant,
    count: u32,
}

/// Failures by address.
#[derive(Default)]
pub struct Limiter {
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl Limiter {
    /// How long `address` must wait; `None` when it may try.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let found = failures.get(&address)?;
        let over = found.since + WINDOW;
        (found.count >= ALLOWED && now < over).then(|| over - now)
    }

    /// Notes a failure.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= REMEMBERED && !failures.contains_key(&address) {
            failures.retain(|_, found| now < found.since + WINDOW);
            let oldest = failures.iter().min_by_key(|(_, found)| found.since);
            if failures.len() >= REMEMBERED
                && let Some(oldest) = oldest.map(|(address, _)| *address)
            {
                failures.remove(&oldest);
            }
        }
        let found = failures.entry(address).or_insert(Failures { since: now, count: 0 });
        if now >= found.since + WINDOW {
            *found = Failures { since: now, count: 0 };
        }
        found.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_block_one_address_for_a_minute() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let guesser: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..ALLOWED {
            assert_eq!(limiter.wait(guesser, now), None);
            limiter.failed(guesser, now);
        }
        assert_eq!(limiter.wait(guesser, now), Some(WINDOW));
        assert_eq!(limiter.wait("10.0.0.2".parse().unwrap(), now), None);
        assert_eq!(limiter.wait(guesser, now + WINDOW), None);
        limiter.failed(guesser, now + WINDOW);
        assert_eq!(limiter.wait(guesser, now + WINDOW), None);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        let now = Instant::now();
        for number in 0..10_000_u32 {
            limiter.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(limiter.failures.lock().unwrap().len(), REMEMBERED);
    }
}
