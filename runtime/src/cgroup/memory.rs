//! Memory and swap.

use super::{Limits, Write};

/// Control files of the v1 hierarchy. Its swap file counts memory and swap together.
pub(super) fn v1(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = limits.memory_bytes {
        let both = memory.saturating_add(limits.swap_bytes.unwrap_or(0)).min(i64::MAX as u64);
        writes.push(Write::new("memory.limit_in_bytes", memory.min(i64::MAX as u64)));
        writes.push(Write::optional("memory.memsw.limit_in_bytes", both));
    }
    if let Some(reservation) = limits.memory_reservation_bytes {
        writes.push(Write::new("memory.soft_limit_in_bytes", reservation.min(i64::MAX as u64)));
    }
    if let Some(swappiness) = limits.swappiness {
        writes.push(Write::new("memory.swappiness", swappiness));
    }
    if limits.oom_kill_disable {
        writes.push(Write::new("memory.oom_control", 1));
    }
    writes
}

/// Control files of the unified hierarchy.
pub(super) fn v2(limits: &Limits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = limits.memory_bytes {
        let swap = match limits.swap_bytes {
            Some(u64::MAX) => "max".to_owned(),
            swap => swap.unwrap_or(0).to_string(),
        };
        writes.push(Write::new("memory.max", memory));
        writes.push(Write::optional("memory.swap.max", swap));
    }
    if let Some(reservation) = limits.memory_reservation_bytes {
        writes.push(Write::new("memory.low", reservation));
    }
    writes
}

/// The file that counts kills.
pub(super) fn events(unified: bool) -> &'static str {
    if unified { "memory.events" } else { "memory.oom_control" }
}

/// The number of processes killed for want of memory, from the text of that file.
pub(super) fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_leaves_no_swap_unless_asked() {
        let mut limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
        assert_eq!(
            v1(&limits),
            vec![
                Write::new("memory.limit_in_bytes", 67_108_864),
                Write::optional("memory.memsw.limit_in_bytes", 67_108_864),
            ]
        );
        assert_eq!(
            v2(&limits),
            vec![Write::new("memory.max", 67_108_864), Write::optional("memory.swap.max", 0)]
        );
        limits.swap_bytes = Some(1 << 20);
        limits.memory_reservation_bytes = Some(4096);
        assert_eq!(v1(&limits)[1].value, "68157440");
        assert_eq!(v1(&limits)[2], Write::new("memory.soft_limit_in_bytes", 4096));
        assert_eq!(v2(&limits)[1].value, "1048576");
        assert_eq!(v2(&limits)[2], Write::new("memory.low", 4096));
        (limits.swappiness, limits.oom_kill_disable) = (Some(10), true);
        assert_eq!(v1(&limits)[3], Write::new("memory.swappiness", 10));
        assert_eq!(v1(&limits)[4], Write::new("memory.oom_control", 1));
        assert_eq!(v2(&limits).len(), 3, "the unified hierarchy has neither");
        limits.swap_bytes = Some(u64::MAX);
        assert_eq!(v2(&limits)[1].value, "max");
    }

    #[test]
    fn kills_are_read_from_both_layouts() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(
            oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(oom_kills(""), None);
    }
}
