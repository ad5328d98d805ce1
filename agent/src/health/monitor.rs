//! What the outcome of a check means, and when the next one is due. Pure; the rules are Docker's.

use std::time::Duration;

use swarm_proto::id::Timestamp;
use swarm_proto::object::{HealthState, TaskHealth};

use super::{Check, Outcome};

/// The health after a check that ended now. `age` is the time since the container started.
pub fn next(
    check: &Check,
    health: &TaskHealth,
    outcome: &Outcome,
    age: Duration,
    now: Timestamp,
) -> TaskHealth {
    let change = |state, failures, output| TaskHealth {
        state,
        since: if state == health.state { health.since } else { now },
        failures,
        output,
    };
    if outcome.passed {
        return change(HealthState::Healthy, 0, String::new());
    }
    let excused = health.state == HealthState::Starting && age < check.start_period;
    let failures = if excused { 0 } else { health.failures.saturating_add(1) };
    let state = if failures >= check.retries { HealthState::Unhealthy } else { health.state };
    change(state, failures, tail(&outcome.output, TaskHealth::OUTPUT).to_owned())
}

/// How long to wait for the next check. `spread` of 0 to 255 is this task's own place among others, so that tasks that
/// started together are not all looked at together; it makes the pause shorter by up to a tenth.
pub fn pause(check: &Check, health: &TaskHealth, age: Duration, spread: u8) -> Duration {
    let starts = health.state == HealthState::Starting && age < check.start_period;
    let pause = if starts { check.start_interval } else { check.interval };
    pause.saturating_sub(pause / 2560 * u32::from(spread))
}

/// The end of a text, of at most so many bytes, in whole characters.
pub(crate) fn tail(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The first line of an output that says anything.
pub(crate) fn first_line(output: &str) -> &str {
    output.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::*;
    use HealthState::{Healthy, Starting, Unhealthy};

    const SECOND: Duration = Duration::from_secs(1);

    fn check() -> Check {
        Check {
            probe: Probe::Tcp(80),
            interval: 10 * SECOND,
            timeout: SECOND,
            retries: 2,
            start_period: 5 * SECOND,
            start_interval: SECOND,
        }
    }

    /// The states and failures after these outcomes, each so many seconds after the start.
    fn walk(check: &Check, outcomes: &[(u32, bool)]) -> Vec<(HealthState, u32)> {
        let mut health = TaskHealth::starting(Timestamp(0));
        let mut way = Vec::new();
        for (age, passed) in outcomes {
            let outcome = Outcome { passed: *passed, output: "why".to_owned() };
            let now = Timestamp(u64::from(*age) * 1000);
            health = next(check, &health, &outcome, *age * SECOND, now);
            way.push((health.state, health.failures));
        }
        way
    }

    #[test]
    fn failures_count_after_the_start_period() {
        let way = walk(&check(), &[(1, false), (4, false), (5, false), (15, false)]);
        assert_eq!(way, [(Starting, 0), (Starting, 0), (Starting, 1), (Unhealthy, 2)]);
    }

    #[test]
    fn a_success_ends_the_start_and_every_row_of_failures() {
        let way = walk(&check(), &[(1, true), (2, false), (3, true), (13, false), (23, false)]);
        assert_eq!(
            way,
            [(Healthy, 0), (Healthy, 1), (Healthy, 0), (Healthy, 1), (Unhealthy, 2)],
            "once healthy, failures count at any age"
        );
        let way = walk(&check(), &[(6, false), (16, false), (26, true)]);
        assert_eq!(way.last(), Some(&(Healthy, 0)), "it may come back");
    }

    #[test]
    fn the_time_of_a_state_is_when_it_was_entered() {
        let health = TaskHealth { state: Healthy, ..TaskHealth::starting(Timestamp(3)) };
        let failed = Outcome::failed("connection refused");
        let once = next(&check(), &health, &failed, 60 * SECOND, Timestamp(9));
        assert_eq!((once.since, once.output.as_str()), (Timestamp(3), "connection refused"));
        let twice = next(&check(), &once, &failed, 70 * SECOND, Timestamp(19));
        assert_eq!((twice.state, twice.since), (Unhealthy, Timestamp(19)));
        let again =
            next(&check(), &twice, &Outcome::passed("ok".into()), 80 * SECOND, Timestamp(29));
        assert_eq!((again.state, again.output.as_str()), (Healthy, ""));
    }

    #[test]
    fn pauses_are_short_at_the_start_and_never_longer_than_asked() {
        let mut health = TaskHealth::starting(Timestamp(0));
        assert_eq!(pause(&check(), &health, SECOND, 0), SECOND);
        assert_eq!(pause(&check(), &health, 5 * SECOND, 0), 10 * SECOND);
        health.state = Healthy;
        assert_eq!(pause(&check(), &health, SECOND, 0), 10 * SECOND);
        let earliest = pause(&check(), &health, SECOND, 255);
        assert!((9 * SECOND..10 * SECOND).contains(&earliest), "{earliest:?}");
    }

    #[test]
    fn outputs_are_cut_at_whole_characters() {
        assert_eq!(tail("abc", 5), "abc");
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(first_line("\n  no \nmore"), "no");
        assert_eq!(first_line(" \n"), "");
    }
}
