//! One line of a container's log: `2016-10-06T00:17:09.669794202Z stdout F text`.

/// A line as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without the line's end.
    pub content: Vec<u8>,
    /// The text goes on in the next line of the same stream.
    pub partial: bool,
}

/// Reads a line, without its end; `None` when it is none.
pub(super) fn parse(line: &[u8]) -> Option<Line> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = parse_time(parts.next()?)?;
    let stream = match parts.next()? {
        b"stdout" => "stdout",
        b"stderr" => "stderr",
        _ => return None,
    };
    let partial = match parts.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(Line { time, stream, content: parts.next()?.to_vec(), partial })
}

/// A time in UTC, with up to nine digits behind the point.
fn parse_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut date = date.split('-').map(str::parse::<i64>);
    let mut clock = clock.split(':').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u64 = digits.parse().ok()?;
    let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Days since 1970-01-01, counting years from March so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stdout F a text  with gaps").unwrap();
        assert_eq!(line.time, 1_475_713_029_669_794_202);
        assert_eq!((line.stream, line.partial), ("stdout", false));
        assert_eq!(line.content, b"a text  with gaps");
        let line = parse(b"1970-01-01T00:00:00Z stderr P ").unwrap();
        assert_eq!((line.time, line.stream, line.partial), (0, "stderr", true));
        assert!(line.content.is_empty());
        assert_eq!(parse_time(b"2024-02-29T12:00:00.5Z"), Some(1_709_208_000_500_000_000));
    }

    #[test]
    fn what_is_no_line_is_none() {
        let table = [
            "",
            "x",
            "2016-10-06T00:17:09Z stdout F",
            "2016-13-06T00:17:09Z stdout F x",
            "2016-10-06T00:17:09Z stdin F x",
            "2016-10-06T00:17:09Z stdout G x",
        ];
        for text in table {
            assert_eq!(parse(text.as_bytes()), None, "`{text}`");
        }
    }
}
