//! Files of variables, such as `.env` and those of `env_file`: `KEY=value` lines with quotes, escapes, values over
//! several lines, `export`, comments, and `${…}` in values that do not stand in single quotes.

use std::collections::BTreeMap;

use crate::interpolate::{Budget, Scope, Template};
use crate::problem::Problems;
use crate::tree::{At, shorten};

/// How a file of variables is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As compose reads it, with quotes, escapes and variables.
    Compose,
    /// `format: raw`: a value is what follows the `=`, as it is.
    Raw,
}

/// The variables of a file in its order. A key without `=` has no value. `outer` goes before what the file itself said.
pub(crate) fn read(
    source: usize,
    form: Form,
    outer: Scope<'_>,
    budget: &Budget,
    problems: &Problems,
) -> Vec<(String, Option<String>)> {
    let Some(content) = problems.source(source) else { return Vec::new() };
    let start = At { source, line: 1, column: 1, width: 1 };
    let Ok(text) = std::str::from_utf8(&content.content) else {
        problems.error_hint(start, "the file is not UTF-8 text", "save it with the encoding UTF-8");
        return Vec::new();
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(place) = text.find('\0') {
        let line = text[..place].matches('\n').count() + 1;
        problems.error(At { line, ..start }, "the file has a zero byte here");
        return Vec::new();
    }
    let own = BTreeMap::new();
    let mut reader = Reader { text, source, at: 0, line: 1, form, outer, own, problems, budget };
    let mut found = Vec::new();
    while reader.at < text.len() && !reader.budget.is_spent() {
        found.extend(reader.next());
    }
    found
}

struct Reader<'a> {
    text: &'a str,
    source: usize,
    /// Where it is, in bytes.
    at: usize,
    /// The line of that place.
    line: usize,
    form: Form,
    outer: Scope<'a>,
    own: BTreeMap<String, String>,
    problems: &'a Problems,
    budget: &'a Budget,
}

type Pair = (String, Option<String>);

impl<'a> Reader<'a> {
    /// The variable of the next line, where it has one.
    fn next(&mut self) -> Option<Pair> {
        let line = self.rest().split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.skip_line();
            return None;
        }
        let pair = self.pair(line);
        self.skip_line();
        if let Some((key, Some(value))) = &pair {
            self.own.insert(key.clone(), value.clone());
        }
        pair
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_line(&mut self) {
        let rest = self.rest();
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        self.line += 1;
    }

    /// A place in the present line, `offset` bytes after its start.
    fn place(&self, line: &str, offset: usize, width: usize) -> At {
        let column = line.get(..offset).map_or(0, |before| before.chars().count()) + 1;
        At { source: self.source, line: self.line, column, width: width.max(1) }
    }

    fn pair(&mut self, line: &'a str) -> Option<Pair> {
        let indent = line.len() - line.trim_start().len();
        let mut start = indent;
        if let Some(rest) = line[indent..].strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            start = line.len() - rest.trim_start().len();
        }
        let separators: &[char] = if self.form == Form::Raw { &['='] } else { &['=', ':'] };
        let end = line[start..].find(separators).map_or(line.len(), |end| start + end);
        let key = line[start..end].trim_end();
        let key = if end == line.len() { key.split(" #").next().unwrap_or_default() } else { key };
        let key = key.trim_end();
        let is_part = |c: char| c.is_alphanumeric() || "_.-[]/".contains(c);
        if key.is_empty() || !key.chars().all(is_part) {
            let at = self.place(line, start, key.chars().count());
            let message = format!("`{}` is not a variable's name", shorten(key));
            self.problems.error_hint(at, message, "write each variable as `NAME=value`");
            return None;
        }
        if end == line.len() {
            return Some((key.to_owned(), self.outer.get(key).cloned()));
        }
        let after = &line[end + 1..];
        if self.form == Form::Raw {
            return Some((key.to_owned(), Some(after.trim_end_matches('\r').to_owned())));
        }
        let value = end + 1 + after.len() - after.trim_start().len();
        let quote = line[value..].chars().next().filter(|c| *c == '"' || *c == '\'');
        let value = match quote {
            Some(quote) => self.quoted(line, value, quote)?,
            None => self.plain(line, value)?,
        };
        Some((key.to_owned(), Some(value)))
    }

    /// Up to the end of the line, or to a `#` after a space.
    fn plain(&self, line: &str, start: usize) -> Option<String> {
        let text = &line[start..];
        let comment = text
            .char_indices()
            .find(|(at, c)| *c == '#' && (*at == 0 || text[..*at].ends_with([' ', '\t'])));
        let text = text[..comment.map_or(text.len(), |(at, _)| at)].trim_end();
        self.expand(text, self.place(line, start, text.chars().count()))
    }

    /// Up to the closing quote, which may stand on a later line.
    fn quoted(&mut self, line: &'a str, start: usize, quote: char) -> Option<String> {
        let at = self.place(line, start, 1);
        let body = &self.rest()[start + 1..];
        let mut value = String::new();
        let mut characters = body.char_indices();
        let end = loop {
            match characters.next() {
                Some((end, c)) if c == quote => break Some(end),
                Some((_, '\\')) => match characters.next() {
                    Some((_, c)) => escape(quote, c, &mut value),
                    None => break None,
                },
                Some((_, c)) => value.push(c),
                None => break None,
            }
        };
        let Some(end) = end else {
            let hint = "close it, or write the value without quotes";
            self.problems.error_hint(at, "this quote is never closed", hint);
            self.at = self.text.len();
            return None;
        };
        // The reader stands where the value ends, so that the rest of the line is looked at.
        self.line += body[..end].matches('\n').count();
        self.at += start + 1 + end + 1;
        let after = self.rest().split('\n').next().unwrap_or_default().trim();
        if !after.is_empty() && !after.starts_with('#') {
            let message = format!("`{}` stands after the closing quote", shorten(after));
            let at = if body[..end].contains('\n') {
                At { line: self.line, column: 1, ..at }
            } else {
                at
            };
            self.problems.error_hint(at, message, "remove it, or put it into the quotes");
            return None;
        }
        if quote == '\'' { Some(value) } else { self.expand(&value, at) }
    }

    fn expand(&self, text: &str, at: At) -> Option<String> {
        if !text.contains('$') {
            return Some(text.to_owned());
        }
        let [first, second, _] = self.outer.0;
        let scope = Scope([first, second, Some(&self.own)]);
        let (problems, budget) = (self.problems, self.budget);
        Template { scope, problems, at, lone_dollars: true, budget }.value(text)
    }
}

