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

/// What a scalar without quotes means under the core schema of YAML 1.2.
pub(crate) fn kind(text: &str) -> Kind {
    const LONGEST: usize = 40;
    let may_be_more = text.starts_with(|c: char| c.is_ascii_digit() || "+-.~nNtTfF".contains(c))
        || text.is_empty();
    let is_one_word = text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.~_".contains(c));
    if !may_be_more || !is_one_word || text.len() > LONGEST {
        return Kind::Text;
    }
    match serde_yaml::from_str(text) {
        Ok(Value::Null) => Kind::Null,
        Ok(Value::Bool(_)) => Kind::Bool,
        Ok(Value::Number(_)) => Kind::Number,
        _ => Kind::Text,
    }
}

/// A whole number without quotes, also written `0x1f` or `0o17`.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match kind(text) {
        Kind::Number => serde_yaml::from_str(text).ok(),
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

/// A value as YAML.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
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
        assert_eq!(
            [integer("0x1f"), integer("12"), integer("1.5"), integer("x")],
            [Some(31), Some(12), None, None]
        );
    }
}
