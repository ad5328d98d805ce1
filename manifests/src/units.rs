//! Durations and sizes as compose writes them.

use std::fmt::Write as _;
use std::time::Duration;

/// A duration: numbers with units, largest first, such as `1m30s`, `500ms`, `1.5h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == &after[..end])?;
        nanoseconds = nanoseconds.checked_add(times(number, unit)?)?;
        rest = &after[end..];
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanoseconds))
}

/// A duration as [`parse_duration`] reads it, largest unit first: `1m30s`.
pub(crate) fn write_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            let _ = write!(text, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of CPUs as [`parse_millicpus`] reads it: `1.5`.
pub(crate) fn write_millicpus(millicpus: u64) -> String {
    let text = format!("{}.{:03}", millicpus / 1000, millicpus % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of bytes: `512`, `64m`, `1.5gb`, `2GiB`. Units count in powers of 1024, as Docker's do.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text.trim())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = match unit.as_str() {
        "" | "b" => return times(number, 1),
        unit => unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit),
    };
    let power = ["k", "m", "g", "t", "p"].into_iter().position(|known| known == letter)?;
    times(number, 1024_u64.checked_pow(u32::try_from(power).ok()? + 1)?)
}

/// A number of CPUs in thousandths: `0.5`, `2`, `1.25`. Finer parts are refused.
pub(crate) fn parse_millicpus(text: &str) -> Option<u64> {
    let (number, rest) = split_number(text)?;
    let fine = number.split_once('.').is_some_and(|(_, part)| part.trim_end_matches('0').len() > 3);
    if rest.is_empty() && !fine { times(number, 1000) } else { None }
}

/// A decimal number (`1`, `1.5`, `.5`) at the start of a text, and what follows.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = &text[..end];
    let digits = number.bytes().any(|c| c.is_ascii_digit());
    (digits && number.matches('.').count() <= 1).then(|| (number, &text[end..]))
}

/// A decimal number times a unit, rounded down.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part = &part[..part.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let fraction = u64::try_from(part * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1x", None),
            ("-1s", None),
            ("99999999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let durations = [0, 1, 1_500, 90_000_000_000, 3_600_000_000_001, u64::MAX];
        for duration in durations.map(Duration::from_nanos) {
            assert_eq!(parse_duration(&write_duration(duration)), Some(duration));
        }
        assert_eq!(write_duration(Duration::from_millis(90_500)), "1m30s500ms");
        for millicpus in [1, 10, 100, 250, 1000, 1500, 64_000] {
            assert_eq!(parse_millicpus(&write_millicpus(millicpus)), Some(millicpus));
        }
        assert_eq!([1500, 64_000].map(write_millicpus), ["1.5", "64"]);
    }

    #[test]
    fn sizes() {
        let table = [
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("1.5GB", Some(3 << 29)),
            ("2KiB", Some(2048)),
            ("10 mb", Some(10 << 20)),
            ("1e3", None),
            ("m", None),
            ("1.2.3k", None),
            ("1z", None),
            ("99999999999999g", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn cpus() {
        let found = ["0.5", "2", "1.250", ".1", "0.0001", "1x", ""].map(parse_millicpus);
        assert_eq!(found, [Some(500), Some(2000), Some(1250), Some(100), None, None, None]);
    }
}
