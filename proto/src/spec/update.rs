use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::version::ClusterVersion;

/// Whether the old or the new task of a slot goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new one runs, then the old one stops.
    StartFirst,
    /// All new ones run, then clients are led to them at once, then the old ones stop.
    BlueGreen,
}

impl UpdateOrder {
    /// Whether old and new tasks run beside each other.
    pub fn overlaps(self) -> bool {
        self != Self::StopFirst
    }

    /// The word for it in stack files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StopFirst => "stop-first",
            Self::StartFirst => "start-first",
            Self::BlueGreen => "blue-green",
        }
    }
}

impl fmt::Display for UpdateOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What becomes of an update when more of its tasks failed than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateFailureAction {
    /// It stops where it is.
    #[default]
    Pause,
    /// It goes on.
    Continue,
    /// The previous spec comes back.
    Rollback,
}

/// A part of a whole in millionths, so that it is exact.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ratio(u32);

/// Why a text is no [`Ratio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a number from 0 to 1 with at most six digits after the point, such as `0.25`")]
pub struct ParseRatioError;

impl Ratio {
    /// The whole, in millionths.
    const ONE: u32 = 1_000_000;

    /// So many millionths; `None` above the whole.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::ONE).then_some(Self(millionths))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Whether `part` of `whole` is more than this.
    pub fn is_exceeded(self, part: u32, whole: u32) -> bool {
        u64::from(part) * u64::from(Self::ONE) > u64::from(self.0) * u64::from(whole)
    }
}

impl FromStr for Ratio {
    type Err = ParseRatioError;

    fn from_str(text: &str) -> Result<Self, ParseRatioError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        let part = part.trim_end_matches('0');
        if whole.is_empty() && part.is_empty() || !digits(whole) || !digits(part) || part.len() > 6
        {
            return Err(ParseRatioError);
        }
        let whole: u32 = format!("0{whole}").parse().map_err(|_| ParseRatioError)?;
        let part: u32 = format!("{part:0<6}").parse().map_err(|_| ParseRatioError)?;
        let millionths = whole.checked_mul(Self::ONE).and_then(|whole| whole.checked_add(part));
        millionths.and_then(Self::from_millionths).ok_or(ParseRatioError)
    }
}

impl fmt::Display for Ratio {
    /// As a decimal number: `0.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::ONE, self.0 % Self::ONE);
        match format!("{part:06}").trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

/// How running tasks are exchanged for tasks of another spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// Slots at a time; 0 is all.
    pub parallelism: u32,
    /// Time between batches.
    pub delay: Duration,
    /// Which goes first.
    pub order: UpdateOrder,
    /// What becomes of an update that fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure_action: UpdateFailureAction,
    /// A task that ends by itself within this time of its start has failed; so long, too, the last one is watched.
    #[serde(default = "monitor", skip_serializing_if = "is_monitor")]
    pub monitor: Duration,
    /// Of the slots that are exchanged, how many may fail.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_failure_ratio: Ratio,
    /// A slot whose new task does not run within this time has failed.
    #[serde(default = "progress_deadline", skip_serializing_if = "is_progress_deadline")]
    pub progress_deadline: Duration,
    /// For so long the old tasks of a blue-green update stand by after the switch, at least as long as `monitor`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hold: Duration,
}

impl UpdatePolicy {
    /// Swarm's monitor where nothing is said.
    pub const MONITOR: Duration = Duration::from_secs(5);
    /// The progress deadline where nothing is said.
    pub const PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let Self { parallelism, delay, order, .. } = *self;
        let first = Self { parallelism, delay, order, ..Self::default() };
        let is_first = *self == first && order != UpdateOrder::BlueGreen;
        if is_first { ClusterVersion::FIRST } else { ClusterVersion(4) }
    }
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            order: UpdateOrder::StopFirst,
            failure_action: UpdateFailureAction::Pause,
            monitor: Self::MONITOR,
            max_failure_ratio: Ratio::default(),
            progress_deadline: Self::PROGRESS_DEADLINE,
            hold: Duration::ZERO,
        }
    }
}

fn monitor() -> Duration {
    UpdatePolicy::MONITOR
}

fn is_monitor(monitor: &Duration) -> bool {
    *monitor == UpdatePolicy::MONITOR
}

fn progress_deadline() -> Duration {
    UpdatePolicy::PROGRESS_DEADLINE
}

fn is_progress_deadline(deadline: &Duration) -> bool {
    *deadline == UpdatePolicy::PROGRESS_DEADLINE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_read_and_written_exactly() {
        for (text, millionths) in
            [("0", 0), ("0.25", 250_000), ("1", 1_000_000), (".1", 100_000), ("0.000001", 1)]
        {
            let ratio: Ratio = text.parse().unwrap();
            assert_eq!(ratio.millionths(), millionths, "{text}");
            assert_eq!(ratio.to_string().parse::<Ratio>(), Ok(ratio));
        }
        assert_eq!("1.000".parse::<Ratio>().unwrap().to_string(), "1");
        for text in ["", ".", "1.1", "-0.1", "0.0000001", "1e-1", "half", "99999999999"] {
            assert_eq!(text.parse::<Ratio>(), Err(ParseRatioError), "{text}");
        }
    }

    #[test]
    fn a_ratio_is_exceeded_only_by_more() {
        let third: Ratio = "0.333333".parse().unwrap();
        assert!(!third.is_exceeded(0, 3));
        assert!(third.is_exceeded(1, 3), "a third is a little more than 0.333333");
        let half: Ratio = "0.5".parse().unwrap();
        assert!(!half.is_exceeded(2, 4));
        assert!(half.is_exceeded(3, 4));
        assert!(Ratio::default().is_exceeded(1, u32::MAX));
    }
}
