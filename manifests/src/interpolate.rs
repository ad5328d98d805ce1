//! `${…}` in values (never in keys): `$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?error}`,
//! `${VAR?error}`, `${VAR:+other}`, `${VAR+other}`, nested, and `$$` for a dollar sign.

use std::collections::BTreeMap;

use crate::problem::Problems;
use crate::tree::{At, Data, Node};

/// Nested `${…}` deeper than this are refused.
const MAX_DEPTH: usize = 16;
/// A value that grows beyond this is refused.
const MAX_LENGTH: usize = 1 << 20;

type Variables = BTreeMap<String, String>;

/// Replaces in all values of a tree.
pub(crate) fn replace(node: &mut Node, variables: &Variables, problems: &Problems<'_>) {
    let at = node.at;
    match &mut node.data {
        Data::Sequence(items) => {
            for item in items {
                replace(item, variables, problems);
            }
        }
        Data::Mapping(pairs) => {
            for (_, value) in pairs {
                replace(value, variables, problems);
            }
        }
        Data::Scalar { text, plain } if text.contains('$') => {
            let template = Template { variables, problems, at };
            match template.expand(text, 0) {
                Ok(new) => {
                    // What became empty is an empty text, not nothing.
                    *plain = *plain && !new.is_empty();
                    *text = new;
                }
                Err(Invalid { message, hint }) => problems.error_hint(at, message, hint),
            }
        }
        Data::Null | Data::Scalar { .. } => {}
    }
}

struct Invalid {
    message: String,
    hint: String,
}

struct Template<'a, 'p> {
    variables: &'a Variables,
    problems: &'a Problems<'p>,
    at: At,
}

impl Template<'_, '_> {
    fn expand(&self, text: &str, depth: usize) -> Result<String, Invalid> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(place) = rest.find('$') {
            out.push_str(&rest[..place]);
            rest = self.dollar(&rest[place + 1..], &mut out, depth)?;
            if out.len() > MAX_LENGTH {
                return Err(invalid(
                    "the value becomes longer than 1 MiB",
                    "shorten the variables",
                ));
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What follows a dollar sign; returns what follows that.
    fn dollar<'t>(
        &self,
        rest: &'t str,
        out: &mut String,
        depth: usize,
    ) -> Result<&'t str, Invalid> {
        if let Some(rest) = rest.strip_prefix('$') {
            out.push('$');
            return Ok(rest);
        }
        if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| {
                invalid(
                    "`${` is never closed",
                    "close it with `}`, or write `$$` for a dollar sign",
                )
            })?;
            if depth >= MAX_DEPTH {
                return Err(invalid("`${…}` is nested deeper than 16 levels", "use fewer levels"));
            }
            out.push_str(&self.braced(&inner[..end], depth)?);
            return Ok(&inner[end + 1..]);
        }
        let (name, rest) = split_name(rest);
        if name.is_empty() {
            let hint = "write `$$` for a dollar sign, `${NAME}` for a variable";
            return Err(invalid("`$` is not followed by a variable's name", hint));
        }
        out.push_str(self.value_or_warn(name));
        Ok(rest)
    }

    fn braced(&self, inner: &str, depth: usize) -> Result<String, Invalid> {
        let (name, rest) = split_name(inner);
        if name.is_empty() {
            let message = format!(
                "`${{{}}}` does not start with a variable's name",
                crate::tree::shorten(inner)
            );
            return Err(invalid(
                &message,
                "a name is letters, digits and `_`, and starts with no digit",
            ));
        }
        if rest.is_empty() {
            return Ok(self.value_or_warn(name).to_owned());
        }
        let (or_empty, operator) = match rest.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, rest),
        };
        let set = self.variables.get(name).filter(|value| !(or_empty && value.is_empty()));
        let (operator, word) = operator.split_at_checked(1).unwrap_or_default();
        match (operator, set) {
            ("-" | "?", Some(value)) => Ok(value.clone()),
            ("-", None) | ("+", Some(_)) => self.expand(word, depth + 1),
            ("+", None) => Ok(String::new()),
            ("?", None) => {
                let why = self.expand(word, depth + 1)?;
                let message = if why.is_empty() {
                    format!("variable `{name}` must be set")
                } else {
                    format!("variable `{name}` must be set: {}", crate::tree::shorten(&why))
                };
                Err(invalid(&message, &format!("set it for this command: `{name}=… swarmctl …`")))
            }
            _ => {
                let message = format!("`${{{}}}` is not a valid form", crate::tree::shorten(inner));
                Err(invalid(
                    &message,
                    "after the name come `:-`, `-`, `:?`, `?`, `:+` or `+`, or nothing",
                ))
            }
        }
    }

    fn value_or_warn(&self, name: &str) -> &str {
        if let Some(value) = self.variables.get(name) {
            return value;
        }
        let message = format!("variable `{name}` is not set, it counts as empty");
        self.problems.warn(self.at, message);
        ""
    }
}

fn invalid(message: &str, hint: &str) -> Invalid {
    Invalid { message: message.to_owned(), hint: hint.to_owned() }
}

fn split_name(text: &str) -> (&str, &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return ("", text);
    }
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

/// Where the `}` stands that closes an open `${`.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut open, mut place) = (0_usize, 0);
    while place < bytes.len() {
        match bytes[place] {
            b'$' if bytes.get(place + 1) == Some(&b'{') => {
                open += 1;
                place += 1;
            }
            b'$' if bytes.get(place + 1) == Some(&b'$') => place += 1,
            b'}' if open == 0 => return Some(place),
            b'}' => open -= 1,
            _ => {}
        }
        place += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        let variables = [("A", "1"), ("EMPTY", ""), ("LONG_2", "x y")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let problems = Problems::new(&[]);
        let variables = Variables::from(variables);
        let template = Template { variables: &variables, problems: &problems, at: At::default() };
        template.expand(text, 0).unwrap_or_else(|invalid| format!("error: {}", invalid.message))
    }

    #[test]
    fn every_form() {
        let table = [
            ("$A-${A}b$LONG_2.", "1-1bx y."),
            ("$$A $${A}", "$A ${A}"),
            ("${EMPTY:-d}${EMPTY-d}${NO-d}${NO:-}", "dd"),
            ("${A:+set}${EMPTY:+set}${EMPTY+set}${NO+set}", "setset"),
            ("${NO:-${EMPTY:-${A}}}", "1"),
            ("${NO:-a$$b}", "a$b"),
            ("${NO:?gone}", "error: variable `NO` must be set: gone"),
            ("${EMPTY?gone}", ""),
            ("$1", "error: `$` is not followed by a variable's name"),
            ("cost: 5$", "error: `$` is not followed by a variable's name"),
            ("${A", "error: `${` is never closed"),
            ("${}", "error: `${}` does not start with a variable's name"),
            ("${A!x}", "error: `${A!x}` is not a valid form"),
            ("${A:}", "error: `${A:}` is not a valid form"),
            ("${A:ä}", "error: `${A:ä}` is not a valid form"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text), expected, "{text}");
        }
    }
}
