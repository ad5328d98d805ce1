//! Patterns of paths: Go's `filepath.Match`, and with `**` those of `.dockerignore`.

/// A pattern that has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{pattern}` {why}")]
pub struct InvalidPattern {
    /// As it was written.
    pub pattern: String,
    /// What is wrong.
    pub why: &'static str,
}

/// A pattern for one path: `*` is any text without `/`, `?` any character but `/`, `[a-z]` and `[^a-z]` one of several, and `\`
/// takes the meaning from the next character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The one path that is meant, where nothing in the pattern has a meaning.
    exact: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// Any character but `/`.
    One,
    /// Any text without `/`.
    Part,
    /// Any text.
    All,
    /// The next two tokens may be left out.
    Maybe,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a pattern as `COPY` has them: `**` is no more than `*`.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        Self::read(pattern, false)
    }

    /// Reads a pattern with `**` for any folders, or none.
    pub(crate) fn deep(pattern: &str) -> Result<Self, InvalidPattern> {
        Self::read(pattern, true)
    }

    /// Whether a text has characters that mean something in a pattern.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    fn read(pattern: &str, deep: bool) -> Result<Self, InvalidPattern> {
        let wrong = |why| InvalidPattern { pattern: crate::problem::cut(pattern), why };
        let mut tokens = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '*' if deep && characters.next_if_eq(&'*').is_some() => {
                    let folders = characters.next_if_eq(&'/').is_some();
                    // Docker takes `**.md` for any path that ends so, but `a/**.md` for folders and then `.md`.
                    let ends_so = tokens.is_empty()
                        && !folders
                        && !characters.clone().any(|c| "*?[]\\".contains(c));
                    if characters.peek().is_none() || ends_so {
                        tokens.push(Token::All);
                    } else {
                        tokens.extend([Token::Maybe, Token::All, Token::Literal('/')]);
                    }
                }
                '*' => tokens.push(Token::Part),
                '?' => tokens.push(Token::One),
                '\\' => {
                    let next = characters.next().ok_or_else(|| wrong("ends with a `\\`"))?;
                    tokens.push(Token::Literal(next));
                }
                '[' => tokens.push(class(&mut characters).map_err(wrong)?),
                literal => tokens.push(Token::Literal(literal)),
            }
        }
        let exact = (!Self::is_pattern(pattern)).then(|| pattern.to_owned());
        Ok(Self { tokens, exact })
    }

    /// Whether a whole path is meant. It takes time in proportion to the product of both lengths at most.
    pub fn matches(&self, path: &str) -> bool {
        if let Some(exact) = &self.exact {
            return exact == path;
        }
        let end = self.tokens.len();
        let mut states = vec![false; end + 1];
        states[0] = true;
        self.skip(&mut states);
        let mut next = vec![false; end + 1];
        for c in path.chars() {
            next.fill(false);
            for (state, token) in self.tokens.iter().enumerate().filter(|(state, _)| states[*state])
            {
                match token {
                    Token::Part if c != '/' => next[state] = true,
                    Token::All => next[state] = true,
                    token if token.takes(c) => next[state + 1] = true,
                    _ => {}
                }
            }
            self.skip(&mut next);
            std::mem::swap(&mut states, &mut next);
        }
        states[end]
    }

    /// Marks what needs no further character. That only ever leads forwards.
    fn skip(&self, states: &mut [bool]) {
        for (state, token) in self.tokens.iter().enumerate() {
            if !states[state] {
                continue;
            }
            match token {
                Token::Part | Token::All => states[state + 1] = true,
                Token::Maybe => {
                    states[state + 1] = true;
                    states[state + 3] = true;
                }
                _ => {}
            }
        }
    }
}

impl Token {
    /// Whether this is one character, and may be that one.
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Literal(wanted) => *wanted == c,
            Self::One => c != '/',
            Self::Class { negated, ranges } => {
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                c != '/' && within != *negated
            }
            Self::Part | Self::All | Self::Maybe => false,
        }
    }
}

/// What follows a `[`.
fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "has a `[` without its `]`";
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match characters.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' => return Err("has an empty `[]`"),
            '-' => return Err("has a `-` in `[…]` without a start"),
            '\\' => characters.next().ok_or(OPEN)?,
            c => c,
        };
        let mut high = low;
        if characters.next_if_eq(&'-').is_some() {
            high = match characters.next().ok_or(OPEN)? {
                ']' | '-' => return Err("has a `-` in `[…]` without an end"),
                '\\' => characters.next().ok_or(OPEN)?,
                c => c,
            };
        }
        if high < low {
            return Err("has a range in `[…]` that ends before it starts");
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::deep(pattern).unwrap().matches(path)
    }

    #[test]
    fn stars_stop_at_folders_and_doubled_ones_do_not() {
        for (pattern, path, expected) in [
            ("*.go", "a.go", true),
            ("*.go", "a/b.go", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("**", "a/b", true),
            ("**/b", "b", true),
            ("**/b", "x/y/b", true),
            ("**/b", "xb", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "axb", false),
            ("a/**", "a/x/y", true),
            ("a/**", "a", false),
            ("**.md", "x/y.md", true),
            ("a/**.md", "a/y.md", false),
            ("a/**.md", "a/b/.md", true),
            ("**/*.md", "y.md", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for pattern in ["[", "[]", "[a", "[a-]", "[-a]", "[z-a]", "a\\"] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }
}