/// What a backslash and a character stand for. A `$` becomes two, so that it is not taken for a variable.
fn escape(quote: char, c: char, value: &mut String) {
    match (quote, c) {
        ('\'', '\'') => value.push('\''),
        ('"', 'n') => value.push('\n'),
        ('"', 'r') => value.push('\r'),
        ('"', 't') => value.push('\t'),
        ('"', 'a') => value.push('\u{7}'),
        ('"', 'b') => value.push('\u{8}'),
        ('"', 'f') => value.push('\u{c}'),
        ('"', 'v') => value.push('\u{b}'),
        ('"', '"' | '\\') => value.push(c),
        ('"', '$') => value.push_str("$$"),
        _ => value.extend(['\\', c]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::Source;

    fn lines(text: &str, form: Form) -> Vec<String> {
        let content = text.as_bytes().to_vec();
        let source = Source { name: ".env".to_owned(), folder: PathBuf::new(), content };
        let problems = Problems::new(&[source]);
        let outer = BTreeMap::from([("OUT".to_owned(), "o".to_owned())]);
        let mut found: Vec<String> =
            read(0, form, Scope::of(&outer), &Budget::default(), &problems)
                .into_iter()
                .map(|(key, value)| format!("{key}={value:?}"))
                .collect();
        let errors = problems.into_errors().0.into_iter();
        found.extend(
            errors.map(|error| format!("{}:{}: {}", error.line, error.column, error.message)),
        );
        found
    }

    #[test]
    fn every_form_of_a_line() {
        let table = [
            ("A=1\nB=2", "A=Some(\"1\") B=Some(\"2\")"),
            ("  export A = b c # d", "A=Some(\"b c\")"),
            ("A=b#c", "A=Some(\"b#c\")"),
            ("A: yaml", "A=Some(\"yaml\")"),
            ("A=\"x\\ny # z\" # c", "A=Some(\"x\\ny # z\")"),
            ("A='$x\\'s'", "A=Some(\"$x's\")"),
            ("A=\"two\nlines\"\nB=1", "A=Some(\"two\\nlines\") B=Some(\"1\")"),
            (
                "A=1\nB=${A}$OUT\nC=\"\\$A $$ ${NO:-d}\"",
                "A=Some(\"1\") B=Some(\"1o\") C=Some(\"$A $ d\")",
            ),
            ("A=5$\nB=$1", "A=Some(\"5$\") B=Some(\"$1\")"),
            ("A=\r\nOUT\r\nNONE", "A=Some(\"\") OUT=Some(\"o\") NONE=None"),
            ("# A=1\n\n", ""),
            ("A=1\n B C=2", "A=Some(\"1\") 2:2: `B C` is not a variable's name"),
            ("=1", "1:1: `` is not a variable's name"),
            ("A=1\nB=\"x\n\n", "A=Some(\"1\") 2:3: this quote is never closed"),
            ("A=\"x\" y", "1:3: `y` stands after the closing quote"),
            ("A=${OUT", "1:3: `${` is never closed"),
            ("A=${NO:?is needed}", "1:3: variable `NO` must be set: is needed"),
        ];
        for (text, expected) in table {
            assert_eq!(lines(text, Form::Compose).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn raw_values_are_taken_as_they_are() {
        let found = lines("A=\"$x\" # y\n# c\nB='1", Form::Raw).join(" ");
        assert_eq!(found, r#"A=Some("\"$x\" # y") B=Some("'1")"#);
    }
}
