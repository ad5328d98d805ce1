//! Variables in words, as `BuildKit`'s shell lexer replaces them: `$x`, `${x}`, and with `:-` `-` `:+` `+` `:?` `?` `#` `##`
//! `%` `%%` `/` `//`.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::substitute;

/// Deeper `${…${…}}` are refused.
const DEEPEST: usize = 64;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error("has a quote `{0}` that is not closed")]
    Quote(char),
    #[error("has a `${{` without its `}}`")]
    Open,
    #[error("has a `${{…/` without the second `/`")]
    OpenPattern,
    #[error("has `${{` without a name after it")]
    NoName,
    #[error("uses `{0}` in `${{…}}`, which means nothing there")]
    Modifier(String),
    #[error("needs the variable `{name}`: {message}")]
    Needed { name: String, message: String },
    #[error("has a pattern `{0}` with a `\\` before a character that needs none")]
    Pattern(String),
    #[error("has more than {DEEPEST} variables within one another")]
    Deep,
    #[error("is too long once its variables are replaced")]
    Long,
}

/// How much may come of variables in one stage, so that no file stands for more than fits anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(16 << 20)
    }
}

impl Budget {
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), ExpandError> {
        self.0 = self.0.checked_sub(bytes).ok_or(ExpandError::Long)?;
        Ok(())
    }
}

/// Where values come from.
pub(crate) trait Values {
    fn value(&self, name: &str) -> Option<&str>;
}

impl Values for std::collections::BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Replaces variables in one word after another.
pub(crate) struct Expander<'a> {
    pub(crate) escape: char,
    pub(crate) values: &'a dyn Values,
    pub(crate) budget: &'a mut Budget,
    /// Names that had no value.
    pub(crate) unset: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(escape: char, values: &'a dyn Values, budget: &'a mut Budget) -> Self {
        Self { escape, values, budget, unset: BTreeSet::new() }
    }

    /// One text: quotes and escapes go, spaces stay.
    pub(crate) fn word(&mut self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, self.escape, true)?.text)
    }

    /// Words: spaces that are not quoted divide, also those within the values of variables.
    pub(crate) fn words(&mut self, text: &str) -> Result<Vec<String>, ExpandError> {
        Ok(self.run(text, self.escape, true)?.into_words())
    }

    /// The content of a heredoc: quotes stay.
    pub(crate) fn heredoc(&mut self, text: &str) -> Result<String, ExpandError> {
        Ok(self.run(text, '\\', false)?.text)
    }

    fn run(&mut self, text: &str, escape: char, quotes: bool) -> Result<Output, ExpandError> {
        let mut reader =
            Reader { rest: text.chars().peekable(), escape, quotes, depth: 0, own: self };
        reader.until(None, false)
    }
}

