//! `${…}` in values (never in keys): `$VAR`, `${VAR}`, `${VAR:-default}`, `${VAR-default}`, `${VAR:?error}`,
//! `${VAR?error}`, `${VAR:+other}`, `${VAR+other}`, nested, and `$$` for a dollar sign.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::problem::Problems;
use crate::tree::{At, Data, Node};

/// Nested `${…}` deeper than this are refused.
const MAX_DEPTH: usize = 16;
/// A value that grows beyond this is refused.
const MAX_LENGTH: usize = 1 << 20;

/// All values of a file together grow by at most this, whatever the variables hold.
const MAX_GROWTH: usize = 8 << 20;

type Variables = BTreeMap<String, String>;

/// Where a variable is looked for, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a>(pub(crate) [Option<&'a Variables>; 3]);

impl<'a> Scope<'a> {
    /// One place.
    pub(crate) fn of(variables: &'a Variables) -> Self {
        Self([Some(variables), None, None])
    }

    /// Two places.
    pub(crate) fn of_two(first: &'a Variables, second: &'a Variables) -> Self {
        Self([Some(first), Some(second), None])
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a String> {
        self.0.into_iter().flatten().find_map(|variables| variables.get(name))
    }
}

/// How much texts with variables in them have grown to, together.
#[derive(Debug, Default)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    fn spend(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_add(bytes));
    }

    /// Whether nothing more may grow.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.get() > MAX_GROWTH
    }
}

/// Replaces in all values of a tree, as long as the budget lasts.
pub(crate) fn replace(
    node: &mut Node,
    variables: &Variables,
    budget: &Budget,
    problems: &Problems,
) {
    let at = node.at;
    match &mut node.data {
        Data::Sequence(items) => {
            for item in items {
                replace(item, variables, budget, problems);
            }
        }
        Data::Mapping(pairs) => {
            for (_, value) in pairs {
                replace(value, variables, budget, problems);
            }
        }
        // Once nothing more grows, the file is refused.
        Data::Scalar { text, plain } if text.contains('$') && !budget.is_spent() => {
            let scope = Scope::of(variables);
            let template = Template { scope, problems, at, lone_dollars: false, budget };
            let Some(new) = template.value(text) else {
                // What is wrong with the value itself would only be a consequence.
                problems.settle(at);
                return;
            };
            // What a variable holds is a text; where a number is wanted, it is read as one.
            *plain = false;
            *text = new;
        }
        Data::Null | Data::Scalar { .. } => {}
    }
}

struct Invalid {
    message: String,
    hint: String,
    /// The bytes that were made before it showed.
    made: usize,
}

/// One text with variables in it.
pub(crate) struct Template<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) problems: &'a Problems,
    pub(crate) at: At,
    /// Whether a `$` that no name follows stands for itself.
    pub(crate) lone_dollars: bool,
    pub(crate) budget: &'a Budget,
}

impl Template<'_> {
    /// The text with its variables filled in; what is wrong is told to the problems.
    pub(crate) fn value(&self, text: &str) -> Option<String> {
        let expanded = self.expand(text, 0);
        self.budget.spend(expanded.as_ref().map_or_else(|invalid| invalid.made, String::len));
        if self.budget.is_spent() {
            let message = "with the variables filled in, the file becomes larger than 8 MiB";
            self.problems.error_hint(self.at, message, "shorten the variables");
            return None;
        }
        match expanded {
            Ok(value) => Some(value),
            Err(Invalid { message, hint, .. }) => {
                self.problems.error_hint(self.at, message, hint);
                None
            }
        }
    }

    fn expand(&self, text: &str, depth: usize) -> Result<String, Invalid> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(place) = rest.find('$') {
            out.push_str(&rest[..place]);
            rest = self.dollar(&rest[place + 1..], &mut out, depth)?;
            if out.len() > MAX_LENGTH {
                let message = "the value becomes longer than 1 MiB".to_owned();
                let hint = "shorten the variables".to_owned();
                return Err(Invalid { message, hint, made: out.len() });
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
        if name.is_empty() && self.lone_dollars {
            out.push('$');
            return Ok(rest);
        }
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
        let set = self.scope.get(name).filter(|value| !(or_empty && value.is_empty()));
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
        if let Some(value) = self.scope.get(name) {
            return value;
        }
        let message = format!("variable `{name}` is not set, it counts as empty");
        self.problems.warn(self.at, message);
        ""
    }
}

fn invalid(message: &str, hint: &str) -> Invalid {
    Invalid { message: message.to_owned(), hint: hint.to_owned(), made: 0 }
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
        let scope = Scope::of(&variables);
        let at = At::default();
        let budget = &Budget::default();
        let template = Template { scope, problems: &problems, at, lone_dollars: false, budget };
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
