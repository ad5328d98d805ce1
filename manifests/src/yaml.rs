//! The one place that names `serde_yaml`: what a bare scalar means, and YAML as an output form.

use serde::Serialize;
use serde_yaml::Value;

/// What a scalar without quotes means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Null,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// Anything else.
    Text,
}

impl Kind {
    /// In a message, before the text itself.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "the truth value",
            Self::Number => "the number",
            Self::Text => "the text",
        }
    }
}

/// A scalar without quotes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bare {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text,
}

/// What a scalar without quotes means to compose: true and false in the words of YAML 1.2, numbers also in those of
/// YAML 1.1 (`0777`, `0b11`, `1_000`), a date is a text.
fn bare(text: &str) -> Bare {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Bare::Null,
        "true" | "True" | "TRUE" => Bare::Bool(true),
        "false" | "False" | "FALSE" => Bare::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Bare::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Bare::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Bare::Float(f64::NEG_INFINITY),
        _ if text.starts_with('.') => float(text).map_or(Bare::Text, Bare::Float),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') => {
            let digits = text.replace('_', "");
            let float = || float(&digits).map_or(Bare::Text, Bare::Float);
            whole(&digits).map_or_else(float, Bare::Integer)
        }
        _ => Bare::Text,
    }
}

/// A whole number from `i64::MIN` to `u64::MAX`.
fn whole(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, radix) = match unsigned.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (&unsigned[2..], 16),
        Some("0b") => (&unsigned[2..], 2),
        Some("0o") => (&unsigned[2..], 8),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    if !digits.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let number = if text.starts_with('-') { -number } else { number };
    (unsigned.len() == text.len() || i64::try_from(number).is_ok()).then_some(number)
}

/// A decimal number such as `1.5`, `.5`, `1.` or `1e3`, unless it is too large.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let begins = unsigned.strip_prefix('.').unwrap_or(unsigned);
    if !begins.starts_with(|c: char| c.is_ascii_digit()) || !unsigned.chars().all(is_part) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What a scalar without quotes means.
pub(crate) fn kind(text: &str) -> Kind {
    match bare(text) {
        Bare::Null => Kind::Null,
        Bare::Bool(_) => Kind::Bool,
        Bare::Integer(_) | Bare::Float(_) => Kind::Number,
        Bare::Text => Kind::Text,
    }
}

