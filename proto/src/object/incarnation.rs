use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::Timestamp;

/// Which of the clusters of one identity a cluster is. Each restored backup and each `force-new-cluster` makes a new one,
/// and whoever has heard of a later one has nothing more to do with controllers of an earlier one.
///
/// Two of them are ordered whichever were made of what: the number leaps to the time at which it is made, so what is made
/// later is later even out of an older backup, and the random mark tells apart what was made of one backup at once. The
/// text form is `NUMBER-MARK`, the mark in hexadecimal.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Incarnation {
    /// 0 in clusters of version 0.1.0, which did not speak of it.
    pub number: u64,
    /// Random.
    pub mark: u64,
}

impl Incarnation {
    /// That of a new cluster.
    pub fn first(mark: u64) -> Self {
        Self { number: 1, mark }
    }

    /// The one after this, made at this time.
    #[must_use]
    pub fn next(self, now: Timestamp, mark: u64) -> Self {
        Self { number: self.number.saturating_add(1).max(now.0), mark }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.mark)
    }
}

/// A text is no incarnation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no incarnation of a cluster")]
pub struct ParseIncarnationError(String);

impl FromStr for Incarnation {
    type Err = ParseIncarnationError;

    fn from_str(text: &str) -> Result<Self, ParseIncarnationError> {
        let parsed = || {
            let (number, mark) = text.split_once('-')?;
            let mark = Some(mark).filter(|mark| mark.len() == 16)?;
            Some(Self { number: number.parse().ok()?, mark: u64::from_str_radix(mark, 16).ok()? })
        };
        parsed().ok_or_else(|| ParseIncarnationError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_text_form_comes_back(number in any::<u64>(), mark in any::<u64>()) {
            let incarnation = Incarnation { number, mark };
            prop_assert_eq!(incarnation.to_string().parse(), Ok(incarnation));
        }

        #[test]
        fn the_next_is_later_whatever_the_clock_says(
            number in 0..u64::MAX,
            marks in any::<(u64, u64)>(),
            now in any::<u64>(),
        ) {
            let before = Incarnation { number, mark: marks.0 };
            prop_assert!(before.next(Timestamp(now), marks.1) > before);
        }
    }

    #[test]
    fn of_two_restores_everybody_prefers_the_same() {
        let backup = Incarnation::first(7);
        let (first, second) = (backup.next(Timestamp(100), 9), backup.next(Timestamp(200), 1));
        assert!(second > first, "the later one");
        let (one, other) = (backup.next(Timestamp(100), 1), backup.next(Timestamp(100), 2));
        assert!(other > one && one != other, "at the same moment the marks decide");
        // A backup that is older than a cluster which was restored meanwhile.
        assert!(Incarnation::default().next(Timestamp(300), 0) > second);
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in
            ["", "1", "1-", "-0000000000000001", "1-1", "1-000000000000000g", "x-0000000000000001"]
        {
            assert!(wrong.parse::<Incarnation>().is_err(), "{wrong}");
        }
    }
}