/// What was written so far, both as one text and as words.
#[derive(Debug, Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// Adds what came of a variable, or what stands there itself: spaces in it divide.
    fn divided(&mut self, text: &str) {
        self.text.push_str(text);
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    /// Adds what was quoted or escaped.
    fn whole(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Reader<'t, 'e, 'a> {
    rest: Peekable<Chars<'t>>,
    escape: char,
    quotes: bool,
    depth: usize,
    own: &'e mut Expander<'a>,
}

impl Reader<'_, '_, '_> {
    /// Up to a character, which is taken, or the end. With `raw` escapes stay, for patterns.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, ExpandError> {
        let mut output = Output::default();
        while let Some(c) = self.rest.next() {
            if Some(c) == stop {
                return Ok(output);
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    output.divided(&value);
                }
                '\'' if self.quotes => output.whole(&self.single()?),
                '"' if self.quotes => output.whole(&self.double(raw)?),
                c if c == self.escape => {
                    let Some(next) = self.rest.next() else {
                        if raw {
                            output.whole(c.encode_utf8(&mut [0; 4]));
                        }
                        break;
                    };
                    if raw {
                        output.whole(c.encode_utf8(&mut [0; 4]));
                    }
                    output.whole(next.encode_utf8(&mut [0; 4]));
                }
                c => output.divided(c.encode_utf8(&mut [0; 4])),
            }
        }
        match stop {
            None => Ok(output),
            Some('/') => Err(ExpandError::OpenPattern),
            Some(_) => Err(ExpandError::Open),
        }
    }

    fn single(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        for c in self.rest.by_ref() {
            if c == '\'' {
                return Ok(text);
            }
            text.push(c);
        }
        Err(ExpandError::Quote('\''))
    }

    fn double(&mut self, raw: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                c if c == self.escape => {
                    if raw {
                        text.push(c);
                    }
                    match self.rest.peek() {
                        None => {}
                        Some('"' | '$') => text.extend(self.rest.next()),
                        Some(next) if *next == self.escape => text.extend(self.rest.next()),
                        Some(_) => text.push(c),
                    }
                }
                c => text.push(c),
            }
        }
        Err(ExpandError::Quote('"'))
    }

    /// What stands for a `$`, which was taken, and what follows it.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.value(&name)?.unwrap_or_default());
        }
        self.rest.next();
        if self.depth == DEEPEST {
            return Err(ExpandError::Deep);
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What follows `${`, with its `}`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        match self.rest.peek() {
            None => return Err(ExpandError::Open),
            Some('{' | '}' | ':') => return Err(ExpandError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(ExpandError::Open),
            Some('}') => Ok(self.value(&name)?.unwrap_or_default()),
            Some('/') => self.replaced(&name),
            Some(':') => {
                let modifier = self.rest.next().ok_or(ExpandError::Open)?;
                if !matches!(modifier, '-' | '+' | '?') {
                    return Err(ExpandError::Modifier(format!(":{modifier}")));
                }
                self.alternative(&name, modifier, true)
            }
            Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, modifier, false),
            Some(end @ ('#' | '%')) => self.trimmed(&name, end),
            Some(other) => Err(ExpandError::Modifier(other.to_string())),
        }
    }

    /// `-`, `+` and `?`; with a colon before it an empty value is as good as none.
    fn alternative(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        let value = self.lookup(name)?.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message = match (word.is_empty(), empty_is_unset) {
                    (false, _) => word,
                    (true, true) => "it is not set, or empty".to_owned(),
                    (true, false) => "it is not set".to_owned(),
                };
                Err(ExpandError::Needed { name: name.to_owned(), message })
            }
        }
    }

    /// `#` and `%`: a pattern goes from the start or the end; doubled, as much as it can match.
    fn trimmed(&mut self, name: &str, end: char) -> Result<String, ExpandError> {
        let pattern = self.until(Some('}'), true)?.text;
        let (longest, pattern) = match pattern.strip_prefix(end) {
            Some(rest) => (true, rest),
            None => (false, pattern.as_str()),
        };
        let value = self.value(name)?.unwrap_or_default();
        self.own.budget.spend(value.len() / 16 * pattern.len())?;
        let trimmed = substitute::trimmed(&value, pattern, end == '%', longest);
        trimmed.map_err(|_| ExpandError::Pattern(pattern.to_owned()))
    }

    /// `/` and `//`: what a pattern matches is replaced, once or everywhere.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let everywhere = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), true)?.text;
        let new = self.until(Some('}'), true)?.text;
        let value = self.value(name)?.unwrap_or_default();
        self.own.budget.spend((value.len() + 1) * (new.len() + pattern.len() / 16))?;
        let replaced = substitute::replaced(&value, &pattern, &new, everywhere);
        replaced.map_err(|_| ExpandError::Pattern(pattern.clone()))
    }

    /// A name: letters, digits and `_`; digits alone; or one of the shell's own.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.rest.next());
                return name;
            }
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.rest.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    /// A value that should be there.
    fn value(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        let value = self.lookup(name)?;
        if value.is_none() {
            self.own.unset.insert(name.to_owned());
        }
        Ok(value)
    }

    fn lookup(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        let Some(value) = self.own.values.value(name) else { return Ok(None) };
        // Also what is given up again costs its time.
        self.own.budget.spend(value.len())?;
        Ok(Some(value.to_owned()))
    }
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
