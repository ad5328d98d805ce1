//! A machine's wall clock: it jumps and drifts.

use swarm_proto::id::Timestamp;

pub(crate) struct Clock {
    /// True time when it was set last.
    at: u64,
    /// What it showed then.
    shown: u64,
    /// How fast it goes: 1000 is right.
    per_mille: u64,
}

impl Clock {
    pub(crate) fn new(now: u64, ahead: u64) -> Self {
        Self { at: now, shown: now + ahead, per_mille: 1_000 }
    }

    fn show(&self, now: u64) -> u64 {
        self.shown + (now - self.at) * self.per_mille / 1_000
    }

    pub(crate) fn read(&self, now: u64) -> Timestamp {
        Timestamp(self.show(now))
    }

    /// Somebody sets it to another time.
    pub(crate) fn jump(&mut self, now: u64, forward: bool, by: u64) {
        let shown = self.show(now);
        self.shown = if forward { shown + by } else { shown.saturating_sub(by) };
        self.at = now;
    }

    /// It goes at another speed from now on.
    pub(crate) fn drift(&mut self, now: u64, per_mille: u64) {
        self.shown = self.show(now);
        self.at = now;
        self.per_mille = per_mille;
    }

    /// How long so many of its milliseconds take in truth.
    pub(crate) fn lasts(&self, milliseconds: u64) -> u64 {
        (milliseconds * 1_000 / self.per_mille).max(1)
    }
}
