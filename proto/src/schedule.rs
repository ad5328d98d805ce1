//! When a job runs by itself: a cron expression or a period, read in a time zone.
//!
//! An expression has the five fields of Vixie cron (minute, hour, day of month, month, day of week) with lists, ranges,
//! steps and names, or is one of its short forms (`@hourly` and the like), or `@every` with a period. Where both the day
//! of month and the day of week are restricted, a day that fits either counts, as POSIX has it; a field that begins with
//! `*` does not restrict.
//!
//! Where clocks change: a time that is left out runs at the moment at which the clocks jump, once; a time that comes
//! twice runs the first time only. An hour that begins with `*` counts hours as they pass: none is made up for, and one
//! that comes twice runs twice.

mod cron;

use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::id::Timestamp;
use cron::Cron;

/// Time zones as this program brings them, whatever its host has.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// How far back times are looked for, one after the other.
const LOOKS: [Duration; 5] = [
    Duration::from_mins(1),
    Duration::from_hours(1),
    Duration::from_hours(24),
    Duration::from_hours(24 * 32),
    Duration::from_hours(24 * 366 * 41),
];

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Another number of fields.
    #[error("a schedule has five fields, not {0}")]
    Fields(usize),
    /// A field that cannot be read.
    #[error("`{text}` is not a valid {field}")]
    Field {
        /// Which, as a person would say it.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// An unknown word after `@`.
    #[error("`{0}` is not a known short form of a schedule")]
    Word(String),
    /// A period that cannot be read, or is too short.
    #[error("`{0}` is not a valid period")]
    Period(String),
    /// Days that no year has.
    #[error("the schedule never comes: no month that it names has such a day")]
    Never,
    /// An unknown time zone.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

impl ScheduleError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Fields(_) | Self::Never => {
                "write minute, hour, day of month, month and day of week, such as `0 3 * * *`"
            }
            Self::Field { .. } => {
                "write `*`, numbers, ranges such as `1-5`, steps such as `*/15`, or lists of them"
            }
            Self::Word(_) => {
                "known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually and @every"
            }
            Self::Period(_) => "write a second or longer, such as `@every 90s` or `@every 1h30m`",
            Self::Zone(_) => "write a name of the IANA database, such as `Europe/Berlin`",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Times {
    /// At multiples of so many milliseconds since the Unix epoch.
    Every(u64),
    Cron(Cron),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Schedule {
    times: Times,
    zone: TimeZone,
}

impl Schedule {
    /// Reads an expression, and the name of a time zone.
    pub fn new(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = ZONES.get(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        let expression = expression.trim();
        let times = match expression.strip_prefix("@every") {
            Some(text) => Times::Every(period(text.trim())?),
            None => Times::Cron(expression.parse()?),
        };
        Ok(Self { times, zone })
    }

    /// The first time after a point; `None` when none comes within forty years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Every(period) => {
                (after.0 / period).checked_add(1)?.checked_mul(*period).map(Timestamp)
            }
            Times::Cron(cron) => cron.next(&self.zone, after),
        }
    }

    /// The last times after one point and not after another, at most so many, earliest first.
    pub fn latest(&self, after: Timestamp, until: Timestamp, most: usize) -> Vec<Timestamp> {
        let mut found = Vec::new();
        for look in LOOKS {
            let back = u64::try_from(look.as_millis()).unwrap_or(u64::MAX);
            let start = after.max(Timestamp(until.0.saturating_sub(back)));
            found = self.between(start, until);
            if found.len() >= most || start == after {
                break;
            }
        }
        found.split_off(found.len().saturating_sub(most))
    }

    /// All times after one point and not after another.
    fn between(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let next = |at: &Timestamp| self.next(*at).filter(|next| *next <= until);
        std::iter::successors(next(&after), next).collect()
    }
}

/// `1h30m` in milliseconds.
fn period(text: &str) -> Result<u64, ScheduleError> {
    let wrong = || ScheduleError::Period(text.to_owned());
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next().ok_or_else(wrong)?;
        let length = match unit {
            'd' => 86_400_000,
            'h' => 3_600_000,
            'm' => 60_000,
            's' => 1_000,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(length).and_then(|n| n.checked_add(total)).ok_or_else(wrong)?;
        rest = &rest[end + unit.len_utf8()..];
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests;
