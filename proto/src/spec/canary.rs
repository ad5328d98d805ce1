use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many of a service's slots are its canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanarySize {
    /// So many, at least 1.
    Replicas(u32),
    /// So many of a hundred, rounded up; 1 to 99.
    Percent(u32),
}

/// Why a text is no [`CanarySize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither a number of tasks, at least 1, nor a percentage from `1%` to `99%`")]
pub struct ParseCanarySizeError;

impl CanarySize {
    /// Whether it is within its bounds.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Replicas(replicas) => replicas > 0,
            Self::Percent(percent) => (1..100).contains(&percent),
        }
    }
}

impl FromStr for CanarySize {
    type Err = ParseCanarySizeError;

    fn from_str(text: &str) -> Result<Self, ParseCanarySizeError> {
        let number = |text: &str| {
            let is_number = text.bytes().all(|c| c.is_ascii_digit());
            text.parse().ok().filter(|_| is_number).ok_or(ParseCanarySizeError)
        };
        let size = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(number(percent)?),
            None => Self::Replicas(number(text)?),
        };
        if size.is_valid() { Ok(size) } else { Err(ParseCanarySizeError) }
    }
}

impl fmt::Display for CanarySize {
    /// As in a stack file: `2`, `20%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas(replicas) => write!(f, "{replicas}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// That an update exchanges a part of a service and then holds (`x-swarm: canary`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// How many slots.
    pub size: CanarySize,
    /// After so long it promotes itself, once all of the canary runs; `None` waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
}

impl Canary {
    /// How many of so many slots it takes. One slot at least stays as it was.
    pub fn slots(&self, all: usize) -> usize {
        let wanted = match self.size {
            CanarySize::Replicas(replicas) => replicas as usize,
            CanarySize::Percent(percent) => all.saturating_mul(percent as usize).div_ceil(100),
        };
        wanted.min(all.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_written() {
        for (text, size) in [
            ("1", CanarySize::Replicas(1)),
            ("20%", CanarySize::Percent(20)),
            ("99%", CanarySize::Percent(99)),
        ] {
            assert_eq!(text.parse(), Ok(size));
            assert_eq!(size.to_string(), text);
        }
        for text in ["", "%", "0", "0%", "100%", "-1", "+1", "1.5", "half", "99999999999"] {
            assert_eq!(text.parse::<CanarySize>(), Err(ParseCanarySizeError), "{text}");
        }
    }

    #[test]
    fn a_canary_is_a_part_and_never_the_whole() {
        let slots = |size, all| Canary { size, hold: None }.slots(all);
        assert_eq!(slots(CanarySize::Replicas(2), 5), 2);
        assert_eq!(slots(CanarySize::Replicas(9), 5), 4);
        assert_eq!(slots(CanarySize::Percent(20), 5), 1);
        assert_eq!(slots(CanarySize::Percent(20), 6), 2, "a part of a slot is one");
        assert_eq!(slots(CanarySize::Percent(99), 3), 2);
        assert_eq!(slots(CanarySize::Replicas(1), 1), 0);
        assert_eq!(slots(CanarySize::Percent(50), 0), 0);
    }
}