/// A whole number without quotes, also written `0x1f`, `0o17`, `0777`, `0b11` or `1_000`.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match bare(text) {
        Bare::Integer(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

/// The keys of a JSON object; JSON is YAML too. The error says what is wrong with the text.
pub(crate) fn json_object(text: &str) -> Result<Vec<String>, String> {
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Mapping(pairs)) => {
            Ok(pairs.keys().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The text that a scalar without quotes becomes where compose wants a text: `1.10` is the number 1.1.
pub(crate) fn canonical(text: &str) -> String {
    match bare(text) {
        Bare::Bool(flag) => flag.to_string(),
        Bare::Integer(number) => number.to_string(),
        Bare::Float(number) => write_float(number),
        Bare::Null | Bare::Text => text.to_owned(),
    }
}

/// A number as Go prints it: the fewest digits that mean it, with an exponent below -4 and from 6 on.
fn write_float(number: f64) -> String {
    if number.is_nan() || number.is_infinite() {
        let words = [("+Inf", number == f64::INFINITY), ("-Inf", number == f64::NEG_INFINITY)];
        return words.iter().find(|(_, is)| *is).map_or("NaN", |(word, _)| word).to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-4..FIXED_BELOW).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Numbers with an exponent from this on are written with it.
const FIXED_BELOW: i32 = 6;

/// A value as YAML that means the same to this project and to compose.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, String> {
    let text = serde_yaml::to_string(value).map_err(|error| error.to_string())?;
    let mut value = serde_yaml::to_value(value).map_err(|error| error.to_string())?;
    let Some(mark) = ('\u{e000}'..='\u{f8ff}').find(|mark| !text.contains(*mark)) else {
        return Ok(text);
    };
    if !mark_texts(&mut value, mark) {
        return Ok(text);
    }
    let text = serde_yaml::to_string(&value).map_err(|error| error.to_string())?;
    Ok(text.replace(&format!("\\x01{mark}"), "").replace(&format!("@{mark}"), ""))
}

/// Puts a mark, which goes again, before texts that the writer would write otherwise than they are read; whether there
/// was one. It leaves quotes away from texts such as `1_000`: an `@` makes it write them. It takes separators of lines for
/// line breaks: a control character makes it write them as escapes.
fn mark_texts(value: &mut Value, mark: char) -> bool {
    match value {
        Value::String(text) => {
            let loses_quotes = bare(text) != Bare::Text
                && serde_yaml::from_str(text).is_ok_and(|read: Value| read.is_string());
            let is_broken = text.contains(['\u{85}', '\u{2028}', '\u{2029}']);
            if is_broken {
                text.insert_str(0, &format!("\u{1}{mark}"));
            } else if loses_quotes {
                text.insert_str(0, &format!("@{mark}"));
            }
            is_broken || loses_quotes
        }
        Value::Sequence(items) => {
            items.iter_mut().fold(false, |marked, item| mark_texts(item, mark) | marked)
        }
        Value::Mapping(pairs) => {
            let mut marked = false;
            for (mut key, mut item) in std::mem::take(pairs) {
                marked |= mark_texts(&mut key, mark) | mark_texts(&mut item, mark);
                pairs.insert(key, item);
            }
            marked
        }
        Value::Tagged(tagged) => mark_texts(&mut tagged.value, mark),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_bare_scalars_mean() {
        let kinds = ["", "~", "null", "true", "3", "3.8", "-1", "0x1f", "yes", "3.8.1", "a", "nil"]
            .map(kind);
        assert_eq!(kinds[..3], [Kind::Null; 3]);
        assert_eq!(kinds[3], Kind::Bool);
        assert_eq!(kinds[4..8], [Kind::Number; 4]);
        assert_eq!(kinds[8..], [Kind::Text; 4]);
        let integers = ["0x1f", "12", "1.5", "x", "0444", "1_000", "0b11", "99999999999999999999"];
        assert_eq!(
            integers.map(integer),
            [Some(31), Some(12), None, None, Some(292), Some(1000), Some(3), None]
        );
    }

    /// As `docker stack config` prints them.
    #[test]
    fn numbers_are_written_as_compose_does() {
        let table = [
            ("1.10", "1.1"),
            ("1e3", "1000"),
            ("0x1f", "31"),
            ("010", "8"),
            ("1_000", "1000"),
            (".5", "0.5"),
            ("+.5", "0.5"),
            ("+1", "1"),
            ("yes", "yes"),
            ("True", "true"),
            ("08", "8"),
            ("1e6", "1e+06"),
            ("1234567.0", "1.234567e+06"),
            ("123456.0", "123456"),
            ("1e20", "1e+20"),
            ("123456789.5", "1.234567895e+08"),
            ("-.inf", "-Inf"),
            ("99999999999999999999", "1e+20"),
            ("18446744073709551615", "18446744073709551615"),
            ("0o17", "15"),
            ("-017", "-15"),
            ("0b11", "3"),
            ("0b2", "0b2"),
            ("0x", "0x"),
            ("0x1p-2", "0x1p-2"),
            ("0x_1f", "31"),
            ("00", "0"),
            ("1:30", "1:30"),
            ("1e-7", "1e-07"),
            ("0.0001", "0.0001"),
            ("1.", "1"),
            ("-0", "0"),
            ("-0.0", "-0"),
            ("1_0.5", "10.5"),
            ("1.5e300", "1.5e+300"),
            ("1e400", "1e400"),
            ("2001-01-01", "2001-01-01"),
            ("+", "+"),
            ("-", "-"),
            (".", "."),
            ("1e", "1e"),
            ("0ä", "0ä"),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_like_numbers_stay_texts() {
        let texts = ["1_000", "0b11", "1", "@", "a"];
        assert_eq!(to_string(&texts).unwrap(), "- '1_000'\n- '0b11'\n- '1'\n- '@'\n- a\n");
        let texts = ["\u{2028} 1", "a\u{85}b\nc", "\u{2029}"];
        let written = to_string(&texts).unwrap();
        assert_eq!(written, "- \"\\L 1\"\n- \"a\\Nb\\nc\"\n- \"\\P\"\n");
        assert_eq!(serde_yaml::from_str::<Vec<String>>(&written).unwrap(), texts);
    }
}
