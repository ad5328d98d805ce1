//! A cron expression: which minutes of which days.

use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant};

use super::ScheduleError;
use crate::id::Timestamp;

/// A 29th of February that is a Sunday may be forty years away, around a year such as 2100.
const DAYS: usize = 366 * 41;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The most days that each month has.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// One field: the numbers that fit, as bits, and whether it begins with `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    is_any: bool,
}

impl Field {
    fn has(self, number: u32) -> bool {
        self.bits & (1 << number) != 0
    }
}

/// What a field may hold.
struct Kind {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    base: u32,
}

const MINUTE: Kind = Kind { name: "minute (0 to 59)", first: 0, last: 59, names: &[], base: 0 };
const HOUR: Kind = Kind { name: "hour (0 to 23)", first: 0, last: 23, names: &[], base: 0 };
const DAY: Kind = Kind { name: "day of month (1 to 31)", first: 1, last: 31, names: &[], base: 0 };
const MONTH: Kind =
    Kind { name: "month (1 to 12, or jan to dec)", first: 1, last: 12, names: &MONTHS, base: 1 };
/// Sunday is 0 as well as 7.
const WEEKDAY: Kind = Kind {
    name: "day of week (0 to 7, or sun to sat)",
    first: 0,
    last: 7,
    names: &WEEKDAYS,
    base: 0,
};

impl Kind {
    fn field(&self, text: &str) -> Result<Field, ScheduleError> {
        let wrong = || ScheduleError::Field { field: self.name, text: text.to_owned() };
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part).ok_or_else(wrong)?;
        }
        Ok(Field { bits, is_any: text.starts_with('*') })
    }

    /// `*`, `a`, `a-b`, each but the single one with `/step`.
    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => self.range(first, last)?,
            None if step.is_some() => return None,
            None => (self.number(range)?, self.number(range)?),
        };
        let step = usize::try_from(step.unwrap_or(1)).ok().filter(|step| *step > 0)?;
        (first <= last).then(|| (first..=last).step_by(step).fold(0, |bits, n| bits | 1 << n))
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(position) => self.base + u32::try_from(position).ok()?,
            None => number(text)?,
        };
        (self.first..=self.last).contains(&number).then_some(number)
    }

    /// The ends of a range: `fri-sun` ends with the seventh day.
    fn range(&self, first: &str, last: &str) -> Option<(u32, u32)> {
        let (first, last) = (self.number(first)?, self.number(last)?);
        let is_sunday = self.last == 7 && last == 0 && first > 0;
        Some((first, if is_sunday { 7 } else { last }))
    }
}

/// Digits only.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl FromStr for Cron {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fields = match text {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            word if word.starts_with('@') => return Err(ScheduleError::Word(word.to_owned())),
            fields => fields,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ScheduleError::Fields(fields.len()));
        };
        let mut weekday = WEEKDAY.field(weekday)?;
        if weekday.has(7) {
            weekday.bits |= 1;
        }
        let cron = Self {
            minute: MINUTE.field(minute)?,
            hour: HOUR.field(hour)?,
            day: DAY.field(day)?,
            month: MONTH.field(month)?,
            weekday,
        };
        if cron.ever_comes() { Ok(cron) } else { Err(ScheduleError::Never) }
    }
}

impl Cron {
    fn ever_comes(&self) -> bool {
        let either = !self.day.is_any && !self.weekday.is_any;
        let months = (1..=12).filter(|month| self.month.has(*month));
        let mut longest = months.filter_map(|month| MONTH_DAYS.get(month as usize - 1));
        either || longest.any(|days| (1..=*days).any(|day| self.day.has(day)))
    }

    pub(super) fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let after = Instant::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
        // Clocks that are put back at midnight make a part of the day before come again.
        let mut date = zone.to_datetime(after).date().yesterday().ok()?;
        for _ in 0..DAYS {
            let tomorrow = date.tomorrow().ok()?;
            if let Some(found) = self.first_on(zone, date, after) {
                let next = self.first_on(zone, tomorrow, after);
                let found = next.map_or(found, |next| next.min(found));
                return u64::try_from(found.as_millisecond()).ok().map(Timestamp);
            }
            date = tomorrow;
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let in_month = u32::try_from(date.month()).is_ok_and(|month| self.month.has(month));
        let day = u32::try_from(date.day()).is_ok_and(|day| self.day.has(day));
        let weekday = self.weekday.has(match date.weekday() {
            Weekday::Sunday => 0,
            Weekday::Monday => 1,
            Weekday::Tuesday => 2,
            Weekday::Wednesday => 3,
            Weekday::Thursday => 4,
            Weekday::Friday => 5,
            Weekday::Saturday => 6,
        });
        let either = !self.day.is_any && !self.weekday.is_any;
        in_month && if either { day || weekday } else { day && weekday }
    }

    /// The first time after an instant that a date has.
    fn first_on(&self, zone: &TimeZone, date: Date, after: Instant) -> Option<Instant> {
        if !self.has_day(date) {
            return None;
        }
        let minutes = self.minutes();
        if let Some(midnight) = plain_day(zone, date) {
            let at = |minute| midnight.checked_add(SignedDuration::from_mins(minute)).ok();
            return minutes.filter_map(at).find(|at| *at > after);
        }
        let times = minutes.flat_map(|minute| self.instants(zone, date, minute));
        times.filter(|at| *at > after).min()
    }

    /// The minutes of a day, in order.
    fn minutes(&self) -> impl Iterator<Item = i64> + '_ {
        let hours = (0..24_u32).filter(|hour| self.hour.has(*hour));
        hours.flat_map(|hour| {
            let minutes = (0..60_u32).filter(|minute| self.minute.has(*minute));
            minutes.map(move |minute| i64::from(hour * 60 + minute))
        })
    }

    /// When the clocks of a zone show a minute of a day on which they change.
    fn instants(&self, zone: &TimeZone, date: Date, minute: i64) -> Vec<Instant> {
        let Ok(shown) = date.at(0, 0, 0, 0).checked_add(SignedDuration::from_mins(minute)) else {
            return Vec::new();
        };
        let offsets = match zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => vec![offset],
            AmbiguousOffset::Fold { before, after } if self.hour.is_any => vec![before, after],
            AmbiguousOffset::Fold { before, .. } => vec![before],
            AmbiguousOffset::Gap { .. } if self.hour.is_any => Vec::new(),
            AmbiguousOffset::Gap { before, .. } => {
                // By the clocks before the jump the time lies behind it.
                let behind = before.to_timestamp(shown).ok();
                let behind =
                    behind.and_then(|at| at.checked_add(SignedDuration::from_secs(1)).ok());
                let jump = behind.and_then(|at| zone.preceding(at).next());
                return jump.map(|jump| jump.timestamp()).into_iter().collect();
            }
        };
        offsets.iter().filter_map(|offset| offset.to_timestamp(shown).ok()).collect()
    }
}

/// Midnight of a day near which no clock changes.
fn plain_day(zone: &TimeZone, date: Date) -> Option<Instant> {
    let midnight = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible().ok()?;
    let hours = |hours| SignedDuration::from_hours(hours);
    let before = midnight.checked_sub(hours(4)).ok()?;
    let behind = midnight.checked_add(hours(28)).ok()?;
    let changes = zone.following(before).next().is_some_and(|next| next.timestamp() < behind);
    (!changes).then_some(midnight)
}
