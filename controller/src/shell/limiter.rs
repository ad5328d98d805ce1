//! Slows down guessing: after some failures from one address that address must wait, after many from all of them
//! everybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that an address may make in one window.
const ALLOWED: u32 = 10;
/// Failures that all addresses may make together in one window.
const ALLOWED_TOGETHER: u32 = 600;
/// The window.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered at most; beyond, the oldest windows are forgotten.
const REMEMBERED: usize = 4096;

struct Failures {
    since: Instant,
    count: u32,
}

impl Failures {
    /// How long must be waited after so many.
    fn wait(&self, allowed: u32, now: Instant) -> Option<Duration> {
        let over = self.since + WINDOW;
        (self.count >= allowed && now < over).then(|| over - now)
    }

    fn add(&mut self, now: Instant) {
        if now >= self.since + WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
    }
}

#[derive(Default)]
struct Counts {
    by_address: HashMap<IpAddr, Failures>,
    together: Option<Failures>,
}

/// Failures by address, and of all addresses together.
#[derive(Default)]
pub struct Limiter {
    counts: Mutex<Counts>,
}

impl Limiter {
    /// How long `address` must wait; `None` when it may try.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_address.get(&address).and_then(|own| own.wait(ALLOWED, now));
        let all = counts.together.as_ref().and_then(|all| all.wait(ALLOWED_TOGETHER, now));
        own.max(all)
    }

    /// Notes a failure.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.together.get_or_insert(Failures { since: now, count: 0 }).add(now);
        let failures = &mut counts.by_address;
        if failures.len() >= REMEMBERED && !failures.contains_key(&address) {
            failures.retain(|_, found| now < found.since + WINDOW);
            let oldest = failures.iter().min_by_key(|(_, found)| found.since);
            if failures.len() >= REMEMBERED
                && let Some(oldest) = oldest.map(|(address, _)| *address)
            {
                failures.remove(&oldest);
            }
        }
        failures.entry(address).or_insert(Failures { since: now, count: 0 }).add(now);
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
    fn many_failures_of_many_addresses_hold_up_everybody_for_a_minute() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let honest: IpAddr = "192.0.2.1".parse().unwrap();
        for number in 0..ALLOWED_TOGETHER {
            assert_eq!(limiter.wait(honest, now), None);
            limiter.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(limiter.wait(honest, now), Some(WINDOW));
        assert_eq!(limiter.wait(honest, now + WINDOW), None);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::default();
        let now = Instant::now();
        for number in 0..10_000_u32 {
            limiter.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(limiter.counts.lock().unwrap().by_address.len(), REMEMBERED);
    }
}
