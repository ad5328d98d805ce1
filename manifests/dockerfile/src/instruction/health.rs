//! `HEALTHCHECK`.

use super::{Command, Source};
use crate::image::Healthcheck;
use crate::lines::first_word;
use crate::problem::cut;

/// The check, complete: nothing in it is replaced.
pub(crate) type Health = Healthcheck;

impl Source<'_> {
    pub(super) fn health(&mut self) -> Option<Health> {
        let mut health = Health {
            interval: self.duration("interval"),
            timeout: self.duration("timeout"),
            start_period: self.duration("start-period"),
            start_interval: self.duration("start-interval"),
            retries: self.retries(),
            ..Health::default()
        };
        let has_options = health != Health::default();
        self.no_more_flags(&["interval", "timeout", "start-period", "start-interval", "retries"]);
        let (kind, rest) = first_word(self.rest);
        match kind.to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() && !has_options => health.test = vec!["NONE".to_owned()],
            "NONE" => {
                self.tell("has `NONE` with something else, which means nothing there");
                return None;
            }
            "CMD" => health.test = self.test(rest)?,
            _ => {
                let message = format!("has `{}` where `CMD` or `NONE` belongs", cut(kind));
                self.hint(&message, "write `HEALTHCHECK CMD …`");
                return None;
            }
        }
        Some(health)
    }

    fn test(&mut self, rest: &str) -> Option<Vec<String>> {
        let list = match crate::words::json(rest) {
            None => Command::Shell(rest.to_owned()),
            Some(Ok(list)) => Command::Exec(list),
            Some(Err(_)) => {
                self.hint("has a list that does not only hold strings", "put quotes around each");
                return None;
            }
        };
        match list {
            Command::Shell(text) if !text.is_empty() => Some(vec!["CMD-SHELL".to_owned(), text]),
            Command::Exec(list) if !list.is_empty() => {
                Some([vec!["CMD".to_owned()], list].concat())
            }
            _ => {
                self.tell("has no command after `CMD`");
                None
            }
        }
    }

    /// Nanoseconds.
    fn duration(&mut self, name: &str) -> u64 {
        let Some(text) = self.flag(name) else { return 0 };
        match duration(&text) {
            Some(time) if time == 0 || time >= 1_000_000 => time,
            Some(_) => {
                self.tell(&format!("has `--{name}` of less than a millisecond"));
                0
            }
            None => {
                let message = format!("has `--{name}={}`, which is no time", cut(&text));
                self.hint(&message, "write a number with its unit, such as 30s or 1m30s");
                0
            }
        }
    }

    fn retries(&mut self) -> u64 {
        let Some(text) = self.flag("retries") else { return 0 };
        let number = text.parse::<u32>().ok().filter(|number| *number <= i32::MAX.unsigned_abs());
        if number.is_none() {
            self.tell(&format!("has `--retries={}`, which is no such number", cut(&text)));
        }
        u64::from(number.unwrap_or(0))
    }
}

/// Go's durations: `1h2m3.5s`, in nanoseconds.
fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
        ];
        let (unit, factor) = units.iter().find(|(unit, _)| after.starts_with(unit))?;
        sum = sum.checked_add(scaled(number, *factor)?)?;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(sum).filter(|sum| i64::try_from(*sum).is_ok())
}

/// A decimal number times a factor, without a float.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(factor)?;
    let mut unit = factor;
    for digit in part.bytes().take(18) {
        unit /= 10;
        sum = sum.checked_add(u64::from(digit - b'0') * unit)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_those_of_go() {
        assert_eq!(duration("1m30s"), Some(90_000_000_000));
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(duration(".5h"), Some(1_800_000_000_000));
        assert_eq!(duration("2ms3us4ns"), Some(2_003_004));
        assert_eq!(duration("0"), Some(0));
        for text in ["", "5", "s", "1x", "1..5s", "-1s", "99999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
