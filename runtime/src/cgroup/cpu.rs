//! Processor time.

use super::{Limits, Write};

/// The length in microseconds of the period that a quota is counted in.
const PERIOD: u64 = 100_000;

/// The shortest quota the kernel takes, in microseconds.
const SHORTEST: u64 = 1_000;

/// Control files of the v1 hierarchy.
pub(super) fn v1(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        writes.push(Write::new("cpu.shares", shares));
    }
    if let Some((quota, period)) = quota_and_period(limits) {
        writes.push(Write::new("cpu.cfs_period_us", period));
        if let Some(quota) = quota {
            writes.push(Write::new("cpu.cfs_quota_us", quota));
        }
    }
    writes
}

/// Control files of the unified hierarchy.
pub(super) fn v2(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        writes.push(Write::new("cpu.weight", weight(shares)));
    }
    if let Some((quota, period)) = quota_and_period(limits) {
        let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
        writes.push(Write::new("cpu.max", format!("{quota} {period}")));
    }
    writes
}

/// Microseconds in each period, and the period's, when either is limited; no quota is as much as there is.
fn quota_and_period(limits: &Limits) -> Option<(Option<u64>, u64)> {
    let period = limits.cpu_period_us;
    let quota = limits.cpu_quota_us.or_else(|| limits.nano_cpus.map(quota));
    (quota.is_some() || period.is_some()).then(|| (quota, period.unwrap_or(PERIOD)))
}

fn quota(nano_cpus: u64) -> u64 {
    (nano_cpus / (1_000_000_000 / PERIOD)).max(SHORTEST)
}

/// Maps v1's 2 to 262 144 onto v2's 1 to 10 000, as runtimes agreed.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_processor_is_half_the_period() {
        let limits =
            Limits { nano_cpus: Some(500_000_000), cpu_shares: Some(1024), ..Limits::default() };
        assert_eq!(
            v1(&limits),
            vec![
                Write::new("cpu.shares", 1024),
                Write::new("cpu.cfs_period_us", 100_000),
                Write::new("cpu.cfs_quota_us", 50_000),
            ]
        );
        assert_eq!(
            v2(&limits),
            vec![Write::new("cpu.weight", 39), Write::new("cpu.max", "50000 100000")]
        );
    }

    #[test]
    fn quota_and_period_are_taken_as_they_are() {
        let mut limits = Limits { cpu_quota_us: Some(25_000), ..Limits::default() };
        assert_eq!(v2(&limits), [Write::new("cpu.max", "25000 100000")]);
        limits.cpu_period_us = Some(50_000);
        let both =
            [Write::new("cpu.cfs_period_us", 50_000), Write::new("cpu.cfs_quota_us", 25_000)];
        assert_eq!(v1(&limits), both);
        limits.cpu_quota_us = None;
        assert_eq!(v2(&limits), [Write::new("cpu.max", "max 50000")]);
        assert_eq!(v1(&limits), [Write::new("cpu.cfs_period_us", 50_000)]);
    }

    #[test]
    fn bounds_of_the_kernel_are_kept() {
        assert_eq!(quota(1), SHORTEST);
        assert_eq!(
            (weight(0), weight(2), weight(262_144), weight(u64::MAX)),
            (1, 1, 10_000, 10_000)
        );
        assert!(v1(&Limits::default()).is_empty() && v2(&Limits::default()).is_empty());
    }
}
