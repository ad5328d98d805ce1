//! The network between machines: it loses, delays, reorders, duplicates and parts.

use std::collections::BTreeMap;

use swarm_tests::random::Random;

/// See the module.
#[derive(Default)]
pub(crate) struct Network {
    /// How many faults cut each way between two machines.
    cut: BTreeMap<(u64, u64), u32>,
    /// Percent of messages that are lost.
    pub(crate) loss: u64,
    /// Percent of messages that arrive twice.
    pub(crate) twice: u64,
    /// Milliseconds that a message may take longer than usual.
    pub(crate) slow: u64,
    /// Whether a message may overtake others of its way.
    pub(crate) reorders: bool,
    /// When the last message of each way arrives.
    last: BTreeMap<(u64, u64), u64>,
}

impl Network {
    pub(crate) fn cut(&mut self, ways: &[(u64, u64)]) {
        for way in ways {
            *self.cut.entry(*way).or_default() += 1;
        }
    }

    pub(crate) fn mend(&mut self, ways: &[(u64, u64)]) {
        for way in ways {
            if let Some(count) = self.cut.get_mut(way) {
                *count -= 1;
            }
        }
        self.cut.retain(|_, count| *count > 0);
    }

    pub(crate) fn is_open(&self, from: u64, to: u64) -> bool {
        from == to || !self.cut.contains_key(&(from, to))
    }

    /// Whether a stream between two machines lives.
    pub(crate) fn is_open_both_ways(&self, a: u64, b: u64) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    /// When a message sent now arrives: never, once or twice.
    pub(crate) fn arrivals(
        &mut self,
        random: &mut Random,
        now: u64,
        from: u64,
        to: u64,
    ) -> [Option<u64>; 2] {
        if !self.is_open(from, to) || random.chance(self.loss) {
            return [None, None];
        }
        let mut first = now + random.between(1, 6 + self.slow);
        let last = self.last.entry((from, to)).or_default();
        if self.reorders {
            first += random.between(0, 150);
        } else {
            first = first.max(*last);
        }
        *last = first.max(*last);
        let second = random.chance(self.twice).then(|| first + random.between(1, 400));
        [Some(first), second]
    }

    /// How long an ordered stream takes for a message.
    pub(crate) fn stream_delay(&self) -> u64 {
        3 + self.slow / 8
    }
}
