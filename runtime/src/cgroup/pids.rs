//! Number of processes and threads; the same file in both layouts.

use super::{Limits, Write};

/// Control files.
pub(super) fn writes(limits: &Limits) -> Vec<Write> {
    limits.pids.map(|pids| Write::new("pids.max", pids)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_is_written() {
        assert!(writes(&Limits::default()).is_empty());
        let limits = Limits { pids: Some(100), ..Limits::default() };
        assert_eq!(writes(&limits), vec![Write::new("pids.max", 100)]);
    }
}
